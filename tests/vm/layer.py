"""The kernel tests on other kernels: ``python -m tests.vm.layer KERNEL [--full] [--bcc newest]``.

With ``--arch arm64`` on other processors, which are emulated like all.

KERNEL is as for ``python -m tests.vm``, or ``all`` that are new enough; 5.10 is not, and what
Podpace says of it is all that is tested there. Without ``--full`` what takes long on an
emulated processor is left out. The exit code is 0 when no kernel had a failure.

Each kernel has two machines, one of them with a clock that counts instructions, for the tests that
are marked ``counted``. Without ``--full`` they run side by side; what the second prints comes when
both are done.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Final

from tests.vm.kernels import AMD64, ARM64, NAMES, TOO_OLD

HOST: Final = "host"
_TESTS: Final = ("tests/kernel", "tests/vm/guest")
_TESTS_TOO_OLD: Final = "tests/vm/floor"
_QUICK_TIMEOUT_SECONDS: Final = 1800
_FULL_TIMEOUT_SECONDS: Final = 7200


def command(kernel: str, bcc: str, arch: str, *, full: bool, counted: bool) -> list[str]:
    """The tests of one kernel that one of its machines runs."""
    marks = [] if kernel == HOST else ["not native", "counted" if counted else "not counted"]
    if not full:
        marks += ["not long", "not slow_emulated"]
    timeout = _FULL_TIMEOUT_SECONDS if full else _QUICK_TIMEOUT_SECONDS
    machine = [sys.executable, "-m", "tests.vm", kernel, "--bcc", bcc, "--arch", arch]
    machine += ["--timeout-seconds", str(timeout)]
    if counted:
        machine.append("--counted")
    # On this machine's own kernel the folder for machines collects nothing.
    wanted = " and ".join(marks) or "long or not long"
    return [*machine, "--", "pytest", "-v", "--durations=10", "-m", wanted, *_TESTS]


def run(kernel: str, bcc: str, arch: str, *, full: bool) -> int:
    """One kernel; the first exit code that is not 0, else 0."""
    first = command(kernel, bcc, arch, full=full, counted=False)
    if kernel == TOO_OLD:
        first = [*first[: first.index("--")], "--", "pytest", "-v", _TESTS_TOO_OLD]
    if kernel in {HOST, TOO_OLD}:
        return subprocess.run(first, check=False).returncode
    second = command(kernel, bcc, arch, full=full, counted=True)
    if full:  # which measures in the first machine, too
        codes = [subprocess.run(each, check=False).returncode for each in (first, second)]
        return codes[0] or codes[1]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(second, stdout=said) as beside,
    ):
        code = subprocess.run(first, check=False).returncode
        print(f"kernel {kernel}: waiting for the machine whose time is counted", flush=True)
        beside.wait()
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout)
        sys.stdout.flush()
    return code or beside.returncode


def main() -> int:
    """Every kernel in turn; a line for each at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.layer", description=__doc__)
    parser.add_argument("kernel", choices=(TOO_OLD, *NAMES, HOST, "all"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--bcc", choices=("installed", "newest"), default="installed")
    parser.add_argument("--arch", choices=(AMD64, ARM64), default=AMD64)
    given = parser.parse_args()
    outcomes = {}
    for kernel in NAMES if given.kernel == "all" else (given.kernel,):
        start = time.monotonic()
        code = run(kernel, given.bcc, given.arch, full=given.full)
        said = "passed" if code == 0 else f"failed with exit code {code}"
        outcomes[kernel] = code
        took = f"{time.monotonic() - start:.0f} s"
        print(f"kernel {kernel}, {given.arch}, bcc {given.bcc}: {said} in {took}")
    return int(any(outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
