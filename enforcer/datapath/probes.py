"""What this machine can do, asked before anything is attached; a missing thing says what to do."""

import os
from pathlib import Path
from typing import Final

from enforcer.datapath import libbpf
from enforcer.errors import UnsupportedError

FLOOR: Final = "Linux 5.15 or newer is needed"
_TRACEPOINT: Final = 5
_GET_ATTACH_COOKIE: Final = 174
"""A helper that came with 5.15, as iterators that may set sockets' options did. Asked for in place
of the version, which says nothing of a distribution's kernel that has newer BPF."""


def require_kernel() -> None:
    """Raise UnsupportedError on a kernel that is too old: before minutes go into compiling."""
    if libbpf.lacks_helper(_TRACEPOINT, _GET_ATTACH_COOKIE):
        raise UnsupportedError(f"this kernel ({os.uname().release}) is too old: {FLOOR}")


def require(pin_root: Path, cgroup_root: Path) -> None:
    """Raise UnsupportedError for the first thing that is missing."""
    if os.geteuid() != 0:
        raise UnsupportedError("the enforcer must run as root; start it with sudo or as a service")
    if not libbpf.available():
        raise UnsupportedError("libbpf is missing; run: apt-get install python3-bpfcc")
    if filesystem_of(pin_root) != "bpf":
        raise UnsupportedError(
            f"{pin_root} is not on a BPF file system; run: mount -t bpf bpf /sys/fs/bpf"
        )
    if filesystem_of(cgroup_root) != "cgroup2":
        raise UnsupportedError(
            f"{cgroup_root} is not a cgroup v2 tree; mount one (mount -t cgroup2 none DIR) "
            "or name it with --cgroup-root"
        )


def filesystem_of(path: Path) -> str:
    """The type of the file system that ``path``, which need not exist, is or would be on."""
    absolute = os.path.realpath(path)
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        mount_point = fields[4].encode().decode("unicode_escape")
        inside = absolute == mount_point or absolute.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):
            best, kind = mount_point, fields[fields.index("-") + 1]
    return kind


def features() -> dict[str, str]:
    """Kernel features that the daemon found, for people."""
    return {"tcp-iterator": "supported"}
