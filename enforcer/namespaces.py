"""Where a cgroup's processes are, and work inside their network namespaces."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


def processes(cgroup_path: str) -> Iterator[int]:
    """Every process in the cgroup and below."""
    for directory, _children, _files in os.walk(cgroup_path):
        with contextlib.suppress(OSError):
            yield from map(int, Path(directory, "cgroup.procs").read_text().split())


def network_namespaces(cgroup_paths: Iterable[str]) -> dict[int, str]:
    """Inode of each network namespace used there, and a path that opens it."""
    found: dict[int, str] = {}
    for cgroup_path in cgroup_paths:
        for pid in processes(cgroup_path):
            path = f"/proc/{pid}/ns/net"
            with contextlib.suppress(OSError):
                found.setdefault(Path(path).stat().st_ino, path)
    return found


def in_namespace(path: str, work: Callable[[], Result]) -> Result:
    """Run ``work`` inside a network namespace, in a thread of its own. Raises OSError."""
    results: list[Result] = []
    failures: list[OSError] = []

    def body() -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), path)
            finally:
                os.close(fd)
            results.append(work())
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
