"""Metrics of what a node's pods can share, and where that is known from."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.names import DIRECTIONS, Direction
from enforcer.state import Capacity

_DETAIL_CHARS: Final = 200


class CapacityCollector(Collector):
    """May be in several registries."""

    def __init__(self, capacity: Callable[[Direction], Capacity]) -> None:
        self._capacity = capacity

    def describe(self) -> Iterable[Metric]:
        """Nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after another; no number where nothing is known."""
        rates = GaugeMetricFamily(
            "podpace_capacity_bytes_per_second",
            "What all pods of this node share.",
            labels=("direction",),
        )
        info = GaugeMetricFamily(
            "podpace_capacity_info",
            "Always 1: where the capacity is known from, or why it is not.",
            labels=("direction", "source", "detail"),
        )
        for direction in DIRECTIONS:
            found = self._capacity(direction)
            if found.bytes_per_sec is not None:
                rates.add_metric((direction,), found.bytes_per_sec)
            info.add_metric((direction, found.source, found.detail[:_DETAIL_CHARS]), 1)
        yield rates
        yield info
