"""Pure: what nodes and namespaces on them have, what is guaranteed, used, and who uses most.

Of two readings of each enforcer's metrics: rates are what happened between them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from client.kube.rates import Key, elapsed_seconds
from contract.limits import BITS_PER_BYTE, namespace_group
from contract.names import DIRECTIONS, Direction
from contract.stats import READ_AT

NODE: Final = "node"
"""The group of all pods of a node, whose total is its capacity."""
_MOST: Final = 3
_TOTAL: Final = "podpace_group_total_bytes_per_second"
_REQUESTED: Final = "podpace_group_requested_bytes_per_second"
_USED: Final = "podpace_group_used_bytes_total"
_MEMBERS: Final = "podpace_group_members"
_SHORT_SINCE: Final = "podpace_group_short_since_timestamp_seconds"
_UNSHARED: Final = "podpace_node_unshared_bytes_per_second"
_CAPACITY: Final = "podpace_capacity_bytes_per_second"
_CAPACITY_INFO: Final = "podpace_capacity_info"
_BOOKED: Final = "podpace_booked_bytes_per_second"
_ADVERTISED: Final = "podpace_advertised_bytes_per_second"
_BYTES: Final = ("podpace_uplink_bytes_total", "podpace_passed_bytes_total")
"""What a pod moved: at the uplink, where that is counted, else all of it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One enforcer's metrics, as far as they tell of groups."""

    groups: Mapping[tuple[str, Direction], Mapping[str, float]] = field(default_factory=dict)
    """By the metric's name."""
    unshared: Mapping[Direction, float] = field(default_factory=dict)
    capacity: Mapping[Direction, tuple[str, str]] = field(default_factory=dict)
    """Where the capacity is from, and what more is known of that."""
    pods: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    booking: Mapping[tuple[str, Direction], float] = field(default_factory=dict)
    """By the metric's name and direction: what the scheduler has, and has given."""
    read_at: float | None = None
    """Unix time; None: not told."""


@dataclass(frozen=True, slots=True)
class User:
    """A pod, and what it used between two readings."""

    pod: str
    """``NAMESPACE/NAME``."""
    bits_per_second: float


@dataclass(frozen=True, slots=True)
class Group:
    """One direction of a node, or of a namespace on it; rates in bits per second."""

    node: str
    group: str
    """``node``, ``namespace:NAME`` or ``group:NAME``."""
    direction: Direction
    total_bits_per_second: float | None
    """Its capacity, or the policy's total; None: not known, so not shared."""
    source: str
    """Of a node's capacity: ``annotation``, ``option``, ``device`` or ``unknown``, and more."""
    members: int
    requested_bits_per_second: float
    """Guaranteed to its pods."""
    used_bits_per_second: float
    unshared_bits_per_second: float
    """Of the node's own traffic and of exempt networks: nobody shares that."""
    short_since: float | None
    """Unix time; None: there is enough for all."""
    most: tuple[User, ...]
    """Who uses most."""
    booked_bits_per_second: float | None = None
    """Of a node: what the scheduler has given to its pods; None: its enforcer tells it nothing."""
    schedulable_bits_per_second: float | None = None
    """Of a node: what the scheduler has to give in all; None: nothing."""


def read_page(text: str) -> Page:
    """Raises ``ValueError`` when it is not Prometheus' text format."""
    from prometheus_client.parser import text_string_to_metric_families

    groups: dict[tuple[str, Direction], dict[str, float]] = {}
    unshared: dict[Direction, float] = {}
    capacity: dict[Direction, tuple[str, str]] = {}
    pods: dict[Key, dict[str, float]] = {}
    booking: dict[tuple[str, Direction], float] = {}
    read_at = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            if sample.name == READ_AT:
                read_at = value
            if labels.get("direction", "") not in tuple(Direction):
                continue
            direction = Direction(labels["direction"])
            kind, _, pod = labels.get("target", "").partition(":")
            if kind == "pod":
                pods.setdefault((pod, direction), {})[sample.name] = value
            elif "group" in labels:
                groups.setdefault((labels["group"], direction), {})[sample.name] = value
            elif sample.name in (_BOOKED, _ADVERTISED):
                booking[sample.name, direction] = value
            elif sample.name == _UNSHARED:
                unshared[direction] = value
            elif sample.name == _CAPACITY:
                groups.setdefault((NODE, direction), {})[_TOTAL] = value
            elif sample.name == _CAPACITY_INFO and value:
                groups.setdefault((NODE, direction), {})
                capacity[direction] = (labels.get("source", ""), labels.get("detail", ""))
    return Page(groups, unshared, capacity, pods, booking, read_at)


def make_groups(
    before: Mapping[str, Page], after: Mapping[str, Page], asked: float
) -> tuple[Group, ...]:
    """The nodes' directions, each before its namespaces'; ``asked``: seconds between answers."""
    return tuple(
        _group(node, group, direction, was, page, seconds=seconds)
        for node, page in sorted(after.items())
        for was in [before.get(node, Page())]
        for seconds in [elapsed_seconds(was.read_at, page.read_at, asked)]
        for group, direction in sorted(page.groups, key=_order)
    )


def _order(key: tuple[str, Direction]) -> tuple[bool, str, int]:
    group, direction = key
    return group != NODE, group, DIRECTIONS.index(direction)


def _group(
    node: str, group: str, direction: Direction, before: Page, page: Page, *, seconds: float
) -> Group:
    values = page.groups[group, direction]
    was = before.groups.get((group, direction), values)
    used = _used(before, page, seconds)
    of_node = group == NODE
    source, detail = page.capacity.get(direction, ("", "")) if of_node else ("policy", "")
    total = values.get(_TOTAL)

    def booking(name: str) -> float | None:
        rate = page.booking.get((name, direction)) if of_node else None
        return None if rate is None else rate * BITS_PER_BYTE

    return Group(
        node=node,
        group=group,
        direction=direction,
        total_bits_per_second=None if total is None else total * BITS_PER_BYTE,
        source=f"{source}: {detail}" if detail else source,
        members=int(values.get(_MEMBERS, 0)),
        requested_bits_per_second=values.get(_REQUESTED, 0.0) * BITS_PER_BYTE,
        used_bits_per_second=_rate(was, values, _USED, seconds),
        unshared_bits_per_second=page.unshared.get(direction, 0.0) * BITS_PER_BYTE
        if of_node
        else 0.0,
        short_since=values.get(_SHORT_SINCE) or None,
        most=_most(
            (pod, rate)
            for (pod, way), rate in used.items()
            if way is direction and (of_node or group == namespace_group(pod.partition("/")[0]))
        ),
        booked_bits_per_second=booking(_BOOKED),
        schedulable_bits_per_second=booking(_ADVERTISED),
    )


def _most(used: Iterable[tuple[str, float]]) -> tuple[User, ...]:
    ranked = sorted(used, key=lambda one: (-one[1], one[0]))
    return tuple(User(pod, rate) for pod, rate in ranked[:_MOST] if rate > 0)


def _used(before: Page, after: Page, seconds: float) -> dict[Key, float]:
    """Bits per second of each pod."""
    found = {}
    for key, now in after.pods.items():
        was = before.pods.get(key, now)
        name = next((name for name in _BYTES if name in now), None)
        if name is not None:
            found[key] = _rate(was, now, name, seconds)
    return found


def _rate(was: Mapping[str, float], now: Mapping[str, float], name: str, seconds: float) -> float:
    """Bits per second. Fewer than before: it was attached anew in between, and counts from zero."""
    return max(0.0, now.get(name, 0.0) - was.get(name, 0.0)) * BITS_PER_BYTE / seconds
