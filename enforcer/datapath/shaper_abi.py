"""User space's view of bpf/shape.h. tests/kernel/test_layout.py compares the two."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PROGRAM: Final = "podpace_shape"
SENT_PROGRAM: Final = "podpace_sent"
PROGRAMS: Final = (PROGRAM, SENT_PROGRAM)
MAPS: Final = ("links", "shapers", "shaped_flows")
LINK_OWN_CLSACT: Final = 2
LINK_OLD_QUEUES: Final = 4

_NSEC_PER_SEC: Final = 10**9
_COST_BITS: Final = 40
"""A multiplier below 2^40 and a packet below 2^23 bytes: the product stays below 2^63."""
_MAX_RATE_BYTES_PER_SEC: Final = 125 * 10**9
_LINK: Final = struct.Struct("=5QII6Q4I")
_OWN_BYTES: Final = slice(24, 32)
_COUNTED: Final = slice(24, 44)
"""What the program writes: own bytes, those charged, and the cgroup's level."""
_SHAPER: Final = struct.Struct("=II23Q")
LINK_BYTES: Final = _LINK.size
SHAPER_BYTES: Final = _SHAPER.size
_IFINDEX: Final = struct.Struct("=I")
_CGROUP_ID: Final = struct.Struct("=Q")


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """struct link, without what follows from the rest."""

    cgroup_id: int
    rate_bytes_per_sec: int
    burst_ns: int
    sent_rate_bytes_per_sec: int
    sent_burst_ns: int
    exempt_list: int
    limit_bytes_per_sec: int
    full_frame_bytes: int
    flags: int
    sparse_class: int
    bulk_class: int
    direct_class: int


@dataclass(frozen=True, slots=True)
class ShaperRecord:
    """struct shaper, without its lock."""

    uncharged_ns: int
    may_pass_ns: int
    passed_bytes: int
    passed_packets: int
    sparse_packets: int
    rate_bytes_per_sec: int
    departs_at_ns: int
    bulk_departs_at_ns: int
    sparse_until_ns: int
    window_started_at_ns: int
    window: int
    window_flows: int
    active_flows: int
    delay_ns: int
    seen_at_ns: int
    limited_ns: int
    dropped_bytes: int
    dropped_packets: int
    marked_packets: int
    sent_until_ns: int
    sent_past_bytes: int
    sent_dropped_bytes: int
    sent_dropped_packets: int


def cost_factor(rate_bytes_per_sec: int) -> tuple[int, int]:
    """(multiplier, shift) with ``bytes * multiplier >> shift`` the ns that bytes take; 0: none."""
    if not rate_bytes_per_sec:
        return 0, 0
    rate = min(rate_bytes_per_sec, _MAX_RATE_BYTES_PER_SEC)
    scaled = (_NSEC_PER_SEC << 63) // rate
    surplus_bits = max(0, scaled.bit_length() - _COST_BITS)
    return scaled >> surplus_bits, 63 - surplus_bits


def link_key(ifindex: int) -> bytes:
    """Key of links."""
    return _IFINDEX.pack(ifindex)


def link_key_ifindex(key: bytes) -> int:
    """See :func:`link_key`."""
    return int(_IFINDEX.unpack(key)[0])


def shaper_key(cgroup_id: int) -> bytes:
    """Key of shapers."""
    return _CGROUP_ID.pack(cgroup_id)


def encode_link(record: LinkRecord) -> bytes:
    """A value of links, with nothing sent yet."""
    return _LINK.pack(
        record.cgroup_id,
        record.exempt_list,
        record.sent_rate_bytes_per_sec,
        0,
        0,
        0,
        record.flags,
        record.sent_burst_ns,
        record.rate_bytes_per_sec,
        record.burst_ns,
        *cost_factor(record.rate_bytes_per_sec),
        record.limit_bytes_per_sec,
        record.full_frame_bytes,
        record.sparse_class,
        record.bulk_class,
        record.direct_class,
    )


def decode_link(value: bytes) -> LinkRecord:
    """The inverse of :func:`encode_link`, whatever has been sent."""
    cgroup_id, exempt, sent_rate, _, _, _, flags, *rest = _LINK.unpack(value)
    sent_burst_ns, rate, burst_ns, _, _, limit, full_frame_bytes, *classes = rest
    return LinkRecord(
        cgroup_id,
        rate,
        burst_ns,
        sent_rate,
        sent_burst_ns,
        exempt,
        limit,
        full_frame_bytes,
        flags,
        *classes,
    )


def with_counts(value: bytes, before: bytes) -> bytes:
    """The same value, with what the program has counted in an earlier one."""
    return value[: _COUNTED.start] + before[_COUNTED] + value[_COUNTED.stop :]


def decode_own_bytes(value: bytes) -> int:
    """What the target's own sockets sent by a link, since they are held there."""
    return int.from_bytes(value[_OWN_BYTES], "little")


def take_over_link(numbers: Mapping[str, int]) -> LinkRecord:
    """What a link of any ABI says; 0 where it has no number of that name.

    Up to 0.1 a link could have ``queue`` 1: with queues inside the pod.
    """
    said = {name: numbers.get(name, 0) for name in LinkRecord.__slots__}
    if numbers.get("queue"):
        said["flags"] |= LINK_OLD_QUEUES
    return LinkRecord(**said)


def take_over_shaper(numbers: Mapping[str, int]) -> bytes:
    """A value of shapers with what one of any ABI says, lock free."""
    return _SHAPER.pack(0, 0, *(numbers.get(name, 0) for name in ShaperRecord.__slots__))


def decode_shaper(value: bytes) -> ShaperRecord:
    """A value of shapers."""
    _lock, _reserved, *words = _SHAPER.unpack(value)
    return ShaperRecord(*words)
