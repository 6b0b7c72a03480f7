"""Where a cgroup's processes are, and work inside their network namespaces."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000
_HOME: Final = "/proc/self/ns/net"
"""The process's own: its first thread never leaves it."""
_libc = ctypes.CDLL(None, use_errno=True)
_inside = ThreadPoolExecutor(1, "netns")

Result = TypeVar("Result")


def processes(cgroup_path: str) -> Iterator[int]:
    """Every process in the cgroup and below."""
    for directory, _children, _files in os.walk(cgroup_path):
        with (
            contextlib.suppress(OSError),
            open(f"{directory}/cgroup.procs", "rb") as file,  # noqa: PTH123 - half the time
        ):
            yield from map(int, file.read().split())


def network_namespaces(cgroup_paths: Iterable[str]) -> dict[int, str]:
    """Inode of each network namespace used there, and a path that opens it."""
    found: dict[int, str] = {}
    for cgroup_path in cgroup_paths:
        for pid in processes(cgroup_path):
            path = f"/proc/{pid}/ns/net"
            with contextlib.suppress(OSError):
                found.setdefault(os.stat(path).st_ino, path)  # noqa: PTH116 - half the time
    return found


def in_namespace(path: str, work: Callable[[], Result]) -> Result:
    """Run ``work`` inside a network namespace, in a thread kept for that. Raises OSError.

    One thread for all, since starting one costs more than what is done in it. ``work`` must not
    call this function.
    """
    return _inside.submit(_run_inside, path, work).result()


def _run_inside(path: str, work: Callable[[], Result]) -> Result:
    with _opened(_HOME) as home, _opened(path) as there:
        _enter(there, path)
        try:
            return work()
        finally:
            _enter(home, _HOME)  # a thread that stayed would keep a dead pod's namespace alive


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _enter(namespace_fd: int, path: str) -> None:
    if _libc.setns(namespace_fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
