"""Where a cgroup's processes are, and work inside their network namespaces."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000
_HOME: Final = "/proc/self/ns/net"
"""The process's own: its first thread never leaves it."""
MOST_NAMESPACES: Final = 256
"""That are visited one after another, whatever a tenant makes: half a second."""
_MOST_CGROUPS: Final = 512
"""Of a target, at one look."""
_libc = ctypes.CDLL(None, use_errno=True)
_inside = ThreadPoolExecutor(1, "netns")

Result = TypeVar("Result")


def cgroups_below(cgroup_path: str) -> Iterator[str]:
    """The cgroup, and every one in it."""
    folders = [cgroup_path]
    while folders:
        folder = folders.pop()
        yield folder
        with contextlib.suppress(OSError):
            if os.stat(folder).st_nlink > 2:  # noqa: PTH116 - what every folder has
                with os.scandir(folder) as entries:
                    folders += [entry.path for entry in entries if entry.is_dir()]


def members(cgroup_path: str) -> list[int]:
    """The processes in this very cgroup."""
    try:
        with open(f"{cgroup_path}/cgroup.procs", "rb") as file:  # noqa: PTH123 - half the time
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def processes(cgroup_path: str) -> Iterator[int]:
    """Every process in the cgroup and below."""
    for folder in cgroups_below(cgroup_path):
        yield from members(folder)


def path_of(pid: int) -> str:
    """What opens a process's network namespace."""
    return f"/proc/{pid}/ns/net"


def namespace_of(pid: int) -> int:
    """The inode of its network namespace; 0 for a process that has ended."""
    try:
        return int(os.readlink(path_of(pid))[5:-1])  # noqa: PTH115 - net:[4026531833]; half a stat
    except OSError:
        return 0


def first_processes(cgroup_path: str) -> tuple[list[int], bool]:
    """Those in the cgroup and in some hundreds below it, and whether there are no more."""
    folders = list(islice(cgroups_below(cgroup_path), _MOST_CGROUPS))
    return [pid for folder in folders for pid in members(folder)], len(folders) < _MOST_CGROUPS


def network_namespaces(cgroup_path: str, start: int = 0) -> tuple[dict[int, str], int]:
    """Inode of each network namespace used by some of its processes, and a path that opens it.

    Those processes begin with the one numbered ``start``; where the next look is to begin.
    """
    pids, _ = first_processes(cgroup_path)
    start = start if start < len(pids) else 0
    found: dict[int, str] = {}
    for pid in pids[start : start + MOST_NAMESPACES]:
        inode = namespace_of(pid)
        if inode:
            found.setdefault(inode, path_of(pid))
    return found, start + MOST_NAMESPACES


def all_network_namespaces() -> dict[int, str]:
    """The same of the whole machine: of every process, and those that are mounted by name."""
    found: dict[int, str] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - names are enough
        if inode := namespace_of(int(name)):
            found.setdefault(inode, path_of(int(name)))
    mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    for line in mounts.splitlines():
        _id, _parent, _device, root, path, *_ = line.split(" ")
        if root.startswith("net:["):
            found.setdefault(int(root[5:-1]), path)
    return found


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of a network namespace: held, it stays the same one. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def in_namespace(namespace: str | int, work: Callable[[], Result]) -> Result:
    """Run ``work`` inside a network namespace, in a thread kept for that. Raises OSError.

    ``namespace``: a path, or a descriptor that the caller holds. One thread for all, since
    starting one costs more than what is done in it. ``work`` must not call this function.
    """
    return _inside.submit(_run_inside, namespace, work).result()


def _run_inside(namespace: str | int, work: Callable[[], Result]) -> Result:
    if isinstance(namespace, str):
        with opened(namespace) as there:
            return _run_inside(there, work)
    with opened(_HOME) as home:
        _enter(namespace)
        try:
            return work()
        finally:
            _enter(home)  # a thread that stayed would keep a dead pod's namespace alive


def _enter(namespace_fd: int) -> None:
    if _libc.setns(namespace_fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")
