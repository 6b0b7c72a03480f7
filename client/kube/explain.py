"""Pure: where a pod's limits came from. Compares its labels with its annotations and the policies;
decides nothing itself."""

from dataclasses import dataclass

from client.kube.pods import PodLimits
from client.kube.policies import Policies
from contract import names
from contract.effective import EffectivePolicy, Sourced
from contract.merging import Layer, merge
from contract.names import (
    DIRECTIONS,
    RATE_KEYS,
    REQUEST_KEYS,
    STANDARD_RATE_KEYS,
    Direction,
    Source,
)
from contract.policy import Policy
from contract.quantity import format_bits_per_second
from contract.reading import read
from contract.resolution import Cause, Requested, Resolved, resolve


@dataclass(frozen=True, slots=True)
class Explained:
    """One direction."""

    direction: Direction
    bits_per_second: int | None
    """What the pod's label says; None: not limited."""
    because: str
    """Why that, in a sentence."""
    asked: str
    """``KEY: "TEXT"``, or that the pod asks for nothing."""
    guaranteed: str = ""
    """What is guaranteed of that, and by whose word; empty: nothing."""
    booked: str = ""
    """What the scheduler keeps for it, or why it keeps nothing; empty: nothing is to be booked."""
    shares: str = ""
    """Whose total it is bounded by, in a sentence; empty: by none."""


@dataclass(frozen=True, slots=True)
class Value:
    """What holds for one key of policies, and the ConfigMap that says it."""

    key: str
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One policy."""

    place: str
    priority: int
    namespaces: str
    """``all``, the name of its own, or a label selector."""
    says: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One pod."""

    pod: PodLimits
    directions: tuple[Explained, ...]
    values: tuple[Value, ...]
    policies: tuple[PolicyText, ...]
    """Who is heard first is first; the namespace's own comes last."""
    problems: tuple[str, ...]
    """What of the policies cannot be read."""


def explain(pod: PodLimits, policies: Policies) -> Explanation:
    """Merges and resolves as the webhook does, and says why the labels are what they are."""
    effective = merge(policies.own, policies.cluster)
    resolution = resolve(read(pod.annotations, bookings=pod.bookings), effective)
    directions = tuple(
        Explained(
            direction,
            None if (limit := pod.of(direction)) is None else limit.bits_per_second,
            _because(pod, direction, resolution.of(direction), effective, policies),
            _asked(pod, direction),
            _guaranteed(pod, direction, resolution.request(direction)),
            _booked(pod, direction, effective),
            _shares(pod, direction, effective.of(direction).total),
        )
        for direction in DIRECTIONS
    )
    layers = (*policies.cluster, *((policies.own,) if policies.own else ()))
    return Explanation(
        pod, directions, _values(effective), tuple(map(_text, layers)), policies.problems
    )


def _asked(pod: PodLimits, direction: Direction) -> str:
    keys = (RATE_KEYS[direction], STANDARD_RATE_KEYS[direction], REQUEST_KEYS[direction])
    written = [f'{k}: "{pod.annotations[k]}"' for k in keys if k in pod.annotations]
    return ", ".join(written) or "nothing"


def _guaranteed(pod: PodLimits, direction: Direction, request: Requested | None) -> str:
    bits = pod.sharing(direction).request_bits_per_second
    expected = 0 if request is None else request.bits_per_second
    if not bits and not expected:
        return ""
    text = f"{format_bits_per_second(bits)} guaranteed" if bits else "nothing is guaranteed"
    if bits != expected or request is None:
        return f"{text}; annotations and policies that you can read say otherwise by now"
    bound = request.bound
    if request.cause is Cause.ASKED:
        return f"{text}: the pod asks for it ({request.origin})"
    if request.cause is Cause.BOOKED:
        return f"{text}: it is what is booked, which cannot be more while the pod runs"
    if bound is None:
        return f"{text}: all of its limit"
    what = {Cause.LOWERED: "maximum", Cause.RAISED: "minimum"}.get(request.cause, "default")
    return f"{text}: it is {_whose(bound, what)}"


def _booked(pod: PodLimits, direction: Direction, effective: EffectivePolicy) -> str:
    bits, requested = pod.bookings.of(direction), pod.sharing(direction).request_bits_per_second
    if bits is not None:
        ours = direction in pod.bookings.by_webhook
        whose = "by the webhook, when it was created" if ours else "by its containers' resources"
        return f"{format_bits_per_second(bits)} booked with the scheduler, {whose}"
    if requested and effective.schedule:
        return "nothing is booked with the scheduler: see its warnings, or create the pod anew"
    return "nothing is booked with the scheduler: no policy says schedule" if requested else ""


def _shares(pod: PodLimits, direction: Direction, total: Sourced | None) -> str:
    bits = pod.sharing(direction).total_bits_per_second
    if bits is None:
        missing = "all pods here should share, and this one does not yet"
        return "" if total is None else f"by {_whose(total, 'total')} {missing}"
    text = f"{format_bits_per_second(bits)} for all pods of {pod.namespace} on its node together"
    if total is None or total.bits_per_second != bits:
        return f"{text}; the policies that you can read say otherwise by now"
    return f"{text}: it is {_whose(total, 'total')}"


