"""Queueing disciplines, classes and filters on one interface: put, look, take away.

Everything of ours has the handle ``7bd0:``, so that it is known again after a restart and never
mistaken for somebody else's. Raises OSError.
"""

import errno
import struct
from dataclasses import dataclass
from typing import Final

from enforcer.net.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Netlink,
    attribute,
    attributes,
    text,
    u32,
    word,
)

HANDLE: Final = 0x7BD00000
DIRECT: Final = HANDLE
"""The HTB class that passes everything at once: the root's own handle."""
WHOLE: Final = HANDLE | 0x1
SPARSE: Final = HANDLE | 0x10
BULK: Final = HANDLE | 0x20
_SEGMENTS: Final = 0x7BD20000
_SPARSE_QUEUE: Final = 0x7BD30000

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_RTM_NEWTCLASS: Final = 40
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_TCMSG: Final = struct.Struct("=BxxxiIII")
_ROOT: Final = 0xFFFFFFFF
_CLSACT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
_EGRESS: Final = 0xFFFFFFF3
_INGRESS: Final = 0xFFFFFFF2
_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2 = 1, 2, 7
_TCA_STATS_QUEUE: Final = 3
_ALL_PROTOCOLS: Final = 0x0300
"""ETH_P_ALL in network order."""
_PRIORITY: Final = 0x7BD0
_FILTER_INFO: Final = _PRIORITY << 16 | _ALL_PROTOCOLS
_FILTER_HANDLE: Final = 1
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS, _TCA_BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION: Final = 1

_RATE_SPEC: Final = struct.Struct("=BBHhHI")
_ETHERNET: Final = 1
_TICK_NS: Final = 64
_MAX_U32: Final = 2**32 - 1
_NSEC_PER_SEC: Final = 10**9
_HTB_PARMS, _HTB_INIT, _HTB_RATE64, _HTB_CEIL64 = 1, 2, 6, 7
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6

FULL_FRAME_BYTES: Final = 1514
_HEADROOM: Final = 1.0003
"""HTB may be ahead of the program's clock, never behind: what the program lets through is exact,
and credit that HTB loses to late timers would otherwise become a queue that nobody sees."""
_CEIL: Final = 1.5
"""How fast bulk makes up for a late timer: at line rate, BBR would take the burst for the path."""
_BURST_NS: Final = 20_000_000
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


@dataclass(frozen=True, slots=True)
class Queues:
    """What stands on an interface's way out."""

    root_kind: str
    root_handle: int
    """0: the system's default."""
    has_clsact: bool
    egress_programs: tuple[int, ...]
    """Ids of the BPF programs in clsact's egress filters."""
    other_filters: int
    """Filters of clsact, in both directions, that are not ours by their place."""

    @property
    def is_default(self) -> bool:
        """Nobody put a root queue there."""
        return self.root_handle == 0

    @property
    def is_ours(self) -> bool:
        """We put the root queue there."""
        return self.root_handle == HANDLE


