"""Live rates: the metrics of enforcers, read through the API server's proxy to their pods."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from client.errors import ClientError
from client.top import Row
from contract.limits import BITS_PER_BYTE
from contract.names import Direction
from contract.stats import READ_AT
from kube.ports import Json

ENFORCER: Final = "podpace-enforcer"
"""The enforcer's container."""
SELECTOR: Final = "app.kubernetes.io/part-of=podpace,app.kubernetes.io/component=enforcer"
"""Of its pods, whatever the installation is called."""
_METRICS_PORT: Final = 9464
_AT_ONCE: Final = 16
T = TypeVar("T")


class Reads(Protocol):
    """What is needed of the API server."""

    def get(self, path: str) -> Json:
        """One object. Raises ``ClientError``."""

    def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """All items. Raises ``ClientError``."""

    def text(self, path: str) -> str:
        """A plain answer. Raises ``ClientError``."""


Key = tuple[str, Direction]
"""``NAMESPACE/NAME`` and a direction."""


@dataclass(frozen=True, slots=True)
class Sample:
    """All enforcers' counters at one moment."""

    at_seconds: float
    """time.monotonic()"""
    values: Mapping[Key, Mapping[str, float]]
    """By the metric's name."""
    problems: tuple[str, ...] = ()
    """Nodes that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


@dataclass(frozen=True)
class Enforcers:
    """The enforcers of some nodes (None: all)."""

    cluster: Reads
    release_namespace: str
    nodes: frozenset[str] | None = None
    clock: Callable[[], float] = field(default=time.monotonic)

    def sample(self) -> Sample:
        """Every one is asked once, several at a time. Raises ``ClientError``: pods are not told."""
        pages, problems = self.pages(read_metrics)
        values: dict[Key, dict[str, float]] = {}
        for page in pages.values():
            values |= page
        return Sample(self.clock(), values, problems)

    def pages(self, read: Callable[[str], T]) -> tuple[dict[str, T], tuple[str, ...]]:
        """What ``read`` makes of each one's metrics, by node; and who cannot be read, and why.

        ``read`` raises ``ValueError`` for what is no page of metrics. Raises ``ClientError``.
        """
        query = {"labelSelector": SELECTOR}
        if self.nodes is not None and len(self.nodes) == 1:
            query["fieldSelector"] = f"spec.nodeName={next(iter(self.nodes))}"
        pods = self.cluster.list(f"/api/v1/namespaces/{self.release_namespace}/pods", query)
        by_node = {
            pod["spec"].get("nodeName", ""): pod
            for pod in pods
            if self.nodes is None or pod["spec"].get("nodeName") in self.nodes
        }
        problems = [
            f"node {node} has no enforcer in namespace {self.release_namespace}; where it is "
            "elsewhere, give --release-namespace"
            for node in sorted((self.nodes or frozenset()) - by_node.keys() - {""})
        ]

        def page(pod: Json) -> T | _Unreadable:
            try:
                return read(self._text(pod))
            except (ClientError, ValueError) as error:
                return _Unreadable(str(error))

        pages: dict[str, T] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for node, found in zip(by_node, pool.map(page, by_node.values()), strict=True):
                if isinstance(found, _Unreadable):
                    problems.append(f"the rates of node {node} cannot be read: {found.reason}")
                else:
                    pages[node] = found
        return pages, tuple(problems)

    def _text(self, pod: Json) -> str:
        metadata = pod["metadata"]
        name = f"{metadata['name']}:{metrics_port(pod)}"
        return self.cluster.text(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}/proxy/metrics/pods"
        )


def metrics_port(pod: Json) -> int:
    """The port named ``metrics`` of the enforcer's container."""
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if container["name"] == ENFORCER and port.get("name") == "metrics":
                return int(port["containerPort"])
    return _METRICS_PORT


def read_metrics(text: str) -> dict[Key, dict[str, float]]:
    """Series of pods only. Raises ``ValueError`` when it is not Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[Key, dict[str, float]] = {}
    read_at: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == READ_AT:
                read_at = {READ_AT: sample.value}
            kind, _, pod = sample.labels.get("target", "").partition(":")
            direction = sample.labels.get("direction", "")
            if kind == "pod" and direction in tuple(Direction):
                key = (pod, Direction(direction))
                found.setdefault(key, {})[sample.name] = sample.value
    return {key: values | read_at for key, values in found.items()}


def elapsed_seconds(was: float | None, now: float | None, asked: float) -> float:
    """Between two readings of counters, by the clock of who read them.

    ``asked``: seconds between the two answers. They count where an enforcer does not tell when it
    read, or its clock was set in between.
    """
    if was is None or now is None or now <= was:
        return asked
    return now - was


def make_rows(before: Sample, after: Sample, wanted: Iterable[Key]) -> tuple[Row, ...]:
    """What happened between two samples, for those that both have."""
    keys = set(wanted)
    seconds = after.at_seconds - before.at_seconds
    return tuple(
        _row(pod, direction, before.values[pod, direction], after.values[pod, direction], seconds)
        for pod, direction in sorted(after.values)
        if (pod, direction) in keys and (pod, direction) in before.values
    )


def _bits(of: Mapping[str, float], name: str) -> int | None:
    value = of.get(name)
    return None if value is None else int(value) * BITS_PER_BYTE


def _row(
    pod: str,
    direction: Direction,
    was: Mapping[str, float],
    now: Mapping[str, float],
    asked: float,
) -> Row:
    seconds = elapsed_seconds(was.get(READ_AT), now.get(READ_AT), asked)
    if now.get("podpace_passed_bytes_total", 0) < was.get("podpace_passed_bytes_total", 0):
        was = now  # attached anew in between: its counters began at zero

    def per_second(name: str) -> float:
        return (now.get(name, 0.0) - was.get(name, 0.0)) / seconds

    return Row(
        target=pod,
        direction=direction,
        limit_bits_per_second=_bits(now, "podpace_limit_bytes_per_second"),
        rate_bits_per_second=per_second("podpace_passed_bytes_total") * BITS_PER_BYTE,
        share_bits_per_second=int(now.get("podpace_share_bytes_per_second", 0)) * BITS_PER_BYTE,
        active_flows=int(now.get("podpace_active_flows", 0)),
        dropped_packets_per_second=per_second("podpace_dropped_packets_total"),
        dropped_packets=int(now.get("podpace_dropped_packets_total", 0)),
        limited_fraction=min(1.0, per_second("podpace_limited_seconds_total")),
        current_bits_per_second=_bits(now, "podpace_current_bytes_per_second"),
    )
