"""Run a command on another kernel: ``python -m tests.vm KERNEL [OPTIONS] -- COMMAND…``.

Boots one of Debian's kernels (6.1, 6.12 or newest) in QEMU and runs the command there as root, in
this checkout, with network namespaces, cgroup v2, and a bpf file system. What it prints
comes out here at once, its exit code is ours. The root is this machine's; writes stay in memory and
are gone afterwards, but for those below a ``--share``. Several machines can run at the same time.

``--counted`` makes the machine's time that of its instructions, a nanosecond each: slower to wait
for, but what it measures does not depend on how busy this machine is.

``--bcc newest`` takes a root with the newest Debian's bcc and Python instead; with it KERNEL may be
``host``, this machine's own, and nothing is booted.

    python -m tests.vm 6.1 -- uname -a
    python -m tests.vm 6.12 -- pytest tests/kernel/test_programs.py
    python -m tests.vm host --bcc newest -- pytest tests/kernel
    python -m tests.vm 6.1 --counted -- pytest tests/vm/guest/test_windows.py
    python -m tests.vm 6.1 --share /var/tmp/out -- sh -c 'dmesg >/var/tmp/out/dmesg'
"""

import argparse
import sys
from pathlib import Path

from bench.rig import terminating
from tests.vm import roots
from tests.vm.kernels import AMD64, ARM64, NAMES, TOO_OLD, VmError, kernel
from tests.vm.machine import COUNTED, EMULATED, KVM, Machine, call

HOST = "host"


def main() -> int:
    """Parse, fetch, boot, run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernel", choices=(TOO_OLD, *NAMES, HOST))
    parser.add_argument("--arch", choices=(AMD64, ARM64), default=AMD64)
    parser.add_argument("--bcc", choices=("installed", "newest"), default="installed")
    parser.add_argument("--share", type=Path, action="append", default=[], help="a folder to write")
    parser.add_argument("--memory-mib", type=int, default=2048)
    parser.add_argument("--timeout-seconds", type=float, default=1200)
    processor = parser.add_mutually_exclusive_group()
    processor.add_argument(
        "--kvm",
        dest="processor",
        action="store_const",
        const=KVM,
        help="a real one, where it works",
    )
    processor.add_argument(
        "--counted",
        dest="processor",
        action="store_const",
        const=COUNTED,
        help="time by instructions",
    )
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    if given.kernel == HOST and given.bcc == "installed":
        parser.error("on this machine's kernel with this machine's bcc: run the command itself")
    try:
        with terminating():
            root = roots.newest() if given.bcc == "newest" else Path("/")
            if given.arch == ARM64:
                root = roots.arm64()
            if given.kernel == HOST:
                return roots.call(root, given.command)
            machine = Machine(
                kernel(given.kernel, given.arch),
                root,
                tuple(given.share),
                given.memory_mib,
                given.timeout_seconds,
                given.processor or EMULATED,
            )
            return call(machine, given.command)
    except KeyboardInterrupt:
        return 130
    except VmError as e:
        print(f"vm: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
