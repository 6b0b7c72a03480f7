"""What ``make test`` runs: the layers that need nothing but this machine.

    python -m tests [--once-more] [PYTEST_ARGUMENT...]

The kernel layer waits for traffic most of its time. Beside it, in the processor time that is left,
the control plane is built, and what computes is tested. With ``--once-more``, tests that failed are
run a second time at the end, with nothing beside them, and must pass then.
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

from tests.cluster.build import BuildError, bin_dir

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

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Each part remembers by itself what failed."""
        folders = [f"tests/{folder}" for folder in self.folders]
        cache = f"cache_dir=.pytest_cache/{self.name}"
        return [sys.executable, "-m", "pytest", "-o", cache, *folders, *arguments]


COMPUTING: Final = Part("computing", ("unit", "chart"))
KERNEL: Final = Part("kernel", ("kernel",))
CLUSTER: Final = Part("cluster", ("docs", "cluster"))


def run(part: Part, arguments: Sequence[str]) -> int:
    """pytest's exit code."""
    code = subprocess.run(part.command(arguments), cwd=_ROOT, check=False).returncode
    # A choice of tests need not be of every part.
    return _PASSED if code == _NONE_COLLECTED and arguments else code


def build_and_compute(arguments: Sequence[str]) -> int:
    """What runs beside the kernel layer."""
    try:
        bin_dir()
    except BuildError as error:
        print(error, file=sys.stderr)
        return _NOT_RUN
    return run(COMPUTING, arguments)


def run_all(arguments: Sequence[str]) -> dict[Part, int]:
    """Exit codes."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"== {time.monotonic() - started:.0f} s: {text}", file=sys.stderr, flush=True)

    say("kernel layer; beside it the control plane is built, then unit and chart are tested")
    with tempfile.TemporaryFile() as output:
        beside = subprocess.Popen(
            [sys.executable, "-m", "tests", "--beside", *arguments],
            cwd=_ROOT,
            stdout=output,
            preexec_fn=_be_idle,  # noqa: PLW1509 - this process has one thread
        )
        codes = {KERNEL: run(KERNEL, arguments)}
        say("waiting for unit and chart")
        codes[COMPUTING] = beside.wait()
        output.seek(0)
        sys.stdout.write(output.read().decode(errors="replace"))
        sys.stdout.flush()
    say("docs and cluster")
    codes[CLUSTER] = run(CLUSTER, arguments)
    say("done")
    return codes


def _be_idle() -> None:
    # A sandbox may forbid it; then it is beside the kernel layer all the same.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(arguments: list[str]) -> int:
    """An exit code: 0 when all passed."""
    if arguments[:1] == ["--beside"]:
        return build_and_compute(arguments[1:])
    once_more = arguments[:1] == ["--once-more"]
    codes = run_all(arguments[once_more:])
    if once_more:
        for part in [part for part, code in codes.items() if code == _TESTS_FAILED]:
            print(f"== once more what failed of {part.name}", file=sys.stderr, flush=True)
            codes[part] = run(part, ["--last-failed", *arguments[1:]])
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
