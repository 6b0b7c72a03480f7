"""Queues that versions up to 0.1 put on pods' own interfaces: taken out, as nothing fills them now.

``prio`` (``7bd1:``) with two bands of ``fq``; held ACKs waited in the second
(docs/design/0005-ack-pacing.md). Raises OSError.
"""

import contextlib
import os
from typing import Final

from enforcer.net import queues
from enforcer.net.namespaces import in_namespace, namespace_of, path_of
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


def sweep() -> list[str]:
    """Take them out of every network namespace that a process is in; says where they were."""
    swept, seen = [], {0}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - half the time of iterdir
        inode = namespace_of(int(entry)) if entry.isdigit() else 0
        if inode in seen:
            continue
        seen.add(inode)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if in_namespace(path_of(int(entry)), _sweep_here):
                swept.append(f"the network namespace of process {entry}")
    return swept


def _sweep_here() -> list[int]:
    with Netlink() as netlink:
        found = queues.interfaces_with(netlink, HANDLE)
        for ifindex in found:
            queues.remove_root(netlink, ifindex, HANDLE)
    return found
