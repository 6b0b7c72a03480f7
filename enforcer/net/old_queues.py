"""Queues that versions up to 0.1 put on pods' own interfaces: taken out, as nothing fills them now.

``prio`` (``7bd1:``) with two bands of ``fq``; held ACKs waited in the second
(docs/design/0005-ack-pacing.md). Raises OSError.
"""

from typing import Final

from enforcer.net import queues
from enforcer.net.rtnetlink import Netlink

HANDLE: Final = 0x7BD10000
_ACKS: Final = HANDLE | 2


def take_out(ifindex: int, *, whatever_waits: bool) -> bool:
    """From an interface of this thread's namespace; whether they are gone.

    Not while ACKs wait, unless ``whatever_waits``: their senders would stand still without them.
    """
    with Netlink() as netlink:
        if not whatever_waits and queues.waiting_packets(netlink, ifindex, _ACKS):
            return False
        queues.remove_root(netlink, ifindex, HANDLE)
    return True
