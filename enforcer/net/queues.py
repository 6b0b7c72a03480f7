"""The queue on one interface's way out: put, look, take away.

Everything of ours has the handle ``7bd0:``, so that it is known again after a restart and never
mistaken for somebody else's. Raises OSError.
"""

import struct
from typing import Final

from enforcer.net import tc
from enforcer.net.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    Netlink,
    attribute,
    attributes,
    text,
    u32,
)

HANDLE: Final = 0x7BD00000
KIND: Final = "htb"
DIRECT: Final = HANDLE
"""The HTB class that passes everything at once: the root's own handle."""
WHOLE: Final = HANDLE | 0x1
SPARSE: Final = HANDLE | 0x10
BULK: Final = HANDLE | 0x20
_SEGMENTS: Final = 0x7BD20000
_SPARSE_QUEUE: Final = 0x7BD30000

_RATE_SPEC: Final = struct.Struct("=BBHhHI")
_ETHERNET: Final = 1
_TICK_NS: Final = 64
_MAX_U32: Final = 2**32 - 1
_NSEC_PER_SEC: Final = 10**9
_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6

_LINK_HEADERS_BYTES: Final = 14 + 2 * 4
"""Ethernet's header and two VLAN tags."""
_HEADROOM: Final = 1.0003
"""HTB may be ahead of the program's clock, never behind: what the program lets through is exact,
and credit that HTB loses to late timers would otherwise become a queue that nobody sees."""
_CEIL: Final = 1.5
"""How fast bulk makes up for a late timer: at line rate, BBR would take the burst for the path."""
_CEIL_BURST_NS: Final = 4_000_000
_SLOW_BYTES_PER_SEC: Final = 50_000_000 // 8
"""Below this rate a timer that is a little late costs less than BBR's wrong idea of the path: then
bulk's burst is two frames."""
_GUARANTEED_DIVISOR: Final = 100
_MAX_QUANTUM_BYTES: Final = 60_000
_SPLIT_NS: Final = 600_000
"""GSO packets that would take longer than this are cut to frames."""
_TBF_RATE_BYTES_PER_SEC: Final = 10**15
"""TBF is here because it cuts GSO packets, and must hold nothing back: at this rate 64 KiB take
less than the nanosecond it counts in. Else a packet queued before its burst was made smaller would
cost more than the bucket can ever hold, and everything would wait behind it."""
_SEGMENTS_LIMIT_BYTES: Final = 2**31 - 1
_SPARSE_LIMIT_PACKETS: Final = 10_000


def largest_frame_bytes(mtu_bytes: int) -> int:
    """A frame that fills an interface's MTU, with all that may be around it."""
    return mtu_bytes + _LINK_HEADERS_BYTES


def root(netlink: Netlink, ifindex: int) -> tuple[str, int]:
    """(kind, handle) of the root queue; handle 0 is the system's default."""
    return tc.qdisc(netlink, ifindex, tc.ROOT)


def interfaces_with(netlink: Netlink, handle: int = HANDLE) -> list[int]:
    """The interfaces of the socket's namespace that have a root queue with this handle."""
    answers = netlink.ask(tc.RTM_GETQDISC, NLM_F_DUMP, tc.message(0, 0, 0))
    found = (tc.TCMSG.unpack_from(answer.body) for answer in answers)
    return [ifindex for _, ifindex, own, parent, _ in found if (own, parent) == (handle, tc.ROOT)]


def waiting_packets(netlink: Netlink, ifindex: int, parent: int) -> int:
    """How many packets wait in the queue that hangs there; 0 where there is none."""
    answer = tc.ask_for_qdisc(netlink, ifindex, parent)
    if answer is None:
        return 0
    counted = attributes(attributes(answer.body, tc.TCMSG.size).get(tc.TCA_STATS2, b""))
    return int.from_bytes(counted.get(tc.TCA_STATS_QUEUE, b"")[:4], "little")


def remove_root(netlink: Netlink, ifindex: int, handle: int = HANDLE) -> None:
    """Take our root queue away: the system puts its default there."""
    if root(netlink, ifindex)[1] == handle:
        tc.remove(netlink, tc.RTM_DELQDISC, tc.message(ifindex, 0, tc.ROOT))


