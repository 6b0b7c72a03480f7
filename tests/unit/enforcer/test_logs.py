"""enforcer.logs: one JSON line per decision, and what happens when it cannot be written."""

import json
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT

CODE = """
import sys
from enforcer.logs import make_log
log = make_log("info")
for n in range(3):
    log.info("attached", number=n)
print("went on", file=sys.stderr)
"""


def _run(**options):
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, text=True, check=False, timeout=60, **options
    )


def test_a_decision_is_one_line_of_json():
    """With its facts as fields."""
    lines = _run(stdout=subprocess.PIPE).stdout.splitlines()

    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2]


def test_a_log_that_cannot_be_written_undoes_nothing():
    """On a full disk a line is lost, and nothing is raised into what it told of."""
    with Path("/dev/full").open("w") as full:
        done = _run(stdout=full, stderr=subprocess.PIPE)

    assert "went on" in done.stderr
