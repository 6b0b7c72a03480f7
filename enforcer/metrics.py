"""Prometheus metrics, read from the kernel when they are asked for."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.api import Health
from contract.names import Direction
from enforcer.state import Counters, Target, TargetCounters

_LABELS = ("target", "direction")
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
    ("podpace_active_flows", "Flows that sent data lately.", lambda c: c.active_flows),
)


class ErrorCounter:
    """``podpace_errors_total``: operations that failed, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._errors = Counter(
            "podpace_errors", "Operations that failed.", ("operation",), registry=registry
        )

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

    def __call__(self, reason: str) -> None:
        """Count one."""
        self._restarts.labels(reason).inc()


class TargetCollector(Collector):
    """Everything about the targets, one reading of the kernel per scrape."""

    def __init__(
        self, read: Callable[[], Iterable[tuple[Target, TargetCounters]]], health: Health
    ) -> None:
        self._read = read
        self._health = health

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
        limit = GaugeMetricFamily(
            "podpace_limit_bytes_per_second", "The limit, in Ethernet frame bytes.", labels=_LABELS
        )
        for target, _ in targets:
            for direction in Direction:
                of_direction = target.limits.of(direction)
                if of_direction is not None:
                    limit.add_metric((target.name, direction), of_direction.rate_bytes_per_sec)
        yield limit
        for family_type, table in (
            (CounterMetricFamily, _COUNTERS),
            (GaugeMetricFamily, _GAUGES),
        ):
            for name, documentation, value in table:
                family = family_type(name, documentation, labels=_LABELS)
                for target, counters in targets:
                    family.add_metric((target.name, Direction.INGRESS), value(counters.ingress))
                    family.add_metric((target.name, Direction.EGRESS), value(counters.egress))
                yield family


def create_app(
    registry: CollectorRegistry, is_ready: Callable[[], bool], worker: Executor
) -> FastAPI:
    """``/metrics``, ``/livez`` (the event loop turns) and ``/readyz`` (targets are in force)."""
    app = FastAPI(openapi_url=None)

    @app.get("/metrics")
    async def metrics() -> Response:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(worker, generate_latest, registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        if is_ready():
            return Response("ok\n", media_type="text/plain")
        return Response("stopping\n", 503, media_type="text/plain")

    return app
