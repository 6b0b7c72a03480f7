"""The kernel tests on other kernels: ``python -m tests.vm.layer KERNEL [--full] [--bcc newest]``.

KERNEL is as for ``python -m tests.vm``, or ``all``. Without ``--full`` what takes long on an
emulated processor is left out. The exit code is 0 when no kernel had a failure.
"""

import argparse
import subprocess
import sys
import time
from typing import Final

from tests.vm.kernels import NAMES

HOST: Final = "host"
_TESTS: Final = ("tests/kernel", "tests/vm/guest")
_QUICK_TIMEOUT_SECONDS: Final = 1800
_FULL_TIMEOUT_SECONDS: Final = 7200


def command(kernel: str, bcc: str, *, full: bool) -> list[str]:
    """The tests of one kernel."""
    marks = [] if kernel == HOST else ["not native"]
    if not full:
        marks += ["not long", "not slow_emulated"]
    timeout = _FULL_TIMEOUT_SECONDS if full else _QUICK_TIMEOUT_SECONDS
    machine = [sys.executable, "-m", "tests.vm", kernel, "--bcc", bcc]
    machine += ["--timeout-seconds", str(timeout), "--"]
    # On this machine's own kernel the folder for machines collects nothing.
    wanted = " and ".join(marks) or "long or not long"
    return [*machine, "pytest", "-v", "--durations=10", "-m", wanted, *_TESTS]


def main() -> int:
    """Every kernel in turn; a line for each at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.layer", description=__doc__)
    parser.add_argument("kernel", choices=(*NAMES, HOST, "all"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--bcc", choices=("installed", "newest"), default="installed")
    given = parser.parse_args()
    outcomes = {}
    for kernel in NAMES if given.kernel == "all" else (given.kernel,):
        start = time.monotonic()
        code = subprocess.run(command(kernel, given.bcc, full=given.full), check=False).returncode
        said = "passed" if code == 0 else f"failed with exit code {code}"
        outcomes[kernel] = code
        print(f"kernel {kernel}, bcc {given.bcc}: {said} in {time.monotonic() - start:.0f} s")
    return int(any(outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
