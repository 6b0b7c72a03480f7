"""Exempt networks in a map of programs: (cgroup id, CIDR) to 1. Raises OSError.

The limiter and the shaper have a map of this layout each (``struct exempt_key`` in bpf/limit.h).
"""

import ipaddress
import struct
from collections.abc import Iterable
from typing import Final

from enforcer.datapath import libbpf

_KEY: Final = struct.Struct("=III16s")
KEY_BYTES: Final = _KEY.size
_CIDR_OFFSET_BITS: Final = 64
_V4_OFFSET_BITS: Final = 96
_V4_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_PRESENT: Final = (1).to_bytes(4, "little")


def put(map_fd: int, cgroup_id: int, cidrs: Iterable[str]) -> None:
    """Make these a target's exempt CIDRs."""
    wanted = {encode(cgroup_id, cidr) for cidr in cidrs}
    for key in wanted:
        libbpf.map_update(map_fd, key, _PRESENT)
    for key in _keys(map_fd, cgroup_id):
        if key not in wanted:
            libbpf.map_delete(map_fd, key)


def read(map_fd: int, cgroup_id: int) -> tuple[str, ...]:
    """What :func:`put` wrote, sorted."""
    return tuple(sorted(map(cidr_of, _keys(map_fd, cgroup_id))))


def _keys(map_fd: int, cgroup_id: int) -> list[bytes]:
    keys = libbpf.map_keys(map_fd, KEY_BYTES)
    return [key for key in keys if cgroup_id_of(key) == cgroup_id]


def encode(cgroup_id: int, cidr: str) -> bytes:
    """A key. The CIDR was checked before: a bad one raises ValueError."""
    network = ipaddress.ip_network(cidr, strict=False)
    if network.version == 4:
        address = _V4_MAPPED + network.network_address.packed
        prefix_bits = _V4_OFFSET_BITS + network.prefixlen
    else:
        address, prefix_bits = network.network_address.packed, network.prefixlen
    return _KEY.pack(
        _CIDR_OFFSET_BITS + prefix_bits, cgroup_id >> 32, cgroup_id & 0xFFFFFFFF, address
    )


def cgroup_id_of(key: bytes) -> int:
    """Whose CIDR this is."""
    _prefix_bits, high, low, _address = _KEY.unpack(key)
    return int(high) << 32 | int(low)


def cidr_of(key: bytes) -> str:
    """The CIDR, as ``ipaddress`` writes it."""
    prefix_bits, _high, _low, address = _KEY.unpack(key)
    prefix_bits -= _CIDR_OFFSET_BITS
    if prefix_bits >= _V4_OFFSET_BITS and address.startswith(_V4_MAPPED):
        packed: bytes = address[len(_V4_MAPPED) :]
        prefix_bits -= _V4_OFFSET_BITS
    else:
        packed = address
    return str(ipaddress.ip_network((packed, prefix_bits)))
