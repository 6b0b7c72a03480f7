"""Pure: whether requests fit into what is shared, in words for people."""

from collections.abc import Iterable

from contract.limits import BITS_PER_BYTE
from contract.names import CAPACITY_KEYS, DIRECTIONS, Direction, Mode
from contract.quantity import format_bits_per_second
from enforcer.state import NOT_LOOKED, Capacity, Target

Requested = dict[tuple[str, Direction], int]
"""Bits per second that are requested together, by group and direction; group "": on the node."""


def requested(targets: Iterable[Target]) -> Requested:
    """All requests that are to be kept; who is only observed has none."""
    sums: Requested = {}
    for target in targets:
        if target.limits.mode is not Mode.ENFORCE:
            continue
        for direction in DIRECTIONS:
            sharing = target.limits.sharing(direction)
            for group in {"", target.limits.group}:
                key = group, direction
                sums[key] = sums.get(key, 0) + sharing.request_bits_per_second
    return sums


def why_unkept(target: Target, direction: Direction, capacity: Capacity, sums: Requested) -> str:
    """Why a request may get less than it says; empty: it is kept, or there is none.

    Without figures that change with each pod that comes or goes: conditions say it.
    """
    sharing = target.limits.sharing(direction)
    bits, total = sharing.request_bits_per_second, sharing.total_bits_per_second
    if not bits or target.limits.mode is not Mode.ENFORCE or capacity.detail == NOT_LOOKED:
        return ""
    if capacity.bytes_per_sec is None:
        what = f"what the node's link has is not known ({capacity.detail})"
        how = f"set {CAPACITY_KEYS[direction]} on the Node, or the option --{direction}-capacity"
        kept = "nothing is guaranteed" if total is None else "kept within the total only"
        return f"{kept}, {what}: {how}"
    most = capacity.bytes_per_sec * BITS_PER_BYTE
    if bits > most:
        return f"the request is above the {format_bits_per_second(most)} that the node has"
    if sums.get(("", direction), 0) > most:
        whose = f"the {format_bits_per_second(most)} that the node has"
        return f"requests here exceed {whose}, and each is kept in proportion"
    if total is not None and sums.get((target.limits.group, direction), 0) > total:
        whose = f"the {format_bits_per_second(total)} that they have together"
        return f"requests of its group exceed {whose}, and each is kept in proportion"
    return ""
