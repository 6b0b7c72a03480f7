"""Where a target's ACKs wait: queues on its own interfaces, put there from inside its namespace.

``prio`` with two bands of ``fq``: the programs send an ACK that waits to the second, at its
departure time; everything else goes through the first. In one ``fq`` with the rest, what must not
wait would wait behind the same socket's held ACKs (docs/design/0005-ack-pacing.md). Raises OSError.
"""

import struct
from typing import Final

from enforcer.net import queues
from enforcer.net.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    Netlink,
    attribute,
    text,
    u32,
)

_RTM_NEWQDISC: Final = 36
_RTM_GETLINK: Final = 18
_TCMSG: Final = struct.Struct("=BxxxiIII")
_IFINFO: Final = struct.Struct("=BxHiII")
_TCA_KIND, _TCA_OPTIONS = 1, 2
_ROOT: Final = 0xFFFFFFFF
_LOOPBACK: Final = 1
_BANDS: Final = 2
_PRIORITIES: Final = 16
_REST, _ACKS = queues.POD_HANDLE | 1, queues.POD_HANDLE | 2
"""bpf/limit.h knows the second as ACK_CLASS."""
_REST_HANDLE, _ACKS_HANDLE = 0x7BD40000, 0x7BD50000
_FQ_LIMIT, _FQ_FLOW_LIMIT, _FQ_PACE, _FQ_TIMER_SLACK = 1, 2, 5, 13
_ACK_PACKETS: Final = 100_000
_SOCKET_ACK_PACKETS: Final = 10_000
"""A window at 1 Gbit/s and 100 ms of path is 5,000 ACKs of two segments."""

_TIMER_SLACK_NS: Final = 1_000_000
"""ACKs of many sockets leave at one timer, which costs more than they do; late by this at most."""


def interfaces(netlink: Netlink) -> list[int]:
    """The numbers of the namespace's interfaces, loopback left out."""
    answers = netlink.ask(_RTM_GETLINK, NLM_F_DUMP, _IFINFO.pack(0, 0, 0, 0, 0))
    numbers = (_IFINFO.unpack_from(answer.body)[2] for answer in answers)
    return [number for number in numbers if number != _LOOPBACK]


def are_there(netlink: Netlink, ifindex: int) -> bool:
    """Whether an interface has our queues."""
    found = queues.look(netlink, ifindex)
    return (found.root_kind, found.root_handle) == ("prio", queues.POD_HANDLE)


def put(netlink: Netlink, ifindex: int) -> None:
    """Put them there; the caller has looked that nobody else's are."""
    priorities = struct.pack("=i", _BANDS) + bytes(_PRIORITIES)
    _put(netlink, ifindex, queues.POD_HANDLE, _ROOT, "prio", priorities)
    _put(netlink, ifindex, _REST_HANDLE, _REST, "fq", b"")
    options = u32(_FQ_LIMIT, _ACK_PACKETS) + u32(_FQ_FLOW_LIMIT, _SOCKET_ACK_PACKETS)
    # Departure times only: a socket that is limited elsewhere is not paced by this one.
    options += u32(_FQ_PACE, 0) + u32(_FQ_TIMER_SLACK, _TIMER_SLACK_NS)
    _put(netlink, ifindex, _ACKS_HANDLE, _ACKS, "fq", options)


def remove(netlink: Netlink, ifindex: int) -> None:
    """Take them away, where they are ours: what waits is lost, as ACKs may be."""
    queues.remove_root(netlink, ifindex)


def _put(  # noqa: PLR0917 - the order of the message
    netlink: Netlink, ifindex: int, handle: int, parent: int, kind: str, options: bytes
) -> None:
    body = _TCMSG.pack(0, ifindex, handle, parent, 0) + text(_TCA_KIND, kind)
    body += attribute(_TCA_OPTIONS, options)
    netlink.change(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
