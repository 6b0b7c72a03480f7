"""Sockets that were open before their limit came: paced from outside, and let go at the end.

sock_ops sees a socket only from its first connection event on. For older ones there are two ways:
a BPF iterator run inside the socket's network namespace, or, where the kernel has none, a
duplicate of the socket taken from its process (pidfd_getfd) and an ordinary setsockopt. The
duplicate is closed at once: while it lives, the process cannot close its connection.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from enforcer.namespaces import processes

SO_MAX_PACING_RATE: Final = 47
NOT_PACED: Final = 0xFFFFFFFF
_SYS_PIDFD_GETFD: Final = 438
_libc = ctypes.CDLL(None, use_errno=True)


def pace_from_user_space(cgroup_path: str, pacing_bytes_per_sec: int) -> int:
    """Set the pacing rate of every TCP socket of the cgroup's processes; how many there were."""
    paced = 0
    seen: set[int] = set()
    for pid in processes(cgroup_path):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            for number, inode in _socket_descriptors(pid):
                if inode not in seen:
                    seen.add(inode)
                    paced += _pace_one(pidfd, number, pacing_bytes_per_sec)
        finally:
            os.close(pidfd)
    return paced


def _socket_descriptors(pid: int) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = str(Path(entry.path).readlink())
                if link.startswith("socket:["):
                    yield int(entry.name), int(link[8:-1])


def _pace_one(pidfd: int, number: int, pacing_bytes_per_sec: int) -> bool:
    fd = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    if fd < 0:
        return False
    with socket.socket(fileno=fd) as duplicate:
        if duplicate.proto != socket.IPPROTO_TCP:
            return False
        value = min(pacing_bytes_per_sec, NOT_PACED).to_bytes(4, "little")
        with contextlib.suppress(OSError):
            duplicate.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, value)
            return True
    return False
