"""User space's view of the limits in bpf/limit.h; tests/kernel/test_layout.py compares the two."""

import struct
from typing import Final

from contract.limits import BITS_PER_BYTE, Limit, Limits, make_limit
from contract.names import Direction, Mode
from enforcer.state import NO_RATES, Given, Rates, bound, exempt_list_id

ABI_VERSION: Final = 11
"""Of the records in bpf/limit.h. Programs of another version are replaced; of their state each
number is taken over whose name is still there, so one that changes its meaning changes its name."""

PROGRAMS: Final = ("podpace_ingress", "podpace_egress", "podpace_sockops")
ITERATOR: Final = "bpf_iter__tcp"
FILE_ITERATOR: Final = "bpf_iter__task_file"
"""Over the open files of all processes."""
MAPS: Final = (
    "target_limits",
    "target_state",
    "flows",
    "exempt_networks",
    "earlier_sockets",
    "iterator_release",
    "loopback_arrival",
    "sharing_wanted",
)

NSEC_PER_SEC: Final = 10**9
STANDARD_MTU: Final = 1500
_ETHERNET_BYTES: Final = 14
FLAG_INGRESS_SHAPED: Final = 4
"""For user space to read back: the record's ingress bounds only what passes the shaper by."""
FLAG_HANDOVER: Final = 8
"""Sockets are still as older programs set them: the new ones leave them alone, and only bound."""
FLAG_SHARES: Final = 16
"""It may be given more than it has: the programs tell when it uses all of that."""
_MODES: Final = {Mode.ENFORCE: 0, Mode.OBSERVE: 1}

_MIN_EPOCH_NS: Final = 10_000_000
_MAX_EPOCH_NS: Final = 400_000_000
_EPOCH_FRAMES: Final = 8 * 4
"""An epoch holds at least eight bursts of four full frames, or its average would be noise."""
_EGRESS_DEBT_DIVISOR: Final = 4
_SLOW_DEBT_DIVISOR: Final = 8
_SLOW_DEBT_FRAMES: Final = 10
"""A quarter of a second, so that the first segments of many connections fit, but where that is only
some ten frames an eighth: at such a rate debt is repaid for seconds..."""
_FIRST_SECOND_DIVISOR: Final = 10
_FIRST_SECOND_BYTES: Final = 150_000
"""... but never so much that a second could exceed 1.1 s of the rate and 150 kB."""
_INGRESS_SWING_PERCENT: Final = 18
"""Burst and debt together, in percent of a second: a quarter of a second lets TCP sit a
retransmission timeout out without losing credit, 20 % is what 1.01 x limit over 20 s allows."""
_INGRESS_DEBT_FLOOR_BYTES: Final = 65536

_SHAPED_RATE_PERCENT: Final = 102
_SHAPED_BURST_DIVISOR: Final = 4
_SHAPED_DEBT_DIVISOR: Final = 4
"""Shaped traffic comes at the limit, give or take its burst: this bound never meets it, and holds
at once what comes another way."""

MAX_RATE_BYTES_PER_SEC: Final = 125 * 10**9
"""1 Tbit/s: beyond any interface, and what keeps the programs' products below 2^64."""
_CREDIT_MULTIPLIER_BITS: Final = 33
_DIRECTION_WORDS: Final = 9
_FRAME_WORD: Final = 1
_BITS_WORD: Final = 7
_SHARED_BURST_DIVISOR: Final = 20
_SHARED_BURST_FRAMES: Final = 2
"""Who shares has 50 ms of its current rate as credit: those of all members come together."""

_CGROUP_ID: Final = struct.Struct("=Q")
_LIMITS: Final = struct.Struct("=QQQIIQ9Q9Q9Q9Q")
_COUNT: Final = struct.Struct("=Q")
CGROUP_ID_BYTES: Final = _CGROUP_ID.size
LIMITS_BYTES: Final = _LIMITS.size


def map_key(cgroup_id: int) -> bytes:
    """Key of target_limits and target_state."""
    return _CGROUP_ID.pack(cgroup_id)


def encode_count(number: int) -> bytes:
    """Value of the one-element arrays."""
    return _COUNT.pack(number)


def decode_count(value: bytes) -> int:
    """See :func:`encode_count`."""
    return int(_COUNT.unpack(value)[0])


def frame_bytes(mtu_bytes: int) -> int:
    """A full Ethernet frame on a link."""
    return mtu_bytes + _ETHERNET_BYTES


def epoch_ns(rate_bytes_per_sec: int, mtu_bytes: int = STANDARD_MTU) -> int:
    """How often the share is computed at this rate."""
    needed_ns = _EPOCH_FRAMES * frame_bytes(mtu_bytes) * NSEC_PER_SEC // rate_bytes_per_sec
    return max(_MIN_EPOCH_NS, min(_MAX_EPOCH_NS, needed_ns))


def credit_factor(rate_bytes_per_sec: int) -> tuple[int, int]:
    """(multiplier, shift) with ``ns * multiplier >> shift`` the bytes that ``ns`` are worth.

    Exact to 2^-32, without a division per packet; the product of one second fits 63 bits.
    """
    scaled = (rate_bytes_per_sec << 63) // NSEC_PER_SEC
    surplus_bits = max(0, scaled.bit_length() - _CREDIT_MULTIPLIER_BITS)
    return scaled >> surplus_bits, 63 - surplus_bits


