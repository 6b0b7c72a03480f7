"""Gives everyone his part of what is shared, anew several times a second while it is short.

A group is short while somebody in it wants more than an equal part of its total. While nobody does,
everyone holds to that part, and all there is to do is to read one number of the programs' ten times
a second, which says whether somebody has used up all he has.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from contract.names import Direction
from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Log, Network
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.store import TargetStore
from enforcer.sharing.demand import Demand
from enforcer.sharing.groups import Group, floor, groups_of, steady
from enforcer.state import NO_RATES, Given, Rates, Target

TICK_SECONDS: Final = 0.15
WATCH_SECONDS: Final = 0.1
_NSEC_PER_SEC: Final = 10**9
STALE_NS: Final = 10 * _NSEC_PER_SEC
"""So long current rates hold when nobody renews them: then equal parts do."""
_RENEW_NS: Final = 4 * _NSEC_PER_SEC
_LONG_NS: Final = 3600 * _NSEC_PER_SEC
_CALM_NS: Final = 2 * _NSEC_PER_SEC
"""So long nobody must want more than his equal part, for a group to be short no more."""


@dataclass(slots=True)
class Pool:
    """One group, and what is known of its members' demands."""

    group: Group
    parts: dict[int, int]
    """By cgroup id: the equal parts."""
    demands: dict[int, Demand] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)
    """Rates that differ from the equal parts; empty while it is not short."""
    short_since_ns: int = 0
    """0: it is not."""
    wanted_at_ns: int = 0
    """When somebody last wanted more than his equal part."""
    used_bytes_per_sec: int = 0

    def given(self, cgroup_id: int) -> Given:
        """One member's."""
        part = self.parts[cgroup_id]
        return Given(self.current.get(cgroup_id, part), part)


