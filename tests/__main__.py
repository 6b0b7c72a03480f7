"""What ``make test`` and ``make test-cluster`` run.

    python -m tests local|cluster [PYTEST_ARGUMENT...]

``local`` is the kernel layer, and beside it what only computes. The kernel layer waits for traffic
most of its time, so several of its tests run at once, and the rest takes the processor time that is
left; those marked ``alone`` come after that. Tests that failed are run a second time at the end,
one by one with nothing of ours beside them, and must pass then: many judge what packets did on a
machine that may be busy.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.cluster.build import BuildError, bin_dir, helm_dir

_ROOT: Final = Path(__file__).parent.parent
_PASSED: Final = 0
_TESTS_FAILED: Final = 1
_NOT_RUN: Final = 3
_NONE_COLLECTED: Final = 5
"""pytest's exit codes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tests that one pytest runs."""

    name: str
    folders: tuple[str, ...]
    how: tuple[str, ...]
    """pytest's options the first time."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Each part remembers by itself what failed."""
        folders = [f"tests/{folder}" for folder in self.folders]
        cache = f"cache_dir=.pytest_cache/{self.name}"
        return [sys.executable, "-m", "pytest", "-q", "-o", cache, *folders, *arguments]


# Three at once keep two processors two thirds busy.
KERNEL: Final = Part(
    "kernel", ("kernel",), ("-n3", "--dist=worksteal", "-m", "not alone and not long")
)
ALONE: Final = Part("alone", ("kernel",), ("-m", "alone"))
COMPUTING: Final = Part("computing", ("unit", "chart", "docs"), ("-n2", "--dist=worksteal"))
# Each worker has a control plane of its own: tests/cluster/conftest.py says who shares one.
CLUSTER: Final = Part("cluster", ("cluster",), ("-n2", "--dist=loadgroup"))


def run(part: Part, arguments: Sequence[str]) -> int:
    """pytest's exit code."""
    code = subprocess.run(part.command(arguments), cwd=_ROOT, check=False).returncode
    # A choice of tests need not be of every part.
    return _PASSED if code == _NONE_COLLECTED and arguments else code


def run_local(arguments: Sequence[str]) -> dict[Part, int]:
    """Exit codes."""
    say("kernel; beside it unit, chart and docs")
    with tempfile.TemporaryFile() as output:
        beside = subprocess.Popen(
            [sys.executable, "-m", "tests", "beside", *arguments],
            cwd=_ROOT,
            stdout=output,
            preexec_fn=_be_idle,  # noqa: PLW1509 - this process has one thread
        )
        codes = {KERNEL: run(KERNEL, [*KERNEL.how, *arguments])}
        say("waiting for unit, chart and docs")
        _hurry(beside.pid)
        codes[COMPUTING] = beside.wait()
        output.seek(0)
        sys.stdout.write(output.read().decode(errors="replace"))
        sys.stdout.flush()
    say("of kernel what needs the whole machine")
    codes[ALONE] = run(ALONE, [*ALONE.how, *arguments])
    return codes


def run_beside(arguments: Sequence[str]) -> int:
    """What runs beside the kernel layer."""
    helm_dir()
    return run(COMPUTING, [*COMPUTING.how, *arguments])


def run_cluster(arguments: Sequence[str]) -> dict[Part, int]:
    """The exit code of the one part."""
    bin_dir()
    say("cluster")
    return {CLUSTER: run(CLUSTER, [*CLUSTER.how, *arguments])}


def once_more(codes: dict[Part, int], arguments: Sequence[str]) -> None:
    """Runs what failed, and puts in its new exit codes."""
    for part in [part for part, code in codes.items() if code == _TESTS_FAILED]:
        say(f"once more what failed of {part.name}")
        codes[part] = run(part, ["--last-failed", *arguments])


def say(text: str) -> None:
    """A line on what comes next."""
    elapsed = time.monotonic() - _STARTED
    print(f"== {elapsed:.0f} s: {text}", file=sys.stderr, flush=True)


_STARTED: Final = time.monotonic()


def _be_idle() -> None:
    # A sandbox may forbid it; then it is beside the kernel layer all the same.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _hurry(pid: int) -> None:
    # On a machine that is busy with something else they would get nothing.
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            os.sched_setscheduler(each.pid, os.SCHED_OTHER, os.sched_param(0))


def main(arguments: list[str]) -> int:
    """An exit code: 0 when all passed."""
    layer, rest = arguments[0], arguments[1:]
    try:
        if layer == "beside":
            return run_beside(rest)
        codes = {"local": run_local, "cluster": run_cluster}[layer](rest)
    except BuildError as error:
        print(error, file=sys.stderr)
        return _NOT_RUN
    once_more(codes, rest)
    say("done")
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
