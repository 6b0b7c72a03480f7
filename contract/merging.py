"""What holds in a namespace, by the policies of the cluster that select it and by its own.

    Layer, Layer, … --merge--> EffectivePolicy

The cluster's bind. A namespace's own may tighten them, and set a default within their bounds;
taking it away lifts nothing that they set. Bandwidths are bits per second, bursts bits.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Generic, TypeVar

from contract import names
from contract.effective import (
    EffectiveBounds,
    EffectivePolicy,
    EffectiveRequests,
    Sourced,
)
from contract.names import Direction, GateRule, Mode, OnViolation, Require, Source
from contract.policy import Policy
from contract.selectors import EVERYTHING

_T = TypeVar("_T")
_D = TypeVar("_D")
_Word = TypeVar("_Word", bound=StrEnum)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Layer:
    """One policy and the ConfigMap that it is in."""

    namespace: str
    name: str
    source: Source
    """``CLUSTER`` or ``NAMESPACE``."""
    policy: Policy

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.name} in {self.namespace}"


def select(cluster: Iterable[Layer], labels: Mapping[str, str] | None) -> tuple[Layer, ...]:
    """The cluster's policies that hold in a namespace with ``labels``; who is heard first is first.

    That is the higher priority; at the same, those with a selector, by name. None for ``labels``
    selects all.
    """
    chosen = (c for c in cluster if labels is None or c.policy.selector.selects(labels))
    return tuple(sorted(chosen, key=_precedence))


def _precedence(layer: Layer) -> tuple[int, bool, str]:
    return -layer.policy.priority, layer.name == names.POLICY_CONFIG_MAP, layer.name


def merge(namespace: Layer | None, cluster: Sequence[Layer]) -> EffectivePolicy:
    """What holds in a namespace; ``cluster`` as :func:`select` gives it.

    Of the cluster's policies the smallest max, burst.max and total-per-node, the largest min
    and the first word on everything else hold. A namespace's own may make the first three
    smaller and min larger, within the cluster's bounds, and be stricter. Its default comes
    before the cluster's, it decides about take-over and schedule where the cluster is silent, and
    chooses among the cluster's networks.
    """
    merging = _Merging(namespace, cluster)
    return EffectivePolicy(
        ingress=merging.bounds(Direction.INGRESS),
        egress=merging.bounds(Direction.EGRESS),
        on_violation=merging.strictest(names.POLICY_ON_VIOLATION, _ON_VIOLATION),
        require=merging.strictest(names.POLICY_REQUIRE, _REQUIRE),
        take_over=merging.flag(names.POLICY_TAKE_OVER, lambda p: p.take_over),
        schedule=merging.flag(names.POLICY_SCHEDULE, lambda p: p.schedule),
        mode=merging.mode(),
        readiness_gate=merging.strictest(names.POLICY_READINESS_GATE, _GATE),
        exempt_cidrs=merging.exempt_cidrs(),
        places=merging.places,
    )


def merge_for_any(namespace: Layer | None, cluster: Sequence[Layer]) -> EffectivePolicy:
    """What holds in a namespace whose labels are not known: every policy of ``cluster`` bounds it.

    As nobody knows whether they are meant, nothing is refused that can be brought within them.
    """
    merged = merge(namespace, select(cluster, None))
    if all(layer.policy.selector == EVERYTHING for layer in cluster):
        return merged
    held = any(layer.policy.mode is Mode.ENFORCE for layer in cluster)
    return replace(
        merged,
        on_violation=OnViolation.CLAMP,
        require=Require.NONE,
        mode=Mode.ENFORCE if held else merged.mode,
        exempt_cidrs=(),
    )


@dataclass(frozen=True, slots=True)
class _Said(Generic[_T]):
    value: _T
    layer: Layer


@dataclass(frozen=True, slots=True)
class _Scale(Generic[_Word]):
    """A key whose words go from mild to strict, and what holds where nobody says one."""

    word: Callable[[Policy], _Word | None]
    mild_to_strict: tuple[_Word, ...]
    unsaid: _Word


_ON_VIOLATION: Final = _Scale(
    lambda p: p.on_violation, (OnViolation.CLAMP, OnViolation.DENY), OnViolation.DENY
)
_REQUIRE: Final = _Scale(lambda p: p.require, tuple(Require), Require.NONE)
_MODE: Final = _Scale(lambda p: p.mode, (Mode.OBSERVE, Mode.ENFORCE), Mode.ENFORCE)
_GATE: Final = _Scale(lambda p: p.readiness_gate, tuple(GateRule), GateRule.ON_REQUEST)


_Interval = tuple[Sourced | None, Sourced | None, Sourced | None]
_REQUEST_KEYS: Final = (
    names.POLICY_REQUEST_DEFAULT,
    names.POLICY_REQUEST_MIN,
    names.POLICY_REQUEST_MAX,
)


class _Merging:
    """One merge; notes the ConfigMap that each value comes from."""

    def __init__(self, namespace: Layer | None, cluster: Sequence[Layer]) -> None:
        self._own = () if namespace is None else (namespace,)
        self._cluster = cluster
        self.places: dict[str, str] = {}

    def strictest(self, key: str, scale: _Scale[_Word]) -> _Word:
        """The cluster's first word, or a stricter one of the namespace."""
        theirs = _first(self._cluster, scale.word)
        ours = _first(self._own, scale.word)
        rank = scale.mild_to_strict.index
        if theirs is None or (ours is not None and rank(ours.value) > rank(theirs.value)):
            return self._settle(key, ours, scale.unsaid)
        return self._settle(key, theirs, scale.unsaid)

    def mode(self) -> Mode:
        """As the others; a max or a total of the cluster is to be held, too."""
        bound = next((layer for layer in self._cluster if layer.policy.bounded), None)
        if bound is not None and _first(self._cluster, _MODE.word) is None:
            return self._settle(names.POLICY_MODE, _Said(Mode.ENFORCE, bound), Mode.ENFORCE)
        return self.strictest(names.POLICY_MODE, _MODE)

    def flag(self, key: str, word: Callable[[Policy], bool | None]) -> bool:
        """Neither word is stricter."""
        found = _first((*self._cluster, *self._own), word)
        return self._settle(key, found, unsaid=False)

    def exempt_cidrs(self) -> tuple[str, ...]:
        """The namespace's, within the cluster's; all of them where the cluster minds nothing."""
        theirs = _first(self._cluster, lambda p: p.exempt_cidrs)
        ours = _first(self._own, lambda p: p.exempt_cidrs)
        if ours is None:
            return self._settle(names.POLICY_EXEMPT_CIDRS, theirs, ())
        if theirs is not None or any(layer.policy.bounded for layer in self._cluster):
            allowed = [ipaddress.ip_network(n) for n in (theirs.value if theirs else ())]
            ours = _Said(tuple(n for n in ours.value if _is_within(n, allowed)), ours.layer)
        return self._settle(names.POLICY_EXEMPT_CIDRS, ours, ())

    def bounds(self, direction: Direction) -> EffectiveBounds:
        """What holds for one direction."""
        default, floor, ceiling = self._interval(direction, "")
        # Without a limit a pod would be above any max, without a request below any min.
        limits = _within(default or ceiling, floor, ceiling), floor, ceiling
        default, floor, ceiling = self._interval(direction, "request_")
        requests = _within(default or floor, floor, ceiling), floor, ceiling
        everyone = (*self._cluster, *self._own)
        total = min(self._said(everyone, direction, "total"), key=_bits, default=None)
        for keys, values in (
            ((names.POLICY_DEFAULT, names.POLICY_MIN, names.POLICY_MAX), limits),
            (_REQUEST_KEYS, requests),
            ((names.POLICY_TOTAL_PER_NODE,), (total,)),
        ):
            for key, sourced in zip(keys, values, strict=True):
                if sourced is not None:
                    self.places[f"{direction}.{key}"] = sourced.place
        burst_max = self._burst_max(direction)
        return EffectiveBounds(*limits, burst_max, total, EffectiveRequests(*requests))

    def _interval(self, direction: Direction, prefix: str) -> _Interval:
        """The default that is said, and the cluster's min and max with the namespace's within."""
        ceiling = min(self._said(self._cluster, direction, f"{prefix}max"), key=_bits, default=None)
        floor = max(self._said(self._cluster, direction, f"{prefix}min"), key=_bits, default=None)
        if floor and ceiling and _bits(floor) > _bits(ceiling):
            floor = ceiling
        for ours in self._said(self._own, direction, f"{prefix}max"):
            within = floor if floor and _bits(ours) < _bits(floor) else ours
            if ceiling is None or _bits(within) < _bits(ceiling):
                ceiling = within
        for ours in self._said(self._own, direction, f"{prefix}min"):
            if floor is None or _bits(ours) > _bits(floor):
                floor = ceiling if ceiling and _bits(ours) > _bits(ceiling) else ours
        said = self._said((*self._own, *self._cluster), direction, f"{prefix}default")
        return next(said, None), floor, ceiling

    def _burst_max(self, direction: Direction) -> int | None:
        said = [
            _Said(bits, layer)
            for layer in (*self._cluster, *self._own)
            if (bits := layer.policy.of(direction).burst_max) is not None
        ]
        least = min(said, key=lambda s: s.value, default=None)
        return self._settle(f"{direction}.{names.POLICY_BURST_MAX}", least, None)

    def _said(self, layers: Iterable[Layer], direction: Direction, bound: str) -> Iterator[Sourced]:
        for layer in layers:
            bits = getattr(layer.policy.of(direction), bound)
            if bits is not None:
                yield Sourced(bits, layer.source, layer.place)

    def _settle(self, key: str, found: _Said[_T] | None, unsaid: _D) -> _T | _D:
        if found is None:
            return unsaid
        self.places[key] = found.layer.place
        return found.value


def _first(layers: Iterable[Layer], word: Callable[[Policy], _T | None]) -> _Said[_T] | None:
    for layer in layers:
        value = word(layer.policy)
        if value is not None:
            return _Said(value, layer)
    return None


def _within(
    default: Sourced | None, floor: Sourced | None, ceiling: Sourced | None
) -> Sourced | None:
    if default and ceiling and _bits(default) > _bits(ceiling):
        default = ceiling
    if default and floor and _bits(default) < _bits(floor):
        default = floor
    return default


def _bits(sourced: Sourced) -> int:
    return sourced.bits_per_second


def _is_within(text: str, networks: Iterable[_Network]) -> bool:
    inner = ipaddress.ip_network(text)
    return any(
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and inner.supernet(new_prefix=outer.prefixlen) == outer
        for outer in networks
    )
