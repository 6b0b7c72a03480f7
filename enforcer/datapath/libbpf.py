"""libbpf through ctypes: the handful of calls the daemon makes.

bcc compiles and loads, in a child process (see compiler.py), because it maps LLVM. What is left
for the daemon, to open pins, attach and read maps, is in libbpf, which bcc depends on.
Every function raises OSError with the kernel's errno.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

BPF_F_ALLOW_MULTI: Final = 2
BPF_F_LOCK: Final = 4
BPF_F_BEFORE: Final = 8
BPF_TRACE_ITER: Final = 28
TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
_MAX_PROGRAMS: Final = 64
_INFO_BYTES: Final = 232
"""sizeof(struct bpf_prog_info); the kernel takes a longer or a shorter one."""
_INFO_ID_OFFSET: Final = 4
_INFO_NAME: Final = slice(64, 80)


class AttachType(IntEnum):
    """enum bpf_attach_type, the three hooks on a target's cgroup."""

    INGRESS = 0
    EGRESS = 1
    SOCK_OPS = 3


@functools.cache
def _lib() -> ctypes.CDLL:
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def available() -> bool:
    """Whether libbpf is installed."""
    try:
        _lib()
    except OSError:
        return False
    return True


def lacks_helper(program_type: int, helper: int) -> bool:
    """Whether this kernel knows no such helper for programs of that type; not where in doubt."""
    return int(_lib().libbpf_probe_bpf_helper(program_type, helper, None)) == 0


def _check(result: int, doing: str) -> int:
    if result < 0:
        number = -result if result < -1 else ctypes.get_errno()
        raise OSError(number, os.strerror(number), doing)
    return result


@functools.cache
def possible_cpus() -> int:
    """How many copies a per-CPU value has."""
    return _check(_lib().libbpf_num_possible_cpus(), "count CPUs")


def obj_get(path: str) -> int:
    """Open a pinned program or map."""
    return _check(_lib().bpf_obj_get(os.fsencode(path)), path)


def obj_pin(fd: int, path: str) -> None:
    """Pin a program or map."""
    _check(_lib().bpf_obj_pin(fd, os.fsencode(path)), path)


@contextmanager
def pinned(path: str) -> Iterator[int]:
    """A pinned object, open for as long as the block runs."""
    fd = obj_get(path)
    try:
        yield fd
    finally:
        os.close(fd)


def program_identity(fd: int) -> tuple[int, str]:
    """Kernel id and name of an open program."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    length = ctypes.c_uint32(_INFO_BYTES)
    _check(_lib().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(length)), "program info")
    number = int.from_bytes(info.raw[_INFO_ID_OFFSET : _INFO_ID_OFFSET + 4], "little")
    return number, info.raw[_INFO_NAME].split(b"\0")[0].decode(errors="replace")


def program_open(program_id: int) -> int:
    """Open a program by its kernel id. Needs CAP_SYS_ADMIN."""
    return _check(_lib().bpf_prog_get_fd_by_id(program_id), f"program {program_id}")


def attach(
    program_fd: int, cgroup_fd: int, hook: AttachType, flags: int = BPF_F_ALLOW_MULTI
) -> None:
    """Attach beside whatever else is attached there; with other ``flags``, in another way."""
    _check(
        _lib().bpf_prog_attach(program_fd, cgroup_fd, int(hook), flags),
        f"attach {hook.name.lower()}",
    )


def detach(program_fd: int, cgroup_fd: int, hook: AttachType) -> None:
    """Detach this one program."""
    _check(_lib().bpf_prog_detach2(program_fd, cgroup_fd, int(hook)), f"detach {hook.name.lower()}")


def attached(cgroup_fd: int, hook: AttachType) -> tuple[int, ...]:
    """Ids of the programs attached to this very cgroup, ancestors' not included."""
    return _query(cgroup_fd, int(hook))[0]


def alone_above(cgroup_path: str, hook: AttachType) -> Iterator[tuple[str, int, int]]:
    """Programs on a cgroup and its ancestors that allow no other beside them.

    Each as cgroup, id and attach flags: ``BPF_F_ALLOW_OVERRIDE``, or 0 where none may be below.
    """
    place, device = Path(cgroup_path), Path(cgroup_path).stat().st_dev
    while place.stat().st_dev == device:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ids, flags = _query(fd, int(hook))
        finally:
            os.close(fd)
        if ids and not flags & BPF_F_ALLOW_MULTI:
            yield str(place), ids[0], flags
        if place == place.parent:
            return
        place = place.parent


def _query(fd: int, hook: int) -> tuple[tuple[int, ...], int]:
    """Ids and attach flags. More than fit are as many as fit."""
    ids = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    count = ctypes.c_uint32(_MAX_PROGRAMS)
    flags = ctypes.c_uint32()
    _check(
        _lib().bpf_prog_query(fd, hook, 0, ctypes.byref(flags), ids, ctypes.byref(count)),
        "query programs",
    )
    return tuple(ids[: count.value]), flags.value


def attach_tcx(program_fd: int, ifindex: int, hook: int) -> None:
    """Attach at one of an interface's hooks, before whatever else is there (Linux 6.6)."""
    _check(_lib().bpf_prog_attach(program_fd, ifindex, hook, BPF_F_BEFORE), "attach tcx")


def detach_tcx(program_fd: int, ifindex: int, hook: int) -> None:
    """Detach this one program."""
    _check(_lib().bpf_prog_detach2(program_fd, ifindex, hook), "detach tcx")


def attached_tcx(ifindex: int, hook: int) -> tuple[int, ...]:
    """Ids of the programs at one of an interface's hooks; EINVAL where the kernel has no tcx."""
    return _query(ifindex, hook)[0]


def map_lookup(map_fd: int, key: bytes, value_bytes: int, *, locked: bool = False) -> bytes | None:
    """The value, or None where there is none. ``locked``: consistent, under its spin lock."""
    value = ctypes.create_string_buffer(value_bytes)
    result = _lib().bpf_map_lookup_elem_flags(
        map_fd, key, value, ctypes.c_uint64(BPF_F_LOCK if locked else 0)
    )
    if result < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    _check(result, "read map")
    return value.raw


def map_update(map_fd: int, key: bytes, value: bytes, *, locked: bool = False) -> None:
    """Write a value; ``locked``: into the existing one, under its spin lock."""
    flags = ctypes.c_uint64(BPF_F_LOCK if locked else 0)
    _check(_lib().bpf_map_update_elem(map_fd, key, value, flags), "write map")


def map_delete(map_fd: int, key: bytes) -> None:
    """Delete an entry."""
    _check(_lib().bpf_map_delete_elem(map_fd, key), "delete from map")


def map_keys(map_fd: int, key_bytes: int) -> Iterator[bytes]:
    """Every key. Collect them before deleting."""
    following = ctypes.create_string_buffer(key_bytes)
    key: bytes | None = None
    while _lib().bpf_map_get_next_key(map_fd, key, following) == 0:
        key = following.raw
        yield key


def run_iterator(program_fd: int) -> None:
    """Run a BPF iterator once, over what the calling thread's namespaces hold."""
    link_fd = _check(
        _lib().bpf_link_create(program_fd, 0, BPF_TRACE_ITER, None), "create iterator link"
    )
    try:
        fd = _check(_lib().bpf_iter_create(link_fd), "create iterator")
        try:
            while os.read(fd, 4096):
                pass
        finally:
            os.close(fd)
    finally:
        os.close(link_fd)
