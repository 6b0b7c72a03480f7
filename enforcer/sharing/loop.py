"""Gives everyone his part of what is shared, anew several times a second while it is short.

While nothing is short, all there is to do is to read one number of the programs' ten times a
second, which says whether somebody in a group has used up all he has; and the counters of the
node's link, where that is shared.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from contract.names import DIRECTIONS, Direction
from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Log, Network, SharedLink
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.store import TargetStore
from enforcer.sharing.fit import Requested, requested, why_unkept
from enforcer.sharing.groups import Group, floor, groups_of
from enforcer.sharing.node import NodePool, node_group
from enforcer.sharing.parts import Parts, Share, make_rates
from enforcer.sharing.pool import CALM_NS, Pool
from enforcer.state import Given, Target, Used, exempt_list_id

TICK_SECONDS: Final = 0.15
WATCH_SECONDS: Final = 0.1
REST: Final = 4
"""A look is followed by a rest of so many times its length: on a machine that is slow or full, the
division is the slower and not the machine."""
_NSEC_PER_SEC: Final = 10**9
_LINK_NS: Final = 10 * _NSEC_PER_SEC
Key = tuple[str, Direction]
AnyPool = Pool | NodePool


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
        link: SharedLink | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``link``: the node's, where it is shared."""
        self._datapath = datapath
        self._network = network
        self._parts = Parts(datapath, network, complaints)
        self._store = store
        self._log = log
        self._complaints = complaints
        self._link = link
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._lock = threading.Lock()
        self._pools: dict[Key, Pool] = {}
        self._nodes: dict[Direction, NodePool] = {}
        self._version = -1
        self._capacities: object = None
        self._has_requests = False
        self._local_list = 0
        self._look_at_link_ns = 0
        self._seen_wanted_ns = 0
        self._watched_until_ns = 0
        self._took_ns = 0
        self._requested: tuple[int, Requested] = (-1, {})
        """By the store's version."""

    def adopt(self, targets: Iterable[Target]) -> None:
        """Before anything is put in force after a restart: equal parts, whatever was before."""
        with self._lock:
            self._regroup(tuple(targets))
            self._parts.write(self._clock_ns(), self._shares, self._shown_list())

    def admit(self, target: Target) -> None:
        """Before a target's limits are put in force: it begins with little, so that the sum holds.

        The next step makes room for it.
        """
        with self._lock:
            known = self._parts.last(target.cgroup_id)
            if known is not None and known[0].limits == target.limits:
                return
            given = {
                direction: self._start(group, None if known is None else known[1].of(direction))
                for group in (
                    *groups_of([target]).values(),
                    *self._node_groups([target], short=True),
                )
                for direction in (group.direction,)
            }
            if given or known is not None:
                self._parts.give(target, make_rates(given, 0, self._shown_list()))

    def _start(self, group: Group, before: Given | None) -> Given:
        pools: dict[Key, AnyPool] = {(p.group.name, p.group.direction): p for p in self._all()}
        pool = pools.get((group.name, group.direction))
        part = group.limits[0] // (1 if pool is None else len(pool.parts) + 1)
        least = floor(part) if before is None else min(part, before.current)
        return Given(least, least)

    def step(self) -> None:
        """Wait a moment; look, and give everyone his part, where there is anything to do."""
        rest_seconds = REST * self._took_ns / _NSEC_PER_SEC
        is_watched = self._clock_ns() < self._watched_until_ns
        self._sleep(max(rest_seconds, TICK_SECONDS if is_watched else WATCH_SECONDS))
        started_ns = self._clock_ns()
        self.look()
        self._took_ns = self._clock_ns() - started_ns

    def look(self) -> None:
        """One look, without the wait."""
        now_ns = self._clock_ns()
        with self._lock:
            if self._has_changed(now_ns):
                self._regroup(self._store.all())
            if not self._pools and not self._nodes:
                self._parts.write(now_ns, self._shares, self._shown_list())
                return
            counted = self._counted()
            if self._is_wanted(now_ns, counted):
                self._watched_until_ns = now_ns + CALM_NS
            if now_ns < self._watched_until_ns:
                self._divide(now_ns, counted)
            self._parts.write(now_ns, self._shares, self._shown_list())

    def unkept(self, target: Target) -> tuple[str, str]:
        """See ``ports.Shares``."""
        if self._link is None:
            return "", ""
        version = self._store.version
        if self._requested[0] != version:
            self._requested = version, requested(self._store.all())
        sums = self._requested[1]
        ingress, egress = (why_unkept(target, way, self._link.of(way), sums) for way in DIRECTIONS)
        return ingress, egress

    def pools(self) -> list[AnyPool]:
        """For metrics: every group as it is now."""
        with self._lock:
            return [replace(pool) for pool in self._all()]

    def _all(self) -> list[AnyPool]:
        return [*self._pools.values(), *self._nodes.values()]

    def _has_changed(self, now_ns: int) -> bool:
        """Whether targets have come, changed or gone, or the node's capacity is another one."""
        version, capacities = self._store.version, self._capacities
        if self._link is not None and self._has_requests:
            if now_ns >= self._look_at_link_ns:
                self._look_at_link_ns = now_ns + _LINK_NS
                self._link.look()
            networks = self._link.uplink.local_networks
            capacities = networks, *(self._link.of(way).bytes_per_sec for way in DIRECTIONS)
            if capacities != self._capacities:
                self._datapath.note_local(networks)
                self._local_list = exempt_list_id(networks)
        if (version, capacities) == (self._version, self._capacities):
            return False
        self._version, self._capacities = version, capacities
        return True

    def _counted(self) -> tuple[int, int] | None:
        if self._link is None or not self._nodes:
            return None
        return self._link.counted_bytes()

    def _is_wanted(self, now_ns: int, counted: tuple[int, int] | None) -> bool:
        """Whether there may be something to divide: somebody has used up what he has."""
        wanted_ns, before = self._datapath.wanted_ns(), self._seen_wanted_ns
        self._seen_wanted_ns = wanted_ns
        if wanted_ns != before or any(pool.short_since_ns for pool in self._all()):
            return True
        if counted is None or now_ns < self._watched_until_ns:
            return False
        busy = [
            p.is_busy(now_ns, counted[way is not Direction.INGRESS])
            for way, p in self._nodes.items()
        ]
        return any(busy)

    def _regroup(self, targets: Sequence[Target]) -> None:
        self._has_requests = any(
            target.limits.sharing(direction).request_bits_per_second
            for target in targets
            for direction in DIRECTIONS
        )
        before, self._pools = self._pools, {}
        for key, group in groups_of(targets).items():
            pool = self._pools[key] = before.get(key) or Pool(group)
            pool.regroup(group)
        nodes, self._nodes = self._nodes, {}
        for group in self._node_groups(targets):
            node = self._nodes[group.direction] = nodes.get(group.direction) or NodePool(group)
            node.regroup(group)
            if sum(group.requests) > group.total:
                self._say("overbooked", group, requested_bytes_per_sec=sum(group.requests))
        self._parts.regroup(targets, self._shares())

    def _node_groups(self, targets: Sequence[Target], *, short: bool = False) -> Iterator[Group]:
        """The link's members; with ``short``, where it is that."""
        for direction in DIRECTIONS if self._link is not None else ():
            capacity = self._link.of(direction).bytes_per_sec if self._link else None
            if short and (
                direction not in self._nodes or not self._nodes[direction].short_since_ns
            ):
                continue
            group = None if not capacity else node_group(targets, direction, capacity, always=short)
            if group is not None:
                yield group

    def _divide(self, now_ns: int, counted: tuple[int, int] | None) -> None:
        used = dict(self._used())
        bounds: dict[Direction, dict[int, int]] = {direction: {} for direction in DIRECTIONS}
        for pool in self._pools.values():
            was_short = pool.short_since_ns
            if pool.look(now_ns, used):
                self._parts.due()
            self._told(pool, was_short)
            for number in pool.parts:
                bounds[pool.group.direction][number] = pool.given(number).current
        if counted is None:
            return
        for direction, node in self._nodes.items():
            was_short = node.short_since_ns
            uplink_bytes = counted[direction is not Direction.INGRESS]
            if node.look(now_ns, uplink_bytes, used, bounds[direction]):
                self._parts.due()
            self._told(node, was_short)

    def _used(self) -> Iterator[tuple[int, Used]]:
        for number, target, _, _ in self._shares():
            try:
                used = self._datapath.used(number)
            except DatapathError as error:
                self._complaints.failed("share", str(error), target)
            else:
                if used is not None:
                    past = self._network.sent_past_bytes(number)
                    yield number, replace(used, egress=used.egress + past)

    def _shares(self) -> list[Share]:
        """Everyone who shares: what he is given, and whether anything of it is short."""
        found: dict[int, tuple[int, Target, dict[Direction, Given], bool]] = {}
        for pool in self._all():
            direction, is_short = pool.group.direction, bool(pool.short_since_ns)
            for target in pool.group.targets:
                number = target.cgroup_id
                _, _, given, was = found.get(number, (number, target, {}, False))
                part = pool.given(number)
                if part is not None:
                    given[direction] = part.least(given.get(direction))
                found[number] = number, target, given, was or is_short
        return list(found.values())

    def _shown_list(self) -> int:
        """Whose networks do not use the node's link; 0 where that is not shared."""
        return self._local_list if self._nodes else 0

    def _told(self, pool: AnyPool, was_short: int) -> None:
        if bool(was_short) != bool(pool.short_since_ns):
            self._say("short" if pool.short_since_ns else "enough", pool.group)

    def _say(self, event: str, group: Group, **more: int) -> None:
        self._log.info(
            event,
            group=group.name,
            direction=str(group.direction),
            total_bytes_per_sec=group.total,
            members=len(group.targets),
            **more,
        )
