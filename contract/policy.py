"""Policy: what a cluster and a namespace say about the limits of pods.

    ConfigMap data --parse_policy--> Policy --merge--> EffectivePolicy

A namespace may tighten what the cluster says, never loosen it. All bandwidths are bits per second,
bursts bits.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from contract import names
from contract.names import Direction, GateRule, Mode, OnViolation, Require, Source
from contract.networks import MAX_TEXTS, parse_cidrs
from contract.problems import KEY_CHARS, Problem, clip
from contract.quantity import (
    format_bits_per_second,
    parse_bits_per_second,
    parse_burst_bits,
)
from contract.unknown import MAX_UNKNOWN, Unknown, Vocabulary

_Parsed = TypeVar("_Parsed")
_Word = TypeVar("_Word", bound=StrEnum)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Bounds:
    """One direction of one policy; None means that this policy says nothing."""

    default: int | None = None
    min: int | None = None
    max: int | None = None
    burst_max: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One ConfigMap; None means that it says nothing."""

    ingress: Bounds = field(default=Bounds())
    egress: Bounds = field(default=Bounds())
    on_violation: OnViolation | None = None
    require: Require | None = None
    take_over: bool | None = None
    mode: Mode | None = None
    readiness_gate: GateRule | None = None
    exempt_cidrs: tuple[str, ...] | None = None

    def of(self, direction: Direction) -> Bounds:
        """The bounds of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def bounded(self) -> bool:
        """Whether this policy sets a largest limit for some direction."""
        return self.ingress.max is not None or self.egress.max is not None


@dataclass(frozen=True, slots=True)
class Sourced:
    """A bandwidth and the policy it came from."""

    bits_per_second: int
    source: Source


@dataclass(frozen=True, slots=True)
class EffectiveBounds:
    """One direction after merging. ``default`` lies within ``min`` and ``max``.

    Where there is a ``max`` there is a ``default``: without a limit a pod would be above any max.
    """

    default: Sourced | None = None
    min: Sourced | None = None
    max: Sourced | None = None
    burst_max: int | None = None


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for the pods of one namespace."""

    ingress: EffectiveBounds = field(default=EffectiveBounds())
    egress: EffectiveBounds = field(default=EffectiveBounds())
    on_violation: OnViolation = OnViolation.DENY
    require: Require = Require.NONE
    take_over: bool = False
    mode: Mode = Mode.ENFORCE
    readiness_gate: GateRule = GateRule.ON_REQUEST
    exempt_cidrs: tuple[str, ...] = ()

    def of(self, direction: Direction) -> EffectiveBounds:
        """The bounds of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


NO_POLICY: Final = Policy()

_BOUND_PARSERS: Final[dict[str, Callable[[str, str], int | Problem]]] = {
    names.POLICY_DEFAULT: parse_bits_per_second,
    names.POLICY_MIN: parse_bits_per_second,
    names.POLICY_MAX: parse_bits_per_second,
    names.POLICY_BURST_MAX: parse_burst_bits,
}
POLICY_KEYS: Final = (
    *(f"{direction}.{bound}" for direction in Direction for bound in _BOUND_PARSERS),
    names.POLICY_ON_VIOLATION,
    names.POLICY_REQUIRE,
    names.POLICY_TAKE_OVER,
    names.POLICY_MODE,
    names.POLICY_READINESS_GATE,
    names.POLICY_EXEMPT_CIDRS,
)

_KNOWN: Final = frozenset(POLICY_KEYS)
_VOCABULARY: Final = Vocabulary(POLICY_KEYS)
_UNREAD: Final = "is a key that this version of podpace does not know; it has no effect"


def parse_policy(data: Mapping[str, str]) -> tuple[Policy, tuple[Problem, ...]]:
    """What a ConfigMap's ``data`` says and everything that is wrong with it.

    A value that cannot be read counts as not written, so even a bad policy is usable.
    """
    problems: list[Problem] = []

    def keep(value: _Parsed | Problem | None) -> _Parsed | None:
        if isinstance(value, Problem):
            problems.append(value)
            return None
        return value

    problems.extend(_unknown_keys(data))
    bounds = {}
    for direction in Direction:
        values = {
            bound: keep(parse(key, data[key].strip()))
            if (key := f"{direction}.{bound}") in data
            else None
            for bound, parse in _BOUND_PARSERS.items()
        }
        bounds[direction] = Bounds(
            values[names.POLICY_DEFAULT],
            values[names.POLICY_MIN],
            values[names.POLICY_MAX],
            values[names.POLICY_BURST_MAX],
        )
        problems.extend(_out_of_order(direction, bounds[direction], data))
    policy = Policy(
        ingress=bounds[Direction.INGRESS],
        egress=bounds[Direction.EGRESS],
        on_violation=keep(_word(data, names.POLICY_ON_VIOLATION, OnViolation)),
        require=keep(_word(data, names.POLICY_REQUIRE, Require)),
        take_over=keep(_flag(data, names.POLICY_TAKE_OVER)),
        mode=keep(_word(data, names.POLICY_MODE, Mode)),
        readiness_gate=keep(_word(data, names.POLICY_READINESS_GATE, GateRule)),
        exempt_cidrs=_cidrs(data, problems),
    )
    return policy, tuple(problem.shortened() for problem in problems)


def unread_keys(data: Mapping[str, str]) -> tuple[str, ...]:
    """Keys that say nothing here, and are no mistake that we know of: a newer version's, perhaps.

    Each with that, for people; at most a few.
    """
    return tuple(f"{clip(key, KEY_CHARS)} {_UNREAD}" for key in _unknown(data).others)


def _unknown_keys(data: Mapping[str, str]) -> list[Problem]:
    unknown = _unknown(data)
    found = [
        Problem(key, data[key], "is under a key that policies do not have", f"write {right}")
        for key, right in unknown.misspelt
    ]
    if unknown.too_many:
        reason = f"are more than {MAX_UNKNOWN} keys that policies do not have"
        found.append(Problem("data", "", reason, "write what is no policy somewhere else"))
    return found


def _unknown(data: Mapping[str, str]) -> Unknown:
    return _VOCABULARY.sort(key for key in data if key not in _KNOWN)


def _word(data: Mapping[str, str], key: str, words: type[_Word]) -> _Word | Problem | None:
    text = data.get(key)
    if text is None:
        return None
    try:
        return words(text.strip())
    except ValueError:
        choices = " or ".join(words)
        return Problem(key, text, "is not one of the words it may be", f"write {choices}")


def _flag(data: Mapping[str, str], key: str) -> bool | Problem | None:
    text = data.get(key)
    if text is None:
        return None
    if text.strip() in ("true", "false"):
        return text.strip() == "true"
    return Problem(key, text, "is not true or false", 'write "true" or "false"')


def _cidrs(data: Mapping[str, str], problems: list[Problem]) -> tuple[str, ...] | None:
    text = data.get(names.POLICY_EXEMPT_CIDRS)
    if text is None:
        return None
    parts = filter(None, map(str.strip, text.split(",", MAX_TEXTS)))
    networks, found = parse_cidrs(names.POLICY_EXEMPT_CIDRS, parts)
    problems.extend(found)
    return networks


def _out_of_order(direction: Direction, bounds: Bounds, data: Mapping[str, str]) -> list[Problem]:
    """``min`` <= ``default`` <= ``max`` within one policy."""
    found = []
    for low, high in (("min", "max"), ("min", "default"), ("default", "max")):
        below, above = getattr(bounds, low), getattr(bounds, high)
        if below is not None and above is not None and below > above:
            key = f"{direction}.{low}"
            found.append(
                Problem(
                    key,
                    data[key],
                    f"is above {direction}.{high}, {format_bits_per_second(above)}",
                    f"lower {key} or raise {direction}.{high}",
                )
            )
    return found


def merge(namespace: Policy, cluster: Policy) -> EffectivePolicy:
    """What holds in a namespace.

    The smaller max, the larger min, the smaller burst.max and the stricter require hold. Defaults,
    on-violation, take-over and readiness-gate: the namespace's, else the cluster's. A namespace
    cannot undo a cluster's mode or exempt-cidrs, nor get round its max by either of them.
    """
    return EffectivePolicy(
        ingress=_merge_bounds(namespace.ingress, cluster.ingress),
        egress=_merge_bounds(namespace.egress, cluster.egress),
        on_violation=namespace.on_violation or cluster.on_violation or OnViolation.DENY,
        require=max(
            (p.require or Require.NONE for p in (namespace, cluster)), key=list(Require).index
        ),
        take_over=next(
            (p.take_over for p in (namespace, cluster) if p.take_over is not None), False
        ),
        mode=_merge_mode(namespace, cluster),
        readiness_gate=namespace.readiness_gate or cluster.readiness_gate or GateRule.ON_REQUEST,
        exempt_cidrs=_merge_cidrs(namespace, cluster),
    )


def _merge_bounds(namespace: Bounds, cluster: Bounds) -> EffectiveBounds:
    both = ((namespace, Source.NAMESPACE), (cluster, Source.CLUSTER))

    def said(bound: str) -> list[Sourced]:
        return [
            Sourced(value, source)
            for bounds, source in both
            if (value := getattr(bounds, bound)) is not None
        ]

    ceiling = min(said("max"), key=lambda s: s.bits_per_second, default=None)
    floor = max(said("min"), key=lambda s: s.bits_per_second, default=None)
    if floor and ceiling and floor.bits_per_second > ceiling.bits_per_second:
        floor = ceiling
    default = next(iter(said("default")), ceiling)
    if default and ceiling and default.bits_per_second > ceiling.bits_per_second:
        default = ceiling
    if default and floor and default.bits_per_second < floor.bits_per_second:
        default = floor
    bursts = [b.burst_max for b, _ in both if b.burst_max is not None]
    return EffectiveBounds(default, floor, ceiling, min(bursts, default=None))


def _merge_mode(namespace: Policy, cluster: Policy) -> Mode:
    cluster_mode = cluster.mode or (Mode.ENFORCE if cluster.bounded else None)
    if cluster_mode is Mode.ENFORCE:
        return Mode.ENFORCE
    return namespace.mode or cluster_mode or Mode.ENFORCE


def _merge_cidrs(namespace: Policy, cluster: Policy) -> tuple[str, ...]:
    if namespace.exempt_cidrs is None:
        return cluster.exempt_cidrs or ()
    if cluster.exempt_cidrs is None and not cluster.bounded:
        return namespace.exempt_cidrs
    allowed = [ipaddress.ip_network(n) for n in cluster.exempt_cidrs or ()]
    return tuple(
        text
        for text in namespace.exempt_cidrs
        if any(_within(ipaddress.ip_network(text), network) for network in allowed)
    )


def _within(inner: _Network, outer: _Network) -> bool:
    if inner.version != outer.version or inner.prefixlen < outer.prefixlen:
        return False
    return inner.supernet(new_prefix=outer.prefixlen) == outer
