"""Logs: one JSON object a line, whoever writes it."""

import json
import subprocess
import sys

SCRIPT = """
import logging, structlog
from webhook.log import configure
configure()
structlog.stdlib.get_logger().info("ours", pod="a\\ud800", problems=["x"])
logging.getLogger("theirs").warning("not %s", "ours")
try:
    raise ValueError("boom")
except ValueError:
    logging.getLogger("uvicorn.error").exception("failed")
structlog.stdlib.get_logger().debug("too much")
"""


def test_every_line_is_json() -> None:
    """Ours with a lone surrogate, a library's warning, an exception; debug lines are left out."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )

    ours, *lines = done.stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert "ours" in ours
    assert [e["event"] for e in events] == ["not ours", "failed"]
    assert "ValueError: boom" in events[1]["exception"]
    assert done.stderr == ""