def debt_bytes(direction: Direction, limit: Limit, mtu_bytes: int = STANDARD_MTU) -> int:
    """How far a direction may overrun before packets are dropped."""
    rate, frame = limit.rate_bytes_per_sec, frame_bytes(mtu_bytes)
    if direction is Direction.EGRESS:
        slow_bytes = rate // _EGRESS_DEBT_DIVISOR - _SLOW_DEBT_FRAMES * frame
        return min(
            max(rate // _SLOW_DEBT_DIVISOR, slow_bytes) + 2 * frame,
            rate // _FIRST_SECOND_DIVISOR + _FIRST_SECOND_BYTES,
        )
    swing_bytes = rate * _INGRESS_SWING_PERCENT // 100
    return max(swing_bytes - limit.burst_bytes, min(_INGRESS_DEBT_FLOOR_BYTES, rate // 8))


def _backstop(limit: Limit) -> tuple[int, int, int]:
    """(rate, burst, debt) in bytes of a bound behind the shaper."""
    rate = limit.rate_bytes_per_sec
    burst = 2 * max(limit.burst_bytes, rate // _SHAPED_BURST_DIVISOR, _INGRESS_DEBT_FLOOR_BYTES)
    return rate * _SHAPED_RATE_PERCENT // 100 + 1, burst, rate // _SHAPED_DEBT_DIVISOR


def encode_limits(
    cgroup_id: int,
    limits: Limits,
    *,
    ingress_shaped: bool = False,
    handover: bool = False,
    mtu_bytes: int = STANDARD_MTU,
    rates: Rates = NO_RATES,
) -> bytes:
    """One CPU's struct limits."""
    flags = FLAG_INGRESS_SHAPED if ingress_shaped else 0
    flags |= FLAG_HANDOVER if handover else 0
    flags |= FLAG_SHARES if any(rates.of(direction) for direction in Direction) else 0
    words: list[int] = []
    for is_later in (False, True):
        for direction in Direction:
            limit, given = bound(limits, direction), rates.of(direction)
            held = _held(limit, given, is_later=is_later)
            if held is None:
                words += [0, frame_bytes(mtu_bytes), *[0] * (_DIRECTION_WORDS - 2)]
                continue
            rate, burst = held.rate_bytes_per_sec, held.burst_bytes
            debt = debt_bytes(direction, held, mtu_bytes)
            if flags & FLAG_INGRESS_SHAPED and direction is Direction.INGRESS:
                rate, burst, debt = _backstop(held)
            rate = min(rate, MAX_RATE_BYTES_PER_SEC)
            words += [rate, frame_bytes(mtu_bytes), burst, debt, *credit_factor(rate)]
            words += [epoch_ns(rate, mtu_bytes)]
            words += [limit.bits_per_second, limit.burst_bits] if limit is not None else [0, 0]
    list_id = exempt_list_id(limits.exempt_cidrs)
    mode = _MODES[limits.mode]
    lists = list_id, rates.local_list
    return _LIMITS.pack(cgroup_id, *lists, mode, flags, rates.until_ns, *words)


def _held(limit: Limit | None, given: Given | None, *, is_later: bool) -> Limit | None:
    """What the programs are to hold: the limit, or less of what is shared."""
    if given is None:
        return limit
    rate = max(1, given.later if is_later else given.current)
    if limit is not None and rate >= limit.rate_bytes_per_sec:
        return limit
    bits = rate * BITS_PER_BYTE
    burst_bits = max(
        bits // _SHARED_BURST_DIVISOR,
        _SHARED_BURST_FRAMES * frame_bytes(STANDARD_MTU) * BITS_PER_BYTE,
    )
    return make_limit(bits, burst_bits if limit is None else min(burst_bits, limit.burst_bits))


def with_rates(record: bytes, limits: Limits, rates: Rates) -> bytes:
    """The same record, of a target with these limits, at other rates."""
    return encode_limits(
        int(_LIMITS.unpack(record)[0]),
        limits,
        ingress_shaped=bool(decode_flags(record) & FLAG_INGRESS_SHAPED),
        handover=bool(decode_flags(record) & FLAG_HANDOVER),
        mtu_bytes=decode_mtu(record),
        rates=rates,
    )


def decode_limits(value: bytes, exempt_cidrs: tuple[str, ...]) -> Limits | None:
    """The inverse of :func:`encode_limits`; None where nothing is limited, or was ever written."""
    cgroup_id, _list, _local, mode, _flags, _until_ns, *words = _LIMITS.unpack(value)
    if not cgroup_id:
        return None
    ingress, egress = (
        Limit(words[i], words[i + 1]) if words[i] else None
        for i in (_BITS_WORD, _BITS_WORD + _DIRECTION_WORDS)
    )
    if ingress is None and egress is None:
        return None
    return Limits(ingress, egress, list(_MODES)[mode], exempt_cidrs)


def decode_said(value: bytes) -> tuple[int, ...]:
    """All of a record but the rates: what is there until somebody asks for something else."""
    cgroup_id, list_id, _local, mode, flags, _until_ns, *words = _LIMITS.unpack(value)
    said = (_FRAME_WORD, _BITS_WORD, _BITS_WORD + 1)
    places = (i + word for i in (0, _DIRECTION_WORDS) for word in said)
    return cgroup_id, list_id, mode, flags, *(words[place] for place in places)


def decode_flags(value: bytes) -> int:
    """The flags of a record."""
    return int(_LIMITS.unpack(value)[4])


def decode_mtu(value: bytes) -> int:
    """The largest packet that a record takes for whole."""
    return int(_LIMITS.unpack(value)[6 + _FRAME_WORD]) - _ETHERNET_BYTES


def decode_exempt_list(value: bytes) -> int:
    """The id of a record's exempt list; 0 for none."""
    return int(_LIMITS.unpack(value)[1])


def encode_no_limits(cgroup_id: int) -> bytes:
    """Of a target that is let go: its sockets are given back at their next packet."""
    return _LIMITS.pack(cgroup_id, 0, 0, 0, 0, 0, *[0] * (4 * _DIRECTION_WORDS))
