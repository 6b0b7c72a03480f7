"""Pure but for what it is told: one group with a total, what its members want, what they are given.

It is short while somebody wants more than an equal part of the total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from enforcer.sharing.demand import Demand
from enforcer.sharing.groups import Group, floor, steady
from enforcer.state import Given, Used

CALM_NS: Final = 2 * 10**9
"""So long nobody must want more than his equal part, for a group to be short no more."""


@dataclass(slots=True)
class Pool:
    """One group in one direction."""

    group: Group
    parts: dict[int, int] = field(default_factory=dict)
    """By cgroup id: the equal parts."""
    current: dict[int, int] = field(default_factory=dict)
    """Rates that differ from the equal parts; empty while it is not short."""
    short_since_ns: int = 0
    """0: it is not."""
    _demands: dict[int, Demand] = field(default_factory=dict)
    _wanted_at_ns: int = 0

    def regroup(self, group: Group) -> None:
        """Members have come, changed or gone."""
        ids = group.ids
        self.group, self.parts = group, dict(zip(ids, group.equal_parts(), strict=True))
        self._demands = {number: self._demands.get(number) or Demand() for number in ids}
        if self.short_since_ns:
            # Who is new waits for the next look, and then there is room.
            kept = {number: self.current.get(number, floor(self.parts[number])) for number in ids}
            scale = max(1.0, sum(kept.values()) / group.total)
            self.current = {number: max(1, int(rate / scale)) for number, rate in kept.items()}

    def given(self, cgroup_id: int) -> Given:
        """One member's."""
        part = self.parts[cgroup_id]
        return Given(self.current.get(cgroup_id, part), part)

    def look(self, now_ns: int, used: Mapping[int, Used]) -> bool:
        """Divide it anew by what members have used; whether rates have changed."""
        was_short, wants = self.short_since_ns, []
        for number, limit in zip(self.group.ids, self.group.limits, strict=True):
            demand = self._demands[number]
            if number in used:
                passed, _ = used[number].of(self.group.direction)
                demand.look(now_ns, passed, self.current.get(number, self.parts[number]))
                wants.append(demand.wants(limit))
            else:
                wants.append(0)
        self._judge(wants, now_ns)
        before = self.current
        self.current = self._divided(wants) if self.short_since_ns else {}
        return self.current != before or self.short_since_ns != was_short

    def _judge(self, wants: Sequence[int], now_ns: int) -> None:
        if any(want > part for want, part in zip(wants, self.parts.values(), strict=True)):
            self._wanted_at_ns = now_ns
            self.short_since_ns = self.short_since_ns or now_ns
        elif now_ns - self._wanted_at_ns >= CALM_NS:
            self.short_since_ns = 0

    def _divided(self, wants: Sequence[int]) -> dict[int, int]:
        ids = self.group.ids
        before = [self.current.get(number) for number in ids]
        rates = steady(before, self.group.divided(wants), self.group.total)
        return {
            number: max(rate, floor(self.parts[number]))
            for number, rate in zip(ids, rates, strict=True)
        }
