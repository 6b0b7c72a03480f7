"""The node's link as something that is shared: what of it pods can have, and when it is short.

Pure but for what it is told: counters of the uplink and of the pods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from contract.limits import BITS_PER_BYTE
from contract.names import Direction, Mode
from enforcer.sharing.groups import Group, floor, steady
from enforcer.state import Given, Target, Used, bound

NODE: Final = "node"
_NSEC_PER_SEC: Final = 10**9
BUSY_PERCENT: Final = 80
"""From so much of the capacity on it is looked at closely ..."""
SHORT_PERCENT: Final = 95
"""... and it is short while its pods want so much of what they can share, ..."""
CALM_PERCENT: Final = 85
"""... until they want less than this for a while."""
_HEADROOM_PERCENT: Final = 115
_LOCAL_PERCENT: Final = 150
"""Traffic that does not leave the node may grow by a half at each look: it is not what is short."""
_SLOW: Final = 8
"""Others' traffic is averaged over so many looks."""


def node_group(
    targets: Sequence[Target], direction: Direction, capacity: int, *, always: bool = False
) -> Group | None:
    """All that is limited here, where somebody has a request in this direction, or ``always``."""
    members = tuple(
        target
        for target in targets
        if target.limits.mode is Mode.ENFORCE and bound(target.limits, direction) is not None
    )
    requests = [t.limits.sharing(direction).request_bits_per_second for t in members]
    if not members or not (always or any(requests)):
        return None
    limits = (bound(target.limits, direction) for target in members)
    return Group(
        NODE,
        direction,
        capacity,
        members,
        tuple(capacity if one is None else min(capacity, one.rate_bytes_per_sec) for one in limits),
        tuple(bits // BITS_PER_BYTE for bits in requests),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    at_ns: int
    passed_bytes: int
    local_bytes: int


@dataclass(slots=True)
class _Flow:
    """What one member does."""

    seen: _Seen | None = None
    leaves: float = 0.0
    """Bytes per second that pass the uplink."""
    stays: float = 0.0
    """That do not."""
    was_hungry: bool = False
    leaves_bytes: int = 0
    """Since the daemon started."""

    def look(self, seen: _Seen) -> None:
        """Its counters now."""
        before, self.seen = self.seen, seen
        if before is None or seen.passed_bytes < before.passed_bytes:
            return
        seconds = max(1, seen.at_ns - before.at_ns) / _NSEC_PER_SEC
        passed = seen.passed_bytes - before.passed_bytes
        local = min(passed, max(0, seen.local_bytes - before.local_bytes))
        self.leaves, self.stays = (passed - local) / seconds, local / seconds
        self.leaves_bytes += passed - local

    def wants(self, given: int | None, limit: int) -> int:
        """Of the uplink; ``given`` in all, None where only its limit held."""
        used = self.leaves + self.stays
        is_hungry = used >= 0.92 * (limit if given is None else given)
        # Who is held, and sends to the node's own pods for the most part, wants that.
        is_hungry &= self.leaves >= self.stays / 4
        held, self.was_hungry = is_hungry or self.was_hungry, is_hungry
        if held:
            return limit
        return min(limit, int(self.leaves * _HEADROOM_PERCENT / 100))


@dataclass(slots=True)
class NodePool:
    """One direction of the node's link."""

    group: Group
    parts: dict[int, int] = field(default_factory=dict)
    """By cgroup id: what each has when nobody looks any more; together the capacity."""
    flows: dict[int, _Flow] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)
    """What each may use now, that what does not leave included; empty while it is not short."""
    short_since_ns: int = 0
    wanted_at_ns: int = 0
    unshared: float = 0.0
    """What others use of it, in bytes per second."""
    used_bytes_per_sec: int = 0
    _uplink: tuple[int, int] | None = None

    def regroup(self, group: Group) -> None:
        """Members have come, changed or gone, or the capacity is another one."""
        ids = group.ids
        self.group, self.parts = group, dict(zip(ids, group.equal_parts(), strict=True))
        self.flows = {number: self.flows.get(number) or _Flow() for number in ids}
        self.current = {n: rate for n, rate in self.current.items() if n in self.parts}

    def given(self, cgroup_id: int) -> Given | None:
        """One member's; None while it is not short."""
        if not self.short_since_ns:
            return None
        part = self.parts[cgroup_id]
        return Given(self.current.get(cgroup_id, floor(part)), part)

    def is_busy(self, at_ns: int, uplink_bytes: int) -> bool:
        """Whether the link, by its own counter, is near its capacity since the last look."""
        return self._uplink_rate(at_ns, uplink_bytes) * 100 >= BUSY_PERCENT * self.group.total

    def _uplink_rate(self, at_ns: int, uplink_bytes: int) -> float:
        before, self._uplink = self._uplink, (at_ns, uplink_bytes)
        if before is None or uplink_bytes < before[1]:
            return 0.0
        return (uplink_bytes - before[1]) * _NSEC_PER_SEC / max(1, at_ns - before[0])

    def look(
        self,
        at_ns: int,
        uplink_bytes: int,
        used: Mapping[int, Used],
        bounds: Mapping[int, int],
    ) -> bool:
        """Divide it anew; whether rates have changed.

        ``bounds``: what a member's other groups let it have.
        """
        was_short, before = self.short_since_ns, self.current
        rate = self._uplink_rate(at_ns, uplink_bytes)
        wants, limits = [], []
        for number, limit in zip(self.group.ids, self.group.limits, strict=True):
            flow = self.flows[number]
            if number in used:
                flow.look(_Seen(at_ns, *used[number].of(self.group.direction)))
            most = min(limit, bounds.get(number, limit))
            limits.append(most)
            wants.append(flow.wants(self.current.get(number, bounds.get(number)), most))
        leaves = sum(self.flows[number].leaves for number in self.group.ids)
        self.used_bytes_per_sec = int(leaves)
        self.unshared += (max(0.0, rate - leaves) - self.unshared) / _SLOW
        shared = max(self.group.total // 20, self.group.total - int(self.unshared))
        self._judge(sum(wants), shared, at_ns)
        self.current = self._divided(wants, shared) if self.short_since_ns else {}
        return self.current != before or self.short_since_ns != was_short

    def _judge(self, wanted: int, shared: int, at_ns: int) -> None:
        if wanted * 100 >= shared * (CALM_PERCENT if self.short_since_ns else SHORT_PERCENT):
            self.wanted_at_ns = at_ns
            self.short_since_ns = self.short_since_ns or at_ns
        elif self.short_since_ns and at_ns - self.wanted_at_ns >= 2 * _NSEC_PER_SEC:
            self.short_since_ns = 0

    def _divided(self, wants: Sequence[int], shared: int) -> dict[int, int]:
        ids = self.group.ids
        stays = [int(self.flows[n].stays * _LOCAL_PERCENT / 100) for n in ids]
        before = [
            None if n not in self.current else max(0, self.current[n] - more)
            for n, more in zip(ids, stays, strict=True)
        ]
        rates = steady(before, self.group.divided(wants, shared), shared)
        return {
            number: max(rate, floor(self.parts[number])) + more
            for number, rate, more in zip(ids, rates, stays, strict=True)
        }
