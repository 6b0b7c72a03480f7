"""Pure: divides what is short among those who want it. Bytes per second throughout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_SMALL_WEIGHT_DIVISOR: Final = 100
"""Who has no request counts as one of a hundredth of the total, where what is left is divided."""


@dataclass(frozen=True, slots=True)
class Member:
    """One that shares: a target, or a group of them."""

    demand: int
    """What it would use, were there enough."""
    limit: int
    """It is given no more, whatever it wants."""
    request: int = 0
    """It is given no less, when it wants that."""
    weight: int = 0
    """Of its part in what is left; 0: its request, or a small one."""

    @property
    def wants(self) -> int:
        """What is of use to it."""
        return min(self.demand, self.limit)


def allocate(total: int, members: Sequence[Member]) -> list[int]:
    """What each may use, in their order; the sum is at most ``total``.

    First everyone gets min(wants, request); where those do not fit, all in proportion. The rest is
    divided max-min by weight: nobody gets more than he wants, and nothing is left while somebody
    wants (but for less than a byte a second for each).
    """
    met = [min(member.wants, member.request) for member in members]
    needed = sum(met)
    if needed > total:
        return [part * total // needed for part in met]
    small = max(1, total // _SMALL_WEIGHT_DIVISOR)
    weights = [member.weight or member.request or small for member in members]
    gaps = [member.wants - part for member, part in zip(members, met, strict=True)]
    extra = _fill(total - needed, gaps, weights)
    return [part + more for part, more in zip(met, extra, strict=True)]


def _fill(rest: int, gaps: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Water-filling: the same level for all, times their weight, but nobody above his gap."""
    filled, weight_left = [0] * len(gaps), sum(weights)
    for i in sorted(range(len(gaps)), key=lambda i: gaps[i] / weights[i]):
        filled[i] = min(gaps[i], rest * weights[i] // weight_left)
        rest -= filled[i]
        weight_left -= weights[i]
    return filled
