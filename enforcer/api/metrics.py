"""Prometheus metrics, read from the kernel when a page is made of them."""

import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.api import Health
from contract.limits import BITS_PER_BYTE, Limits
from contract.names import Direction
from contract.stats import READ_AT
from enforcer.state import Counters, Target, TargetCounters
from enforcer.targets import POD_PREFIX, is_pod

_COUNTERS: tuple[tuple[str, str, Callable[[Counters], float]], ...] = (
    ("podpace_passed_bytes", "Ethernet frame bytes let through.", lambda c: c.passed_bytes),
    ("podpace_passed_packets", "Packets let through.", lambda c: c.passed_packets),
    ("podpace_dropped_bytes", "Ethernet frame bytes dropped.", lambda c: c.dropped_bytes),
    ("podpace_dropped_packets", "Packets dropped.", lambda c: c.dropped_packets),
    ("podpace_marked_packets", "Packets marked with ECN CE.", lambda c: c.marked_packets),
    ("podpace_limited_seconds", "Time spent at the limit.", lambda c: c.limited_ns / 1e9),
)
Bound = Callable[[Limits, Direction, Counters], int | None]
_BOUNDS: tuple[tuple[str, str, Bound], ...] = (
    (
        "podpace_limit_bytes_per_second",
        "The limit, in Ethernet frame bytes.",
        lambda limits, d, _: None if (own := limits.of(d)) is None else own.rate_bytes_per_sec,
    ),
    (
        "podpace_request_bytes_per_second",
        "What is guaranteed when something is short.",
        lambda limits, d, _: limits.sharing(d).request_bits_per_second // BITS_PER_BYTE or None,
    ),
    (
        "podpace_current_bytes_per_second",
        "What it may use now, as its group or its node is short.",
        lambda _, __, counters: counters.current_bytes_per_sec,
    ),
)
_GAUGES: tuple[tuple[str, str, Callable[[Counters], float]], ...] = (
    (
        "podpace_share_bytes_per_second",
        "What one greedy flow may send now.",
        lambda c: c.share_bytes_per_sec,
    ),
    (
        "podpace_active_flows",
        "Flows that sent data lately; far below the limit not all are counted.",
        lambda c: c.active_flows,
    ),
    (
        "podpace_delay_seconds",
        "What a packet waits that has to wait its turn.",
        lambda c: c.delay_ns / 1e9,
    ),
)


class ErrorCounter:
    """``podpace_errors_total``: operations that failed, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._errors = Counter(
            "podpace_errors", "Operations that failed.", ("operation",), registry=registry
        )
        # A series that appears with its first event hides that event from rate() and increase().
        for operation in ("load", "attach", "detach", "counters"):
            self._errors.labels(operation)

    def __call__(self, operation: str) -> None:
        """Count one."""
        self._errors.labels(operation).inc()


class RestartCounter:
    """``podpace_watch_restarts_total``: watches of pods that came to an end, by reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restarts = Counter(
            "podpace_watch_restarts",
            "Watches of this node's pods that ended: expired, error or ended (by the server).",
            ("reason",),
            registry=registry,
        )
        for reason in ("expired", "error", "ended"):
            self._restarts.labels(reason)

    def __call__(self, reason: str) -> None:
        """Count one."""
        self._restarts.labels(reason).inc()


