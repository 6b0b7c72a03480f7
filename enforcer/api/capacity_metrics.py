"""Metrics of what a node's pods can share and book, and where that is known from."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from contract.limits import BITS_PER_BYTE
from contract.names import DIRECTIONS, Direction
from enforcer.ports import CapacityProvider
from enforcer.state import Capacity

_DETAIL_CHARS: Final = 200


class CapacityCollector(Collector):
    """May be in several registries."""

    def __init__(
        self, capacity: Callable[[Direction], Capacity], offer: CapacityProvider | None = None
    ) -> None:
        """``offer``: what the scheduler is told of it; None: nothing."""
        self._capacity = capacity
        self._offer = offer

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
        if self._offer is not None:
            yield from _booking(self._offer)


def _booking(offer: CapacityProvider) -> Iterator[Metric]:
    advertised = GaugeMetricFamily(
        "podpace_advertised_bytes_per_second",
        "What the scheduler can give to this node's pods; without a series: nothing.",
        labels=("direction",),
    )
    booked = GaugeMetricFamily(
        "podpace_booked_bytes_per_second",
        "What the scheduler has given to this node's pods.",
        labels=("direction",),
    )
    for direction in DIRECTIONS:
        bits = offer.advertised(direction)
        if bits is not None:
            advertised.add_metric((direction,), bits / BITS_PER_BYTE)
        booked.add_metric((direction,), offer.booked(direction) / BITS_PER_BYTE)
    yield advertised
    yield booked
