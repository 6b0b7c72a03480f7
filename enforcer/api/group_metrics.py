"""Metrics of groups that share a total, and of what each has used."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.limits import BITS_PER_BYTE
from contract.names import Direction
from enforcer.sharing.loop import AnyPool
from enforcer.sharing.node import NODE, NodePool
from enforcer.state import Counters, Target, TargetCounters

_LABELS: Final = ("group", "direction")
_NSEC_PER_SEC: Final = 10**9


class GroupUse:
    """What the members of each group passed, that never goes down while they come and go."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, Direction], int] = {}
        self._last: dict[tuple[int, Direction], tuple[int, int]] = {}
        """Bytes that passed, and those of them that left the node."""

    def add(self, targets: Iterable[tuple[Target, TargetCounters]]) -> None:
        """Count what is new since the last time; who is seen for the first time begins here."""
        last: dict[tuple[int, Direction], tuple[int, int]] = {}
        for target, counters in targets:
            for direction in Direction:
                of = counters.ingress if direction is Direction.INGRESS else counters.egress
                key, now = (target.cgroup_id, direction), (of.passed_bytes, _left(of))
                passed, left = _grown(self._last.get(key, now), now)
                self._add((target.limits.group, direction), passed)
                self._add((NODE, direction), left)
                last[key] = now
        self._last = last

    def _add(self, group: tuple[str, Direction], grown: int) -> None:
        self._totals[group] = self._totals.get(group, 0) + grown

    def bytes(self, group: str, direction: Direction) -> int:
        """Since the daemon started."""
        return self._totals.get((group, direction), 0)


def _left(of: Counters) -> int:
    return max(0, of.passed_bytes - of.local_bytes)


def _grown(was: tuple[int, int], now: tuple[int, int]) -> tuple[int, int]:
    """Less than before: it was attached anew, and counts from zero."""
    if now[0] < was[0]:
        return now
    return now[0] - was[0], max(0, now[1] - was[1])


class GroupCollector(Collector):
    """May be in several registries: all of them tell the same."""

    def __init__(
        self,
        pools: Callable[[], Iterable[AnyPool]],
        counters: Callable[[], Iterable[tuple[Target, TargetCounters]]],
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        """``counters``: of all targets; asked while anything is shared."""
        self._pools = pools
        self._counters = counters
        self._monotonic_ns = monotonic_ns
        self._unix_seconds = unix_seconds
        self._use = GroupUse()
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the kernel."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after another."""
        pools = list(self._pools())
        with self._lock:  # two who read and add in turns would count what is between them twice
            if pools:
                self._use.add(self._counters())
            used = [self._use.bytes(pool.group.name, pool.group.direction) for pool in pools]
        for name, documentation, value in (
            (
                "podpace_group_total_bytes_per_second",
                "What all members of a group have together.",
                lambda pool: pool.group.total,
            ),
            (
                "podpace_group_requested_bytes_per_second",
                "What is guaranteed to members of a group.",
                _requested,
            ),
            ("podpace_group_members", "Targets in a group.", lambda pool: len(pool.group.targets)),
            (
                "podpace_group_short_since_timestamp_seconds",
                "Since when members have wanted more than there is; 0: they do not.",
                self._short_since,
            ),
        ):
            gauge = GaugeMetricFamily(name, documentation, labels=_LABELS)
            for pool in pools:
                gauge.add_metric(_labels(pool), value(pool))
            yield gauge
        family = CounterMetricFamily(
            "podpace_group_used_bytes", "Ethernet frame bytes that members passed.", labels=_LABELS
        )
        for pool, count in zip(pools, used, strict=True):
            family.add_metric(_labels(pool), count)
        yield family
        unshared = GaugeMetricFamily(
            "podpace_node_unshared_bytes_per_second",
            "What the node itself and exempt traffic used of its link when it was last short.",
            labels=("direction",),
        )
        for pool in pools:
            if isinstance(pool, NodePool):
                unshared.add_metric((str(pool.group.direction),), pool.unshared)
        yield unshared

    def _short_since(self, pool: AnyPool) -> float:
        if not pool.short_since_ns:
            return 0.0
        seconds = (self._monotonic_ns() - pool.short_since_ns) / _NSEC_PER_SEC
        return round(self._unix_seconds() - seconds)


def _requested(pool: AnyPool) -> int:
    shared = (t.limits.sharing(pool.group.direction) for t in pool.group.targets)
    return sum(one.request_bits_per_second for one in shared) // BITS_PER_BYTE


def _labels(pool: AnyPool) -> tuple[str, str]:
    return pool.group.name, str(pool.group.direction)
