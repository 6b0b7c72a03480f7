"""The words of traffic control in rtnetlink: its message, and asking for one queue."""

import errno
import struct
from typing import Final

from enforcer.net.rtnetlink import NLM_F_ECHO, Message, Netlink, attributes, word

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS: Final = 40
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCMSG: Final = struct.Struct("=BxxxiIII")
"""Family, ifindex, handle, parent, info."""
TCA_KIND, TCA_OPTIONS, TCA_STATS2 = 1, 2, 7
TCA_STATS_QUEUE: Final = 3
ROOT: Final = 0xFFFFFFFF


def message(ifindex: int, handle: int, parent: int, info: int = 0) -> bytes:
    """The fixed part."""
    return TCMSG.pack(0, ifindex, handle, parent, info)


def ask_for_qdisc(netlink: Netlink, ifindex: int, parent: int) -> Message | None:
    """What hangs there; None for nothing. Raises OSError."""
    try:
        answers = netlink.ask(RTM_GETQDISC, NLM_F_ECHO, message(ifindex, 0, parent))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return answers[0] if answers else None


def qdisc(netlink: Netlink, ifindex: int, parent: int) -> tuple[str, int]:
    """(kind, handle) of what hangs there; empty and 0 for nothing. Raises OSError."""
    answer = ask_for_qdisc(netlink, ifindex, parent)
    if answer is None:
        return "", 0
    _family, _ifindex, handle, _parent, _info = TCMSG.unpack_from(answer.body)
    return word(attributes(answer.body, TCMSG.size).get(TCA_KIND, b"")), handle


def remove(netlink: Netlink, kind: int, body: bytes) -> None:
    """A request that removes something, which may be gone already. Raises OSError."""
    try:
        netlink.change(kind, 0, body)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EINVAL}:
            raise