class NodeTotals:
    """Sums over all targets that never go down, though targets come and go.

    They grow by what was counted since the last reading, no more: what is held when the daemon
    starts is where it begins. What a target passed between the last reading and its end is not in
    them.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, Direction], float] = {}
        self._last: dict[int, TargetCounters] = {}

    def begin(self, adopted: Iterable[tuple[Target, TargetCounters]]) -> None:
        """What an earlier daemon's targets had counted was told by that one."""
        self._last |= {target.cgroup_id: counters for target, counters in adopted}

    def add(self, targets: Iterable[tuple[Target, TargetCounters]], known: Container[int]) -> None:
        """Count what is new since the last time.

        ``known`` are the cgroup ids of all targets: what was counted of one that could not be read
        this time is kept, or the next reading would count its whole life again.
        """
        for target, counters in targets:
            before = self._last.get(target.cgroup_id)
            for name, _, value in _COUNTERS:
                for direction in Direction:
                    was = 0.0 if before is None else value(_of(before, direction))
                    new = value(_of(counters, direction))
                    # Less than before: it was attached anew, and counts from zero.
                    grown = new - was if new >= was else new
                    key = (name, direction)
                    self._totals[key] = self._totals.get(key, 0.0) + grown
            self._last[target.cgroup_id] = counters
        self._last = {number: last for number, last in self._last.items() if number in known}

    def families(self) -> Iterator[Metric]:
        """One family for each counter."""
        for name, documentation, _ in _COUNTERS:
            family = CounterMetricFamily(
                name.replace("podpace_", "podpace_node_", 1),
                f"{documentation} All targets of this node together.",
                labels=("direction",),
            )
            for direction in Direction:
                family.add_metric((direction,), self._totals.get((name, direction), 0.0))
            yield family


class NodeCollector(Collector):
    """What is always told, however many pods there are."""

    def __init__(
        self,
        read: Callable[[], Iterable[tuple[Target, TargetCounters]]],
        health: Health,
        count_pods: Callable[[], Mapping[str, int]],
        known: Callable[[], Container[int]],
    ) -> None:
        """``known``: the cgroup ids of all targets. What is there now is where the sums begin."""
        self._read = read
        self._health = health
        self._count_pods = count_pods
        self._known = known
        self._totals = NodeTotals()
        self._totals.begin(read())
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the kernel."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after another."""
        with self._lock:  # two who read and add in turns would count what is between them twice
            targets = list(self._read())
            self._totals.add(targets, self._known())
            totals = list(self._totals.families())
        build = GaugeMetricFamily(
            "podpace_build_info", "Always 1.", labels=("version", "abi", "source_hash")
        )
        build.add_metric((self._health.version, str(self._health.abi), self._health.source_hash), 1)
        yield build
        yield GaugeMetricFamily("podpace_targets", "Targets held in force.", len(targets))
        pods = GaugeMetricFamily(
            "podpace_pods", "Limited pods of this node, by their condition.", labels=("reason",)
        )
        for reason, count in self._count_pods().items():
            pods.add_metric((reason,), count)
        yield pods
        yield from totals


class TargetCollector(Collector):
    """Everything about each target that ``read`` gives, one reading of the kernel per scrape."""

    def __init__(self, read: Callable[[], Iterable[tuple[Target, TargetCounters]]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the kernel."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after another."""
        targets = list(self._read())
        yield GaugeMetricFamily(
            READ_AT,
            "When these counters were read, as Unix time: rates are by this clock.",
            time.time(),
        )
        for name, documentation, bound in _BOUNDS:
            family = Metric(name, documentation, "gauge")
            for target, counters in targets:
                for direction in Direction:
                    rate = bound(target.limits, direction, _of(counters, direction))
                    if rate is not None:
                        family.add_sample(name, _labels(target, direction), rate)
            yield family
        for kind, suffix, table in (("counter", "_total", _COUNTERS), ("gauge", "", _GAUGES)):
            for name, documentation, value in table:
                family = Metric(name, documentation, kind)
                for target, counters in targets:
                    for direction in Direction:
                        labels = _labels(target, direction)
                        family.add_sample(name + suffix, labels, value(_of(counters, direction)))
                yield family


def _of(counters: TargetCounters, direction: Direction) -> Counters:
    return counters.ingress if direction is Direction.INGRESS else counters.egress


def _labels(target: Target, direction: Direction) -> dict[str, str]:
    """A pod's series have its namespace and name too, as cAdvisor's have."""
    labels = {"target": target.name, "direction": str(direction)}
    if is_pod(target):
        namespace, _, name = target.name.removeprefix(POD_PREFIX).partition("/")
        labels |= {"namespace": namespace, "pod": name}
    return labels