def put_htb(
    netlink: Netlink, ifindex: int, rate_bytes_per_sec: int, burst_ns: int, frame_bytes: int
) -> None:
    """HTB with a class that passes what waits and one that waits, or the same at another rate.

    The sparse class may always send, and what it sends is charged to the whole; bulk borrows what
    is left. ``frame_bytes`` is the interface's largest: TBF drops what is larger than its burst.
    """
    rate = int(rate_bytes_per_sec * _HEADROOM) + 1
    burst_ns = max(burst_ns, 2 * frame_bytes * _NSEC_PER_SEC // rate)
    init = attribute(_HTB_INIT, struct.pack("=5I", 3, 10, BULK & 0xFFFF, 0, 0))
    there = root(netlink, ifindex)
    if there[1] == HANDLE and there[0] != KIND:  # an older version's
        remove_root(netlink, ifindex)
    if there != (KIND, HANDLE):
        _put_qdisc(netlink, ifindex, HANDLE, tc.ROOT, KIND, init)
    ceil = int(rate * _CEIL)
    ceil_burst_ns = 0 if rate < _SLOW_BYTES_PER_SEC else _CEIL_BURST_NS
    frames_ns = 2 * frame_bytes * _NSEC_PER_SEC // ceil
    whole = _Class((rate, burst_ns), (rate, burst_ns), 0, frame_bytes)
    guaranteed = max(rate // _GUARANTEED_DIVISOR, 1), frames_ns
    bulk = _Class(guaranteed, (ceil, max(frames_ns, ceil_burst_ns)), 1, frame_bytes)
    _put_class(netlink, ifindex, WHOLE, HANDLE, whole)
    _put_class(netlink, ifindex, SPARSE, WHOLE, whole)
    _put_class(netlink, ifindex, BULK, WHOLE, bulk)
    split_bytes = max(frame_bytes, rate * _SPLIT_NS // _NSEC_PER_SEC)
    tbf = _rate_spec(_TBF_RATE_BYTES_PER_SEC) + bytes(_RATE_SPEC.size)
    tbf += struct.pack("=III", _SEGMENTS_LIMIT_BYTES, 1, 0)
    options = attribute(_TBF_PARMS, tbf)
    options += attribute(_TBF_RATE64, struct.pack("=Q", _TBF_RATE_BYTES_PER_SEC))
    options += u32(_TBF_BURST, min(split_bytes, 2**30))
    _put_qdisc(netlink, ifindex, _SEGMENTS, BULK, "tbf", options)
    limit = struct.pack("=I", _SPARSE_LIMIT_PACKETS)
    _put_qdisc(netlink, ifindex, _SPARSE_QUEUE, SPARSE, "pfifo", limit)


def empty_bulk(netlink: Netlink, ifindex: int) -> None:
    """Throw away what waits; :func:`put_htb` puts a new queue there."""
    tc.remove(netlink, tc.RTM_DELQDISC, tc.message(ifindex, _SEGMENTS, BULK))


def _put_qdisc(  # noqa: PLR0917 - the order of the message
    netlink: Netlink, ifindex: int, handle: int, parent: int, kind: str, options: bytes
) -> None:
    body = tc.message(ifindex, handle, parent) + text(tc.TCA_KIND, kind)
    body += attribute(tc.TCA_OPTIONS, options)
    netlink.change(tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


class _Class:
    """HTB's parameters of one; ``rate`` and ``ceil`` are (bytes per second, burst in ns)."""

    def __init__(
        self, rate: tuple[int, int], ceil: tuple[int, int], priority: int, frame_bytes: int
    ) -> None:
        quantum = min(_MAX_QUANTUM_BYTES, max(frame_bytes, ceil[0] // 1000))
        ticks = [min(burst_ns // _TICK_NS + 1, _MAX_U32) for burst_ns in (rate[1], ceil[1])]
        parameters = _rate_spec(rate[0]) + _rate_spec(ceil[0])
        parameters += struct.pack("=5I", *ticks, quantum, 0, priority)
        self.options = attribute(_HTB_RATE64, struct.pack("=Q", rate[0]))
        self.options += attribute(_HTB_CEIL64, struct.pack("=Q", ceil[0]))
        self.options += attribute(_HTB_PARMS, parameters)


def _put_class(netlink: Netlink, ifindex: int, handle: int, parent: int, wanted: _Class) -> None:
    body = tc.message(ifindex, handle, parent) + text(tc.TCA_KIND, KIND)
    body += attribute(tc.TCA_OPTIONS, wanted.options)
    netlink.change(tc.RTM_NEWTCLASS, NLM_F_CREATE, body)


def _rate_spec(bytes_per_sec: int) -> bytes:
    return _RATE_SPEC.pack(0, _ETHERNET, 0, 0, 0, min(bytes_per_sec, _MAX_U32))
