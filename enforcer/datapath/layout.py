"""Where a pinned map's value keeps each number: the kernel knows, from the type info (BTF) that
the programs were loaded with. That is how the records of another ABI version are read.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_INT: Final = 1
_STRUCT: Final = 4
_ALIASES: Final = (8, 9, 10)
"""typedef, volatile, const: another name for a type."""
_MEMBERS_OFFSET: Final = 12
"""sizeof(struct btf_type), and of struct btf_member."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A value's size, and the place of each of its numbers by dotted name."""

    value_bytes: int
    numbers: dict[str, slice]


class _MapInfo(ctypes.Structure):
    """struct bpf_map_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("sizes", ctypes.c_uint32 * 2),
        ("name", ctypes.c_char * 16),
        ("interface", ctypes.c_uint32 * 2),
        ("namespace", ctypes.c_uint64 * 2),
        ("btf_id", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


@functools.cache
def _lib() -> ctypes.CDLL:
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    lib.btf__load_from_kernel_by_id.restype = ctypes.c_void_p
    lib.btf__free.argtypes = (ctypes.c_void_p,)
    lib.btf__type_by_id.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    lib.btf__type_by_id.restype = ctypes.c_void_p
    lib.btf__name_by_offset.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    lib.btf__name_by_offset.restype = ctypes.c_char_p
    return lib


def layout_of(map_fd: int) -> Layout:
    """The layout of the map's values. Raises OSError."""
    info = _MapInfo()
    length = ctypes.c_uint32(ctypes.sizeof(info))
    if _lib().bpf_obj_get_info_by_fd(map_fd, ctypes.byref(info), ctypes.byref(length)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "map info")
    btf = _lib().btf__load_from_kernel_by_id(info.btf_id)
    if not btf:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), "map type info")
    try:
        numbers = dict(_numbers(btf, info.btf_value_type_id, "", 0))
    finally:
        _lib().btf__free(btf)
    return Layout(info.value_size, numbers)


def _words(address: int) -> tuple[int, int, int]:
    first, second, third = (ctypes.c_uint32 * 3).from_address(address)
    return first, second, third


def _numbers(btf: int, type_id: int, name: str, offset: int) -> Iterator[tuple[str, slice]]:
    """Every integer below a type; what is neither that nor a structure is left out."""
    address = _lib().btf__type_by_id(btf, type_id)
    if not address:
        return
    _name, info, size_or_type = _words(address)
    kind, members = info >> 24 & 0x1F, info & 0xFFFF
    if kind in _ALIASES:
        yield from _numbers(btf, size_or_type, name, offset)
    elif kind == _INT:
        yield name, slice(offset, offset + size_or_type)
    elif kind == _STRUCT:
        for number in range(members):
            named, inner, bits = _words(address + _MEMBERS_OFFSET * (number + 1))
            word = _lib().btf__name_by_offset(btf, named).decode()
            dotted = f"{name}.{word}" if name else word
            yield from _numbers(btf, inner, dotted, offset + bits // 8)
