"""Policy: what one ConfigMap says about the limits of pods.

    ConfigMap data --parse_policy--> Policy --merging.merge--> EffectivePolicy

All bandwidths are bits per second, bursts bits.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Final, TypeVar

from contract import names
from contract.names import Direction, GateRule, Mode, OnViolation, Require
from contract.networks import MAX_TEXTS, parse_cidrs
from contract.problems import KEY_CHARS, Problem, clip
from contract.quantity import (
    format_bits_per_second,
    parse_bits_per_second,
    parse_burst_bits,
)
from contract.selectors import EVERYTHING, NOTHING, Selector, parse_selector
from contract.unknown import MAX_UNKNOWN, Unknown, Vocabulary

_Parsed = TypeVar("_Parsed")
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Bounds:
    """One direction of one policy; None means that this policy says nothing."""

    default: int | None = None
    min: int | None = None
    max: int | None = None
    burst_max: int | None = None
    total: int | None = None
    """Of all pods of a namespace together, on each node."""
    request_default: int | None = None
    request_min: int | None = None
    request_max: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One ConfigMap; None means that it says nothing."""

    ingress: Bounds = field(default=Bounds())
    egress: Bounds = field(default=Bounds())
    on_violation: OnViolation | None = None
    require: Require | None = None
    take_over: bool | None = None
    schedule: bool | None = None
    mode: Mode | None = None
    readiness_gate: GateRule | None = None
    exempt_cidrs: tuple[str, ...] | None = None
    selector: Selector = EVERYTHING
    """The namespaces that it is about; a namespace's own is about that one."""
    priority: int = 0
    """Among the cluster's; the higher is heard first."""

    def of(self, direction: Direction) -> Bounds:
        """The bounds of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def bounded(self) -> bool:
        """Whether this policy sets a largest limit, or a total, for some direction."""
        both = (self.ingress, self.egress)
        return any(said.max is not None or said.total is not None for said in both)

    @property
    def silent(self) -> bool:
        """Whether this policy says nothing."""
        return replace(self, selector=EVERYTHING, priority=0) == NO_POLICY


NO_POLICY: Final = Policy()

# In the order of the fields of Bounds.
_BOUND_PARSERS: Final[dict[str, Callable[[str, str], int | Problem]]] = {
    names.POLICY_DEFAULT: parse_bits_per_second,
    names.POLICY_MIN: parse_bits_per_second,
    names.POLICY_MAX: parse_bits_per_second,
    names.POLICY_BURST_MAX: parse_burst_bits,
    names.POLICY_TOTAL_PER_NODE: parse_bits_per_second,
    names.POLICY_REQUEST_DEFAULT: parse_bits_per_second,
    names.POLICY_REQUEST_MIN: parse_bits_per_second,
    names.POLICY_REQUEST_MAX: parse_bits_per_second,
}
NAMESPACE_KEYS: Final = (
    *(f"{direction}.{bound}" for direction in Direction for bound in _BOUND_PARSERS),
    names.POLICY_ON_VIOLATION,
    names.POLICY_REQUIRE,
    names.POLICY_TAKE_OVER,
    names.POLICY_SCHEDULE,
    names.POLICY_MODE,
    names.POLICY_READINESS_GATE,
    names.POLICY_EXEMPT_CIDRS,
)
"""What every policy may say."""
POLICY_KEYS: Final = (*NAMESPACE_KEYS, names.POLICY_NAMESPACE_SELECTOR, names.POLICY_PRIORITY)
"""What some policy may say."""
_PRIORITY: Final = re.compile(r"[+-]?[0-9]{1,9}")
_CLUSTERS_ONLY: Final = "is for the cluster's policies only"

_KNOWN: Final = frozenset(POLICY_KEYS)
_VOCABULARY: Final = Vocabulary(POLICY_KEYS)
_UNREAD: Final = "is a key that this version of podpace does not know; it has no effect"


class Scope(Enum):
    """Whom a policy is about."""

    NAMESPACE = "the namespace that it is in"
    CLUSTER = "all namespaces"
    SELECTED = "the namespaces that it selects"


def scope_of(
    namespace: str, name: str, labels: Mapping[str, str], release_namespace: str
) -> Scope | None:
    """What kind of policy a ConfigMap is; None: it is none."""
    ours = namespace == release_namespace
    if name == names.POLICY_CONFIG_MAP:
        return Scope.CLUSTER if ours else Scope.NAMESPACE
    labelled = labels.get(names.LABEL_POLICY) == names.LABEL_POLICY_VALUE
    return Scope.SELECTED if ours and labelled else None


def parse_policy(
    data: Mapping[str, str], scope: Scope = Scope.NAMESPACE
) -> tuple[Policy, tuple[Problem, ...]]:
    """What a ConfigMap's ``data`` says and everything that is wrong with it.

    A value that cannot be read counts as not written, so even a bad policy is usable; one whose
    selector cannot be read selects nothing.
    """
    problems: list[Problem] = []
    unread = NOTHING if scope is Scope.SELECTED else EVERYTHING

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
        bounds[direction] = Bounds(*values.values())
        problems.extend(_out_of_order(direction, bounds[direction], data))
    policy = Policy(
        ingress=bounds[Direction.INGRESS],
        egress=bounds[Direction.EGRESS],
        on_violation=keep(_word(data, names.POLICY_ON_VIOLATION, OnViolation)),
        require=keep(_word(data, names.POLICY_REQUIRE, Require)),
        take_over=keep(_flag(data, names.POLICY_TAKE_OVER)),
        schedule=keep(_flag(data, names.POLICY_SCHEDULE)),
        mode=keep(_word(data, names.POLICY_MODE, Mode)),
        readiness_gate=keep(_word(data, names.POLICY_READINESS_GATE, GateRule)),
        exempt_cidrs=_cidrs(data, problems),
        selector=keep(_selector(data, scope)) or unread,
        priority=keep(_priority(data, scope)) or 0,
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


def _selector(data: Mapping[str, str], scope: Scope) -> Selector | Problem:
    key = names.POLICY_NAMESPACE_SELECTOR
    text = data.get(key)
    if text is None:
        return EVERYTHING
    match scope:
        case Scope.NAMESPACE:
            return Problem(key, text, _CLUSTERS_ONLY, "remove it")
        case Scope.CLUSTER:
            reason = f"has no place in {names.POLICY_CONFIG_MAP}, which is about all namespaces"
            label = f"{names.LABEL_POLICY}={names.LABEL_POLICY_VALUE}"
            return Problem(key, text, reason, f"write another ConfigMap here, labelled {label}")
        case Scope.SELECTED:
            fix = "write one as for kubectl get -l, such as tier in (free,trial)"
            return parse_selector(text) or Problem(key, text, "is not a label selector", fix)


def _priority(data: Mapping[str, str], scope: Scope) -> int | Problem:
    key = names.POLICY_PRIORITY
    text = data.get(key)
    if text is None:
        return 0
    if scope is Scope.NAMESPACE:
        return Problem(key, text, _CLUSTERS_ONLY, "remove it")
    if _PRIORITY.fullmatch(text.strip()) is None:
        return Problem(key, text, "is not a whole number", "write one such as 10; the higher wins")
    return int(text)


def _cidrs(data: Mapping[str, str], problems: list[Problem]) -> tuple[str, ...] | None:
    text = data.get(names.POLICY_EXEMPT_CIDRS)
    if text is None:
        return None
    parts = filter(None, map(str.strip, text.split(",", MAX_TEXTS)))
    networks, found = parse_cidrs(names.POLICY_EXEMPT_CIDRS, parts)
    problems.extend(found)
    return networks


def _out_of_order(direction: Direction, bounds: Bounds, data: Mapping[str, str]) -> list[Problem]:
    """``min`` <= ``default`` <= ``max`` within one policy, of limits and of requests."""
    found = []
    pairs = (("min", "max"), ("min", "default"), ("default", "max"))
    for low, high in (*pairs, *((f"request.{a}", f"request.{b}") for a, b in pairs)):
        below, above = (getattr(bounds, key.replace(".", "_")) for key in (low, high))
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
