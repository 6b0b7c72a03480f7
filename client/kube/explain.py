"""Pure: where a pod's limits came from. Compares its labels with its annotations and the policies;
decides nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from client.kube.pods import PodLimits
from contract.names import (
    DIRECTIONS,
    POLICY_CONFIG_MAP,
    RATE_KEYS,
    STANDARD_RATE_KEYS,
    Direction,
    Source,
)
from contract.policy import Bounds, EffectiveBounds, Policy, Sourced, merge, parse_policy
from contract.quantity import format_bits_per_second
from contract.reading import read
from contract.resolution import Cause, Resolved, resolve


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
    namespace_policy: str
    cluster_policy: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One pod."""

    pod: PodLimits
    directions: tuple[Explained, ...]
    problems: tuple[str, ...]
    """What in the policies cannot be read."""


def explain(
    pod: PodLimits,
    namespace_data: Mapping[str, str] | None,
    cluster_data: Mapping[str, str] | None,
    release_namespace: str,
) -> Explanation:
    """``…_data`` is a policy's ConfigMap; None: there is none."""
    namespace, problems = parse_policy(namespace_data or {})
    cluster, more_problems = parse_policy(cluster_data or {})
    effective = merge(namespace, cluster)
    resolution = resolve(read(pod.annotations), effective)
    places = (
        f"{POLICY_CONFIG_MAP} in {pod.namespace}",
        f"{POLICY_CONFIG_MAP} in {release_namespace}",
    )
    directions = tuple(
        Explained(
            direction,
            None if (limit := pod.of(direction)) is None else limit.bits_per_second,
            _because(pod, resolution.of(direction), direction, effective.of(direction), places),
            _asked(pod, direction),
            _says(namespace_data, namespace, direction),
            _says(cluster_data, cluster, direction),
        )
        for direction in DIRECTIONS
    )
    found = [
        f"{place}: {problem}"
        for place, of_place in zip(places, (problems, more_problems), strict=True)
        for problem in of_place
    ]
    return Explanation(pod, directions, tuple(found))


def _asked(pod: PodLimits, direction: Direction) -> str:
    keys = (RATE_KEYS[direction], STANDARD_RATE_KEYS[direction])
    written = [f'{k}: "{pod.annotations[k]}"' for k in keys if k in pod.annotations]
    return ", ".join(written) or "nothing"


def _says(data: Mapping[str, str] | None, policy: Policy, direction: Direction) -> str:
    if data is None:
        return "none"
    bounds: Bounds = policy.of(direction)
    said = [
        f"{name} {format_bits_per_second(value)}"
        for name, value in (("default", bounds.default), ("min", bounds.min), ("max", bounds.max))
        if value is not None
    ]
    return ", ".join(said) or "nothing about it"


def _because(
    pod: PodLimits,
    resolved: Resolved | None,
    direction: Direction,
    bounds: EffectiveBounds,
    places: tuple[str, str],
) -> str:
    limit = pod.of(direction)
    bits = None if limit is None else limit.bits_per_second
    expected = None if resolved is None else resolved.limit.bits_per_second
    if bits == expected:
        return _reason(resolved, bounds, places)
    now = "no limit" if expected is None else format_bits_per_second(expected)
    return (
        f"annotations and policies now say {now}: they changed while no webhook looked; the audit "
        "corrects the labels within a minute, and so does any edit of a bandwidth annotation"
    )


def _reason(resolved: Resolved | None, bounds: EffectiveBounds, places: tuple[str, str]) -> str:
    if resolved is None:
        return "neither the pod nor a policy sets a limit"
    if resolved.bound is None:
        return f"the pod asks for it ({resolved.origin})"
    whose, key = _whose(resolved.bound, places), resolved.origin
    if resolved.cause is Cause.LOWERED:
        return f"{key} is above {whose('maximum')}, and was brought down to it"
    if resolved.cause is Cause.RAISED:
        return f"{key} is below {whose('minimum')}, and was raised to it"
    most = bounds.max.bits_per_second if bounds.max is not None else None
    at_max = most == resolved.bound.bits_per_second
    what = "maximum, which holds for pods that ask for nothing" if at_max else "default"
    return f"it is {whose(what)}"


def _whose(sourced: Sourced, places: tuple[str, str]) -> Callable[[str], str]:
    place = places[0] if sourced.source is Source.NAMESPACE else places[1]
    return lambda what: f"the {sourced.source}'s {what} ({place})"
