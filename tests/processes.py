"""The daemon's real process with a fake kernel, and the client's real process beside it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import make_proc

ROOT = Path(__file__).parents[1]
HANGS_SECONDS = 180.0
"""Whoever takes longer hangs; on an emulated processor some take a minute."""
PODPACE = str(Path(sys.executable).with_name("podpace"))
AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""Before a command: as a user who may read everything, since the checkout may be below /root, and
may write nothing, not even to a socket."""


@dataclass
class Daemon:
    """One running daemon; its log is read line by line."""

    process: subprocess.Popen[str]
    socket: Path
    tree: Path

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log up to the first ``event``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == event:
                return fields
        raise AssertionError(f"the daemon ended without {event!r}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=HANGS_SECONDS)

    def client(self, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run ``podpace`` against it."""
        return client(*arguments, socket=self.socket, cwd=cwd)


def options(work: Path) -> list[str]:
    """A daemon's options that keep everything in ``work``."""
    paths = {"--socket": "run/e.sock", "--state-dir": "state", "--pin-root": "pins"}
    return [word for name, place in paths.items() for word in (name, str(work / place))]


def fake_machine(work: Path) -> Path:
    """A cgroup tree (``work/cgroup``) and the procfs that says so; returns the tree."""
    tree = work / "cgroup"
    tree.mkdir()
    (work / "v1").mkdir()
    make_proc(work / "proc", tree, work / "v1")
    return tree


def enforcer_command(work: Path, *more: str) -> list[str]:
    """The daemon with a fake kernel."""
    command = [sys.executable, "-m", "tests.fake_enforcer", str(work / "proc")]
    return [*command, *options(work), *more]


@contextlib.contextmanager
def enforcer(work: Path, *more: str) -> Iterator[Daemon]:
    """A daemon that serves; killed at the end if it still runs."""
    process = subprocess.Popen(
        enforcer_command(work, *more), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    daemon = Daemon(process, work / "run/e.sock", work / "cgroup")
    try:
        daemon.wait_for("started")
        yield daemon
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def client(*arguments: object, socket: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``podpace`` with ``PODPACE_SOCKET``."""
    return subprocess.run(
        [PODPACE, *map(str, arguments)],
        env={**os.environ, "PODPACE_SOCKET": str(socket)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
