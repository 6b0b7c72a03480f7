"""Programs on one interface by filters of ``clsact``, or of a plain ``ingress`` qdisc.

Ours have the priority 31696 (0x7bd0) and our program's name. Raises OSError.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.net import tc
from enforcer.net.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
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

CLSACT, INGRESS_ONLY = "clsact", "ingress"
IN, OUT = "podpace_sent", "podpace_shape"
"""Of an interface on the host: what comes in there is what the target sends."""
_PARENTS: Final = {IN: 0xFFFFFFF2, OUT: 0xFFFFFFF3}
_PLACE: Final = 0xFFFFFFF1
_HANDLE: Final = 0xFFFF0000
_ALL_PROTOCOLS: Final = 0x0300
"""ETH_P_ALL in network order."""
_PRIORITY: Final = 0x7BD0
_INFO: Final = _PRIORITY << 16 | _ALL_PROTOCOLS
_IN_THEIRS, _IN_OURS = 1, 2
"""Handles of our filters: the second, where clsact is there for them alone, which is known so
without any record."""
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS, _TCA_BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION: Final = 1


@dataclass(frozen=True, slots=True)
class Filters:
    """What is on one interface."""

    place: str
    """``clsact``; ``ingress``, which has no way out: a filter put there filters what comes in; or
    empty."""
    programs: Mapping[str, tuple[int, ...]]
    """Ids of the programs in our filters, by their names."""
    is_own: bool
    """``clsact`` is there for our filters alone."""
    others: int
    """Filters of somebody else, in both directions."""


def look(netlink: Netlink, ifindex: int) -> Filters:
    """What is there now."""
    place, _ = tc.qdisc(netlink, ifindex, _PLACE)
    programs: dict[str, tuple[int, ...]] = {IN: (), OUT: ()}
    others, is_own = 0, False
    if place:
        for name, parent in _PARENTS.items():
            if name == OUT and place != CLSACT:
                continue
            for is_ours, handle, program in _filters(netlink, ifindex, parent):
                if is_ours:
                    programs[name] += (program,)
                    is_own |= handle == _IN_OURS
                else:
                    others += 1
    return Filters(place, programs, is_own, others)


def _filters(netlink: Netlink, ifindex: int, parent: int) -> list[tuple[bool, int, int]]:
    """(whether it is ours, handle, program id) of each."""
    body = tc.message(ifindex, 0, parent)
    answers = netlink.ask(tc.RTM_GETTFILTER, NLM_F_DUMP, body)
    return [found for found in map(_filter, answers) if found is not None]


def _filter(answer: Message) -> tuple[bool, int, int] | None:
    _family, _ifindex, handle, _parent, info = tc.TCMSG.unpack_from(answer.body)
    if not handle:  # a header
        return None
    found = attributes(answer.body, tc.TCMSG.size)
    options = attributes(found.get(tc.TCA_OPTIONS, b""))
    is_ours = info == _INFO and word(options.get(_TCA_BPF_NAME, b"")) in _PARENTS
    return is_ours, handle, int.from_bytes(options.get(_TCA_BPF_ID, b""), "little")


def put(netlink: Netlink, ifindex: int, name: str, program_fd: int, *, own: bool) -> None:
    """Our filter of that name, replaced at once if there; brings ``clsact`` where nothing is.

    ``own``: say so in the filter, see :attr:`Filters.is_own`.
    """
    body = tc.message(ifindex, _HANDLE, _PLACE) + text(tc.TCA_KIND, CLSACT)
    try:
        netlink.change(tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    options = u32(_TCA_BPF_FD, program_fd) + text(_TCA_BPF_NAME, name)
    options += u32(_TCA_BPF_FLAGS, _DIRECT_ACTION)
    there = {handle for is_ours, handle, _ in _filters(netlink, ifindex, _PARENTS[name]) if is_ours}
    handle = there.pop() if len(there) == 1 else _IN_OURS if own else _IN_THEIRS
    netlink.change(
        tc.RTM_NEWTFILTER,
        NLM_F_CREATE | NLM_F_REPLACE,
        tc.message(ifindex, handle, _PARENTS[name], _INFO)
        + text(tc.TCA_KIND, "bpf")
        + attribute(tc.TCA_OPTIONS, options),
    )


def remove(netlink: Netlink, ifindex: int, name: str) -> None:
    """Take our filter of that name away. A plain ``ingress`` has no way out to take it from."""
    if name == IN or tc.qdisc(netlink, ifindex, _PLACE)[0] == CLSACT:
        tc.remove(netlink, tc.RTM_DELTFILTER, tc.message(ifindex, 0, _PARENTS[name], _INFO))


def remove_clsact(netlink: Netlink, ifindex: int) -> None:
    """Take ``clsact`` away if no filter is left in it."""
    found = look(netlink, ifindex)
    if found.place == CLSACT and not found.others and not any(found.programs.values()):
        tc.remove(netlink, tc.RTM_DELQDISC, tc.message(ifindex, _HANDLE, _PLACE))
