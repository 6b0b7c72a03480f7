"""Sockets that were open before their limit came: paced from outside, and let go at the end.

sock_ops sees a socket only from its first connection event on. For older ones there are two ways:
a BPF iterator run inside the socket's network namespace, or, where the kernel has none, a
duplicate of the socket taken from its process (pidfd_getfd) and an ordinary setsockopt. The
duplicate is closed at once: while it lives, the process cannot close its connection.

What the application had asked for itself is kept in the socket's record in the map ``flows``, as
the iterator does it, so a restarted daemon still knows.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from enforcer.datapath import abi, libbpf
from enforcer.net.namespaces import processes

SO_MAX_PACING_RATE: Final = 47
NOT_PACED: Final = 0xFFFFFFFF
_SYS_PIDFD_GETFD: Final = 438
_NEW: Final = abi.Flow(0, 0, 0, 0, 0, 0, 0)
_NUMBER: Final = struct.Struct("=I")
_libc = ctypes.CDLL(None, use_errno=True)


def pace(flows_fd: int, cgroup_path: str, pacing_bytes_per_sec: int) -> None:
    """Set the pace of every connection of the cgroup that sock_ops does not pace.

    An application's own smaller pace stays.
    """
    for connection in _connections(cgroup_path):
        with contextlib.suppress(OSError):  # it has just ended
            _pace_one(flows_fd, connection, pacing_bytes_per_sec)


def release(flows_fd: int, cgroup_path: str) -> None:
    """Give every connection of the cgroup back the pace that its application chose.

    The window that sock_ops bounded stays until the next acknowledgment, or, where none comes
    before the programs are taken off, as long as the connection: user space cannot lift it.
    """
    for connection in _connections(cgroup_path):
        with contextlib.suppress(OSError):  # it has just ended
            flow = _flow_of(flows_fd, connection)
            if flow.pacing_bytes_per_sec and _pacing_of(connection) == flow.pacing_bytes_per_sec:
                _set_pacing(connection, flow.app_pacing_bytes_per_sec or NOT_PACED)


def _pace_one(flows_fd: int, connection: socket.socket, pacing_bytes_per_sec: int) -> None:
    flow = _flow_of(flows_fd, connection)
    if flow.paced:
        return
    own = _pacing_of(connection)
    # What is set and not by us is the application's own choice.
    if own != flow.pacing_bytes_per_sec:
        flow = replace(flow, app_pacing_bytes_per_sec=0 if own == NOT_PACED else own)
    pacing = min(pacing_bytes_per_sec, flow.app_pacing_bytes_per_sec or NOT_PACED, NOT_PACED)
    # First the record: a pace that is set must be known as ours.
    record = abi.encode_flow(replace(flow, pacing_bytes_per_sec=pacing))
    libbpf.map_update(flows_fd, _key(connection), record)
    _set_pacing(connection, pacing)


def _connections(cgroup_path: str) -> Iterator[socket.socket]:
    """A duplicate of each connected TCP socket, closed when the next one is asked for.

    A listening socket would hand its pace on to what it accepts, and sock_ops would take it there
    for the application's own; so would one that connects later.
    """
    seen: set[int] = set()
    for pid in processes(cgroup_path):
        with contextlib.suppress(OSError), _open_process(pid) as pidfd:
            for number, inode in _socket_descriptors(pid):
                if inode in seen:
                    continue
                seen.add(inode)
                fd = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
                if fd < 0:
                    continue
                with socket.socket(fileno=fd) as duplicate:
                    if duplicate.proto == socket.IPPROTO_TCP and _is_connected(duplicate):
                        yield duplicate


def _is_connected(duplicate: socket.socket) -> bool:
    try:
        duplicate.getpeername()
    except OSError:
        return False
    return True


@contextmanager
def _open_process(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _socket_descriptors(pid: int) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = str(Path(entry.path).readlink())
                if link.startswith("socket:["):
                    yield int(entry.name), int(link[8:-1])


def _key(connection: socket.socket) -> bytes:
    """User space names a socket in a map of sockets by a descriptor of it."""
    return _NUMBER.pack(connection.fileno())


def _flow_of(flows_fd: int, connection: socket.socket) -> abi.Flow:
    value = libbpf.map_lookup(flows_fd, _key(connection), abi.FLOW_BYTES)
    return _NEW if value is None else abi.decode_flow(value)


def _pacing_of(connection: socket.socket) -> int:
    return connection.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) & NOT_PACED


def _set_pacing(connection: socket.socket, pacing_bytes_per_sec: int) -> None:
    value = _NUMBER.pack(pacing_bytes_per_sec)
    connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, value)