def _tc(ifindex: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(0, ifindex, handle, parent, info)


def look(netlink: Netlink, ifindex: int) -> Queues:
    """What is there now."""
    root_kind, root_handle = _qdisc(netlink, ifindex, _ROOT)
    clsact_kind, _ = _qdisc(netlink, ifindex, _CLSACT)
    ours: list[int] = []
    others = 0
    if clsact_kind:
        for parent in (_EGRESS, _INGRESS):
            for info, program in _filters(netlink, ifindex, parent):
                if parent == _EGRESS and info == _FILTER_INFO:
                    ours.append(program)
                else:
                    others += 1
    return Queues(root_kind, root_handle, clsact_kind == "clsact", tuple(ours), others)


def _qdisc(netlink: Netlink, ifindex: int, parent: int) -> tuple[str, int]:
    """(kind, handle) of what hangs there; empty and 0 for nothing."""
    answer = _ask_for_qdisc(netlink, ifindex, parent)
    if answer is None:
        return "", 0
    _family, _ifindex, handle, _parent, _info = _TCMSG.unpack_from(answer.body)
    kind = word(attributes(answer.body, _TCMSG.size).get(_TCA_KIND, b""))
    return kind, handle


def _ask_for_qdisc(netlink: Netlink, ifindex: int, parent: int) -> Message | None:
    try:
        answers = netlink.ask(_RTM_GETQDISC, NLM_F_ECHO, _tc(ifindex, 0, parent))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return answers[0] if answers else None


def waiting_packets(netlink: Netlink, ifindex: int, parent: int) -> int:
    """How many packets wait in the queue that hangs there; 0 where there is none."""
    answer = _ask_for_qdisc(netlink, ifindex, parent)
    if answer is None:
        return 0
    counted = attributes(attributes(answer.body, _TCMSG.size).get(_TCA_STATS2, b""))
    return int.from_bytes(counted.get(_TCA_STATS_QUEUE, b"")[:4], "little")


def _filters(netlink: Netlink, ifindex: int, parent: int) -> list[tuple[int, int]]:
    """(priority and protocol, program id) of each filter; a filter without handle is a header."""
    answers = netlink.ask(_RTM_GETTFILTER, NLM_F_DUMP, _tc(ifindex, 0, parent))
    return [found for found in map(_filter, answers) if found is not None]


def _filter(answer: Message) -> tuple[int, int] | None:
    _family, _ifindex, handle, _parent, info = _TCMSG.unpack_from(answer.body)
    if not handle:
        return None
    found = attributes(answer.body, _TCMSG.size)
    options = attributes(found.get(_TCA_OPTIONS, b""))
    return info, int.from_bytes(options.get(_TCA_BPF_ID, b""), "little")


def put_program(netlink: Netlink, ifindex: int, program_fd: int) -> bool:
    """Our filter in clsact's egress, replaced at once if there; whether clsact is new."""
    is_new = True
    try:
        netlink.change(
            _RTM_NEWQDISC,
            NLM_F_CREATE | NLM_F_EXCL,
            _tc(ifindex, _CLSACT_HANDLE, _CLSACT) + text(_TCA_KIND, "clsact"),
        )
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        is_new = False
    options = u32(_TCA_BPF_FD, program_fd) + text(_TCA_BPF_NAME, "podpace_shape")
    options += u32(_TCA_BPF_FLAGS, _DIRECT_ACTION)
    netlink.change(
        _RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_REPLACE,
        _tc(ifindex, _FILTER_HANDLE, _EGRESS, _FILTER_INFO)
        + text(_TCA_KIND, "bpf")
        + attribute(_TCA_OPTIONS, options),
    )
    return is_new


def remove_program(netlink: Netlink, ifindex: int, *, with_clsact: bool) -> None:
    """Take our filter away, and clsact with it where we brought it and nobody else uses it."""
    _gone(netlink, _RTM_DELTFILTER, _tc(ifindex, 0, _EGRESS, _FILTER_INFO))
    if with_clsact and not look(netlink, ifindex).other_filters:
        _gone(netlink, _RTM_DELQDISC, _tc(ifindex, _CLSACT_HANDLE, _CLSACT))


def remove_root(netlink: Netlink, ifindex: int, handle: int = HANDLE) -> None:
    """Take our root queue away: the system puts its default there."""
    if _qdisc(netlink, ifindex, _ROOT)[1] == handle:
        _gone(netlink, _RTM_DELQDISC, _tc(ifindex, 0, _ROOT))


def _gone(netlink: Netlink, kind: int, body: bytes) -> None:
    try:
        netlink.change(kind, 0, body)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            raise


def put_htb(netlink: Netlink, ifindex: int, rate_bytes_per_sec: int, burst_ns: int) -> None:
    """HTB with a class that passes what waits and one that waits, or the same at another rate.

    The sparse class may always send, and what it sends is charged to the whole; bulk borrows what
    is left.
    """
    rate = int(rate_bytes_per_sec * _HEADROOM) + 1
    burst_ns = max(burst_ns, 2 * FULL_FRAME_BYTES * _NSEC_PER_SEC // rate)
    init = attribute(_HTB_INIT, struct.pack("=5I", 3, 10, BULK & 0xFFFF, 0, 0))
    root = _qdisc(netlink, ifindex, _ROOT)
    if root[1] == HANDLE and root[0] != "htb":  # an older version's
        remove_root(netlink, ifindex)
    if root != ("htb", HANDLE):
        _put_qdisc(netlink, ifindex, HANDLE, _ROOT, "htb", init)
    ceil = int(rate * _CEIL)
    ceil_burst_ns = 0 if rate < _SLOW_BYTES_PER_SEC else _CEIL_BURST_NS
    frames_ns = 2 * FULL_FRAME_BYTES * _NSEC_PER_SEC // ceil
    _put_class(netlink, ifindex, WHOLE, HANDLE, (rate, burst_ns), (rate, burst_ns), 0)
    _put_class(netlink, ifindex, SPARSE, WHOLE, (rate, burst_ns), (rate, burst_ns), 0)
    _put_class(
        netlink,
        ifindex,
        BULK,
        WHOLE,
        (max(rate // _GUARANTEED_DIVISOR, 1), frames_ns),
        (ceil, max(frames_ns, ceil_burst_ns)),
        1,
    )
    split_bytes = max(FULL_FRAME_BYTES, rate * _SPLIT_NS // _NSEC_PER_SEC)
    tbf = _rate_spec(_TBF_RATE_BYTES_PER_SEC) + bytes(_RATE_SPEC.size)
    tbf += struct.pack("=III", _SEGMENTS_LIMIT_BYTES, 1, 0)
    options = attribute(_TBF_PARMS, tbf)
    options += attribute(_TBF_RATE64, struct.pack("=Q", _TBF_RATE_BYTES_PER_SEC))
    options += u32(_TBF_BURST, min(split_bytes, 2**30))
    _put_qdisc(netlink, ifindex, _SEGMENTS, BULK, "tbf", options)
    _put_qdisc(
        netlink,
        ifindex,
        _SPARSE_QUEUE,
        SPARSE,
        "pfifo",
        struct.pack("=I", _SPARSE_LIMIT_PACKETS),
    )


def _put_qdisc(  # noqa: PLR0917 - the order of the message
    netlink: Netlink, ifindex: int, handle: int, parent: int, kind: str, options: bytes
) -> None:
    body = _tc(ifindex, handle, parent) + text(_TCA_KIND, kind) + attribute(_TCA_OPTIONS, options)
    netlink.change(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)


def _put_class(  # noqa: PLR0917 - the order of the message
    netlink: Netlink,
    ifindex: int,
    handle: int,
    parent: int,
    rate: tuple[int, int],
    ceil: tuple[int, int],
    priority: int,
) -> None:
    """``rate`` and ``ceil`` are (bytes per second, burst in ns)."""
    quantum = min(_MAX_QUANTUM_BYTES, max(FULL_FRAME_BYTES, ceil[0] // 1000))
    parameters = _rate_spec(rate[0]) + _rate_spec(ceil[0])
    ticks = [min(burst_ns // _TICK_NS + 1, _MAX_U32) for burst_ns in (rate[1], ceil[1])]
    parameters += struct.pack("=5I", *ticks, quantum, 0, priority)
    options = attribute(_HTB_RATE64, struct.pack("=Q", rate[0]))
    options += attribute(_HTB_CEIL64, struct.pack("=Q", ceil[0]))
    options += attribute(_HTB_PARMS, parameters)
    body = _tc(ifindex, handle, parent) + text(_TCA_KIND, "htb") + attribute(_TCA_OPTIONS, options)
    netlink.change(_RTM_NEWTCLASS, NLM_F_CREATE, body)


def _rate_spec(bytes_per_sec: int) -> bytes:
    return _RATE_SPEC.pack(0, _ETHERNET, 0, 0, 0, min(bytes_per_sec, _MAX_U32))
