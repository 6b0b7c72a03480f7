"""Prometheus metrics, read from the kernel when they are asked for."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.api import Health
from contract.names import Direction
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

    What a target passed between the last reading and its end is not in them.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, Direction], float] = {}
        self._last: dict[int, TargetCounters] = {}

    def add(self, targets: Iterable[tuple[Target, TargetCounters]]) -> None:
        """Count what is new since the last time."""
        now = {target.cgroup_id: counters for target, counters in targets}
        for number, counters in now.items():
            before = self._last.get(number)
            for name, _, value in _COUNTERS:
                for direction in Direction:
                    was = 0.0 if before is None else value(_of(before, direction))
                    new = value(_of(counters, direction))
                    # Less than before: it was attached anew, and counts from zero.
                    grown = new - was if new >= was else new
                    key = (name, direction)
                    self._totals[key] = self._totals.get(key, 0.0) + grown
        self._last = now

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
    ) -> None:
        self._read = read
        self._health = health
        self._count_pods = count_pods
        self._totals = NodeTotals()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the kernel."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after another."""
        targets = list(self._read())
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
        self._totals.add(targets)
        yield from self._totals.families()


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
        limit = Metric(
            "podpace_limit_bytes_per_second", "The limit, in Ethernet frame bytes.", "gauge"
        )
        for target, _ in targets:
            for direction in Direction:
                of_direction = target.limits.of(direction)
                if of_direction is not None:
                    labels = _labels(target, direction)
                    limit.add_sample(limit.name, labels, of_direction.rate_bytes_per_sec)
        yield limit
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


def create_app(
    registry: CollectorRegistry,
    of_pods: CollectorRegistry,
    is_ready: Callable[[], bool],
    worker: Executor,
) -> FastAPI:
    """``/metrics``, ``/livez`` (the event loop turns) and ``/readyz`` (targets are in force).

    ``/metrics/pods`` has the series of pods also where ``/metrics`` leaves them out: for somebody
    who looks at them now, not for a database that keeps those of 150,000 pods.
    """
    app = FastAPI(openapi_url=None)

    async def scrape(registry: CollectorRegistry) -> Response:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(worker, generate_latest, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/metrics")
    async def metrics() -> Response:
        return await scrape(registry)

    @app.get("/metrics/pods")
    async def pod_metrics() -> Response:
        return await scrape(of_pods)

    @app.get("/livez")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        if is_ready():
            return Response("ok\n", media_type="text/plain")
        return Response("not ready\n", 503, media_type="text/plain")

    return app
