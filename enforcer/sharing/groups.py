"""Pure: who shares what with whom, what each has while nothing is short, and what when it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from contract.limits import BITS_PER_BYTE
from contract.names import Direction, Mode
from enforcer.sharing.allocate import Member, allocate
from enforcer.state import Target, bound

FLOOR_DIVISOR: Final = 12
"""Who wants nothing keeps this much of an equal part, beside what is divided among the others, and
so does who is new: enough to be seen to want more, and together 1.08 of the total at most, in the
moment until that is seen."""
STEADY_DIVISOR: Final = 64
"""A rate that would change by less stays as it is."""


@dataclass(frozen=True, slots=True)
class Group:
    """The targets that share a total in one direction; bytes per second, in the same order."""

    name: str
    direction: Direction
    total: int
    targets: tuple[Target, ...]
    limits: tuple[int, ...]
    """The most that each may have."""
    requests: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """Of the members' cgroups."""
        return [target.cgroup_id for target in self.targets]

    def divided(self, demands: Sequence[int], total: int | None = None) -> list[int]:
        """What each may use, where they want so much; ``total``: where there is less."""
        members = map(Member, demands, self.limits, self.requests)
        return allocate(self.total if total is None else total, list(members))

    def equal_parts(self) -> list[int]:
        """What each has while nobody wants more than that, or nobody looks: together the total."""
        return self.divided(self.limits)


def floor(part: int) -> int:
    """What a member has that wants nothing, of its equal part."""
    return max(1, part // FLOOR_DIVISOR)


def groups_of(targets: Iterable[Target]) -> dict[tuple[str, Direction], Group]:
    """Every group with a total, by name and direction. The smallest total that is said holds."""
    found: dict[tuple[str, Direction], list[Target]] = {}
    for target in targets:
        for direction in Direction:
            said = target.limits.sharing(direction).total_bits_per_second
            if said is not None and target.limits.mode is Mode.ENFORCE:
                found.setdefault((target.limits.group, direction), []).append(target)
    return {key: _group(*key, members) for key, members in found.items()}


def _group(name: str, direction: Direction, targets: Sequence[Target]) -> Group:
    shared = [target.limits.sharing(direction) for target in targets]
    totals = (one.total_bits_per_second for one in shared)
    total = min(bits for bits in totals if bits is not None) // BITS_PER_BYTE
    limits = (bound(target.limits, direction) for target in targets)
    return Group(
        name,
        direction,
        total,
        tuple(targets),
        tuple(total if one is None else min(total, one.rate_bytes_per_sec) for one in limits),
        tuple(one.request_bits_per_second // BITS_PER_BYTE for one in shared),
    )


def steady(before: Sequence[int | None], wanted: Sequence[int], total: int) -> list[int]:
    """The wanted rates, but as before where that is nearly the same; never more than the total."""
    kept = [
        was if was is not None and abs(was - now) * STEADY_DIVISOR <= was else now
        for was, now in zip(before, wanted, strict=True)
    ]
    if sum(kept) <= total:
        return kept
    return [min(was, now) for was, now in zip(kept, wanted, strict=True)]