def _because(
    pod: PodLimits,
    direction: Direction,
    resolved: Resolved | None,
    effective: EffectivePolicy,
    policies: Policies,
) -> str:
    limit = pod.of(direction)
    bits = None if limit is None else limit.bits_per_second
    expected = None if resolved is None else resolved.limit.bits_per_second
    if bits == expected:
        return _reason(resolved, effective.of(direction).max)
    if not policies.complete:
        return "the cluster's policies decided, which you may not read"
    now = "no limit" if expected is None else format_bits_per_second(expected)
    if policies.left_out:
        return (
            f"annotations and policies say {now}, but the namespace is left out of podpace: nobody "
            "writes its pods' labels"
        )
    return (
        f"annotations and policies now say {now}: they changed while no webhook looked; the audit, "
        "if it is on, corrects the labels within a minute, and so does any edit of a bandwidth "
        "annotation"
    )


def _reason(resolved: Resolved | None, most: Sourced | None) -> str:
    if resolved is None:
        return "neither the pod nor a policy sets a limit"
    bound, key = resolved.bound, resolved.origin
    if bound is None:
        return f"the pod asks for it ({key})"
    if resolved.cause is Cause.LOWERED:
        return f"{key} is above {_whose(bound, 'maximum')}, and was brought down to it"
    if resolved.cause is Cause.RAISED:
        return f"{key} is below {_whose(bound, 'minimum')}, and was raised to it"
    at_max = most is not None and most.bits_per_second == bound.bits_per_second
    what = "maximum, which holds for pods that ask for nothing" if at_max else "default"
    return f"it is {_whose(bound, what)}"


def _whose(sourced: Sourced, what: str) -> str:
    return f"the {sourced.source}'s {what} ({sourced.place})"


def _values(effective: EffectivePolicy) -> tuple[Value, ...]:
    texts = _words(effective)
    for direction in DIRECTIONS:
        bounds = effective.of(direction)
        default, least, most = map(_bits, (bounds.default, bounds.min, bounds.max))
        texts |= _bounds(direction, default, least, most, burst_max=bounds.burst_max)
        texts |= _total(direction, _bits(bounds.total))
        default, least, most = map(
            _bits, (bounds.request.default, bounds.request.min, bounds.request.max)
        )
        texts |= _requests(direction, default, least, most)
    return tuple(Value(key, texts[key], place) for key, place in sorted(effective.places.items()))


def _text(layer: Layer) -> PolicyText:
    policy = layer.policy
    texts = _words(policy)
    for direction in DIRECTIONS:
        said = policy.of(direction)
        texts |= _bounds(direction, said.default, said.min, said.max, burst_max=said.burst_max)
        texts |= _total(direction, said.total)
        texts |= _requests(direction, said.request_default, said.request_min, said.request_max)
    says = ", ".join(f"{key} {text}" for key, text in sorted(texts.items()))
    about = layer.namespace if layer.source is Source.NAMESPACE else policy.selector.text or "all"
    return PolicyText(layer.place, policy.priority, about, says or "nothing")


def _words(policy: Policy | EffectivePolicy) -> dict[str, str]:
    said: dict[str, str | bool | None] = {
        names.POLICY_ON_VIOLATION: policy.on_violation,
        names.POLICY_REQUIRE: policy.require,
        names.POLICY_TAKE_OVER: policy.take_over,
        names.POLICY_SCHEDULE: policy.schedule,
        names.POLICY_MODE: policy.mode,
        names.POLICY_READINESS_GATE: policy.readiness_gate,
    }
    texts = {key: str(word).lower() for key, word in said.items() if word is not None}
    if policy.exempt_cidrs is not None:
        texts[names.POLICY_EXEMPT_CIDRS] = ", ".join(policy.exempt_cidrs) or "none"
    return texts


def _bits(sourced: Sourced | None) -> int | None:
    return None if sourced is None else sourced.bits_per_second


def _bounds(
    direction: Direction,
    default: int | None,
    least: int | None,
    most: int | None,
    *,
    burst_max: int | None,
) -> dict[str, str]:
    rates = {names.POLICY_DEFAULT: default, names.POLICY_MIN: least, names.POLICY_MAX: most}
    texts = {
        f"{direction}.{bound}": format_bits_per_second(bits)
        for bound, bits in rates.items()
        if bits is not None
    }
    if burst_max is not None:
        texts[f"{direction}.{names.POLICY_BURST_MAX}"] = f"{burst_max} bits"
    return texts


def _total(direction: Direction, bits: int | None) -> dict[str, str]:
    key = f"{direction}.{names.POLICY_TOTAL_PER_NODE}"
    return {} if bits is None else {key: format_bits_per_second(bits)}


def _requests(
    direction: Direction, default: int | None, least: int | None, most: int | None
) -> dict[str, str]:
    values = {
        names.POLICY_REQUEST_DEFAULT: default,
        names.POLICY_REQUEST_MIN: least,
        names.POLICY_REQUEST_MAX: most,
    }
    return {
        f"{direction}.{key}": format_bits_per_second(bits)
        for key, bits in values.items()
        if bits is not None
    }
