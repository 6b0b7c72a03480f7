"""Maps that no memory limit of ours pays for.

The kernel charges what grows in a map, here a record for each socket of a tenant, to the cgroup of
whoever made it. In the daemon's own cgroup tenants could use up its memory limit; in the root
cgroup nobody's. What a tenant can make there is bounded all the same: every record needs a socket,
which is several times as large and charged to the tenant.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

_CLONE_NEWCGROUP: Final = 0x02000000
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def leave_memory_limit() -> None:
    """Move this process, which must be a child for this purpose, to the machine's root cgroup.

    It dies with its parent: nothing else would end it there. Where that cannot be, it says so on
    standard error and stays.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        _enter_host_cgroups()
    for root in _roots():
        try:
            (root / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            print(f"sockets' records count as the enforcer's memory: {error}", file=sys.stderr)
        else:
            return


def _enter_host_cgroups() -> None:
    """A container's view of cgroups begins at its own; who moves out must see both ends."""
    fd = os.open("/proc/1/ns/cgroup", os.O_RDONLY)
    try:
        if _libc.setns(fd, _CLONE_NEWCGROUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")
    finally:
        os.close(fd)


def _roots() -> list[Path]:
    """Where the whole cgroup v2 tree is mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        _id, _parent, _device, root, place, *_ = left.split(" ")
        if right.startswith("cgroup2 ") and root == "/":
            found.append(Path(place))
    return found
