"""The demo and the benchmark as a user runs them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.rig import leftovers
from tests.processes import HANGS_SECONDS

pytestmark = pytest.mark.slow_emulated
ROOT = Path(__file__).parents[2]
RIG_NAME = re.compile(r"podpace-[0-9a-f]{8}")


def test_the_demo_shows_a_table_and_a_plot_and_leaves_nothing(tmp_path: Path) -> None:
    """Both directions, three limiters, a PNG, exit code 0, and the machine as it was."""
    png = tmp_path / "demo.png"

    done = subprocess.run(
        [sys.executable, "-m", "bench.demo", "--seconds", "2", "--plot", png],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * HANGS_SECONDS,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for shown in ("egress", "ingress", "podpace", "TBF", "dropping bucket", "100M", "20M"):
        assert shown in done.stdout
    assert png.read_bytes().startswith(b"\x89PNG")
    assert leftovers(RIG_NAME.findall(done.stdout)[0]) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_everything_away(number: signal.Signals) -> None:
    """Told to end in the middle of a transfer, it exits with 130 and nothing is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "podpace attach" in line:
                break
        (name,) = set(RIG_NAME.findall(line))
        assert leftovers(name)
        process.send_signal(number)
        said = process.stdout.read()

    assert process.returncode == 130
    assert "everything has been taken away" in said
    assert leftovers(name) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells", "egress,10Mbps"], "such as"),
        (["--limiters", "htb"], "choose from"),
        (["--seconds", "1"], "at least 3 seconds"),
    ],
)
def test_a_bad_option_of_the_benchmark_is_one_line(arguments: list[str], words: str) -> None:
    """What is wrong and what to write instead, exit code 1, nothing set up."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