class Sharing:
    """:meth:`step` is a thread; :meth:`admit` and :meth:`adopt` are the worker's."""

    def __init__(
        self,
        datapath: Datapath,
        network: Network,
        store: TargetStore,
        log: Log,
        complaints: Complaints,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._datapath = datapath
        self._network = network
        self._store = store
        self._log = log
        self._complaints = complaints
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, Direction], Pool] = {}
        self._rates: dict[int, tuple[Target, Rates]] = {}
        """By cgroup id: what was given last."""
        self._version = -1
        self._seen_wanted_ns = 0
        self._watched_until_ns = 0
        self._is_written = True
        """Nothing differs from what was given last."""
        self._renew_at_ns = 0

    def adopt(self, targets: Iterable[Target]) -> None:
        """Before anything is put in force after a restart: equal parts, whatever was before."""
        with self._lock:
            self._regroup(tuple(targets))
            self._write(self._clock_ns())

    def admit(self, target: Target) -> None:
        """Before a target's limits are put in force: it begins with little, so that the sum holds.

        The next step makes room for it.
        """
        with self._lock:
            known = self._rates.get(target.cgroup_id)
            if known is not None and known[0].limits == target.limits:
                return
            given: dict[Direction, Given] = {}
            for (_, direction), group in groups_of([target]).items():
                before = known[1].of(direction) if known is not None else None
                others = self._pools.get((target.limits.group, direction))
                start = group.limits[0] // (1 if others is None else len(others.parts) + 1)
                least = floor(start) if before is None else min(start, before.current)
                given[direction] = Given(least, least)
            if given or known is not None:
                rates = Rates(given.get(Direction.INGRESS), given.get(Direction.EGRESS))
                self._give(target, rates)

    def step(self) -> None:
        """Wait a moment; look, and give everyone his part, where there is anything to do."""
        is_watched = self._clock_ns() < self._watched_until_ns
        self._sleep(TICK_SECONDS if is_watched else WATCH_SECONDS)
        self.look()

    def look(self) -> None:
        """One look, without the wait."""
        now_ns = self._clock_ns()
        with self._lock:
            version = self._store.version
            if version != self._version:
                self._regroup(self._store.all())
                self._version = version
            elif not self._pools:
                return
            wanted_ns = self._datapath.wanted_ns()
            if wanted_ns != self._seen_wanted_ns:
                self._seen_wanted_ns = wanted_ns
                self._watched_until_ns = now_ns + _CALM_NS
            if now_ns < self._watched_until_ns:
                used: dict[int, tuple[int, int] | None] = {}
                for pool in self._pools.values():
                    self._divide(pool, used, now_ns)
            self._write(now_ns)

    def pools(self) -> list[Pool]:
        """For metrics: every group as it is now."""
        with self._lock:
            return [replace(pool) for pool in self._pools.values()]

    def _regroup(self, targets: Sequence[Target]) -> None:
        """Targets have come, changed or gone."""
        self._is_written = False
        before, self._pools = self._pools, {}
        for key, group in groups_of(targets).items():
            ids = group.ids
            parts = dict(zip(ids, group.equal_parts(), strict=True))
            pool = self._pools[key] = before.get(key) or Pool(group, parts)
            pool.group, pool.parts = group, parts
            pool.demands = {i: pool.demands.get(i) or Demand() for i in ids}
            if pool.short_since_ns:
                # Who is new waits for the next look, and then there is room.
                kept = {i: pool.current.get(i, floor(parts[i])) for i in ids}
                scale = max(1.0, sum(kept.values()) / group.total)
                pool.current = {i: max(1, int(rate / scale)) for i, rate in kept.items()}
        there = {target.cgroup_id: target for target in targets}
        for number, (target, _) in list(self._rates.items()):
            if number not in there:
                del self._rates[number]
            elif all(number not in pool.parts for pool in self._pools.values()):
                self._give(there[number], NO_RATES)
                del self._rates[number]
            elif there[number] != target:
                self._rates[number] = there[number], self._rates[number][1]

    def _divide(self, pool: Pool, used: dict[int, tuple[int, int] | None], now_ns: int) -> None:
        group, ids, wants = pool.group, pool.group.ids, []
        side = 0 if group.direction is Direction.INGRESS else 1
        pool.used_bytes_per_sec = 0
        for number, target, limit in zip(ids, group.targets, group.limits, strict=True):
            if number not in used:
                used[number] = self._used(target)
            counted, demand = used[number], pool.demands[number]
            if counted is None:
                wants.append(0)
                continue
            demand.look(now_ns, counted[side], pool.current.get(number, pool.parts[number]))
            wants.append(demand.wants(limit))
            pool.used_bytes_per_sec += demand.used_bytes_per_sec()
        self._judge(pool, wants, now_ns)
        if not pool.short_since_ns:
            return
        before = [pool.current.get(number) for number in ids]
        rates = steady(before, group.divided(wants), group.total)
        after = {
            number: max(rate, floor(pool.parts[number]))
            for number, rate in zip(ids, rates, strict=True)
        }
        if after != pool.current:
            pool.current, self._is_written = after, False

    def _judge(self, pool: Pool, wants: Sequence[int], now_ns: int) -> None:
        """Whether it is short: at once when somebody wants more, no more after a while of calm."""
        if any(want > part for want, part in zip(wants, pool.parts.values(), strict=True)):
            pool.wanted_at_ns = now_ns
            if not pool.short_since_ns:
                pool.short_since_ns = now_ns
                self._is_written = False
                self._say(pool, "short")
        elif pool.short_since_ns and now_ns - pool.wanted_at_ns >= _CALM_NS:
            pool.short_since_ns, pool.current = 0, {}
            self._is_written = False
            self._say(pool, "enough")
        if pool.short_since_ns:
            self._watched_until_ns = now_ns + _CALM_NS

    def _used(self, target: Target) -> tuple[int, int] | None:
        try:
            return self._datapath.used(target.cgroup_id)
        except DatapathError as error:
            self._complaints.failed("share", str(error), target)
            return None

    def _write(self, now_ns: int) -> None:
        """Put in force what differs from what is; who gets less first."""
        if self._is_written and now_ns < self._renew_at_ns:
            return
        changes: list[tuple[int, Target, Rates]] = []
        shares: dict[int, tuple[Target, dict[Direction, Given], bool]] = {}
        for pool in self._pools.values():
            for target in pool.group.targets:
                number = target.cgroup_id
                _, given, is_short = shares.get(number, (target, {}, False))
                given[pool.group.direction] = pool.given(number)
                shares[number] = target, given, is_short or bool(pool.short_since_ns)
        for number, (target, given, is_short) in shares.items():
            rates = Rates(given.get(Direction.INGRESS), given.get(Direction.EGRESS))
            before = self._rates.get(number, (target, NO_RATES))[1]
            is_fresh = before.until_ns - now_ns > STALE_NS - _RENEW_NS
            same = replace(before, until_ns=0) == rates
            if same and (is_fresh if is_short else not before.until_ns):
                continue
            if is_short:
                rates = replace(rates, until_ns=now_ns + STALE_NS)
            changes.append((_more(before, rates), target, rates))
        changes.sort(key=lambda change: change[0])
        given_to = [self._give(target, rates) for _, target, rates in changes]
        is_short = any(pool.short_since_ns for pool in self._pools.values())
        pause_ns = _RENEW_NS // 4 if is_short or not all(given_to) else _LONG_NS
        self._is_written, self._renew_at_ns = True, now_ns + pause_ns

    def _give(self, target: Target, rates: Rates) -> bool:
        """Whether it is in force."""
        try:
            self._datapath.give(target, rates)
            ingress = rates.ingress
            self._network.give(target.cgroup_id, None if ingress is None else ingress.current)
        except DatapathError as error:
            self._complaints.failed("share", str(error), target)
            return False
        self._complaints.worked("share", target)
        self._rates[target.cgroup_id] = target, rates
        return True

    def _say(self, pool: Pool, event: str) -> None:
        self._log.info(
            event,
            group=pool.group.name,
            direction=str(pool.group.direction),
            total_bytes_per_sec=pool.group.total,
            used_bytes_per_sec=pool.used_bytes_per_sec,
            members=len(pool.parts),
        )


def _more(before: Rates, after: Rates) -> int:
    """How much more is given than before, in both directions together."""
    return sum(
        (given.current if (given := after.of(direction)) else 0)
        - (was.current if (was := before.of(direction)) else 0)
        for direction in Direction
    )
