"""Pure: where a pod's limits came from. Compares its labels with its annotations and the policies;
decides nothing itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from client.kube.pods import RATE_KEYS, PodLimits
from contract.names import POLICY_CONFIG_MAP, Direction, Source
from contract.policy import Bounds, EffectiveBounds, Policy, Sourced, merge, parse_policy
from contract.problems import Problem
from contract.quantity import format_bits_per_second, parse_bits_per_second


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
    places = (
        f"{POLICY_CONFIG_MAP} in {pod.namespace}",
        f"{POLICY_CONFIG_MAP} in {release_namespace}",
    )
    directions = tuple(
        Explained(
            direction,
            None if (limit := pod.of(direction)) is None else limit.bits_per_second,
            _because(pod, direction, effective.of(direction), places),
            _asked(pod, direction),
            _says(namespace_data, namespace, direction),
            _says(cluster_data, cluster, direction),
        )
        for direction in Direction
    )
    found = [
        f"{place}: {problem}"
        for place, of_place in zip(places, (problems, more_problems), strict=True)
        for problem in of_place
    ]
    return Explanation(pod, directions, tuple(found))


def _asked(pod: PodLimits, direction: Direction) -> str:
    written = [f'{k}: "{pod.annotations[k]}"' for k in RATE_KEYS[direction] if k in pod.annotations]
    return ", ".join(written) or "nothing"


def _winner(pod: PodLimits, direction: Direction) -> tuple[str, int | None] | None:
    """The annotation that counts and what it says; None: none is written."""
    for key in RATE_KEYS[direction]:
        if key in pod.annotations:
            bits = parse_bits_per_second(key, pod.annotations[key])
            return key, None if isinstance(bits, Problem) else bits
    return None


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
    pod: PodLimits, direction: Direction, bounds: EffectiveBounds, places: tuple[str, str]
) -> str:
    limit, winner = pod.of(direction), _winner(pod, direction)
    bits = None if limit is None else limit.bits_per_second

    def whose(sourced: Sourced, what: str) -> str:
        place = places[0] if sourced.source is Source.NAMESPACE else places[1]
        return f"the {sourced.source}'s {what} ({place})"

    expected = None
    if winner is not None and winner[1] is not None:
        key, expected = winner
        reason = f"the pod asks for it ({key})"
        if (
            bounds.max is not None
            and expected is not None
            and expected > bounds.max.bits_per_second
        ):
            expected = bounds.max.bits_per_second
            reason = f"{key} is above {whose(bounds.max, 'maximum')}, and was brought down to it"
        if (
            bounds.min is not None
            and expected is not None
            and expected < bounds.min.bits_per_second
        ):
            expected = bounds.min.bits_per_second
            reason = f"{key} is below {whose(bounds.min, 'minimum')}, and was raised to it"
    elif bounds.default is not None:
        expected = bounds.default.bits_per_second
        at_max = bounds.max is not None and bounds.max.bits_per_second == expected
        what = "maximum, which holds for pods that ask for nothing" if at_max else "default"
        reason = f"it is {whose(bounds.default, what)}"
    else:
        reason = "neither the pod nor a policy sets a limit"
    if bits == expected:
        return reason
    now = "no limit" if expected is None else format_bits_per_second(expected)
    return (
        f"annotations and policies now say {now}: they changed while no webhook looked; the audit "
        "corrects the labels within a minute, and so does any edit of a bandwidth annotation"
    )
