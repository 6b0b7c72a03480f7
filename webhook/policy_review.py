"""What is wrong with a policy, and what of a namespace's does not count. Pure."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from contract import names
from contract.effective import EffectiveBounds, Sourced
from contract.merging import Layer, merge
from contract.names import DIRECTIONS, Source
from contract.policy import Bounds, Policy, Scope, parse_policy, unread_keys
from contract.problems import Problem
from contract.quantity import format_bits_per_second
from contract.unknown import MAX_UNKNOWN
from webhook.mutation import denial_message
from webhook.reviews import ConfigMap

_OVERSIZED: Final = Problem(
    "data",
    "",
    "is larger than 64 KiB, more than any policy needs",
    "write what is no policy elsewhere",
)


def review_policy(
    config_map: ConfigMap, scope: Scope, cluster: Sequence[Layer]
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """What is wrong with a policy, and what of it has no effect: keys that nobody knows, limits
    above a total, and what the cluster does not let a namespace say.

    ``cluster`` are those that hold in its namespace, as ``contract.merging.select`` gives them.
    """
    if config_map.metadata.oversized:
        return (_OVERSIZED,), ()
    data = config_map.data or {}
    policy, problems = parse_policy(data, scope)
    binary = tuple(
        Problem(key, "(binary)", "is binary data", "write it as text under data").shortened()
        for key in islice(config_map.binary_data or (), MAX_UNKNOWN)
    )
    warnings = unread_keys(data) + _small_totals(policy)
    if scope is Scope.NAMESPACE:
        warnings += _said_in_vain(policy, cluster)
    return problems + binary, warnings


def _small_totals(policy: Policy) -> tuple[str, ...]:
    """A single pod gets, without asking, what all together may not use."""
    return tuple(
        f"{direction}.{names.POLICY_TOTAL_PER_NODE}, {format_bits_per_second(said.total)}, is "
        f"below {direction}.{bound}, {format_bits_per_second(bits)}, of a single pod"
        for direction in DIRECTIONS
        if (said := policy.of(direction)).total is not None
        for bound, bits in ((names.POLICY_MIN, said.min), (names.POLICY_DEFAULT, said.default))
        if bits is not None and bits > said.total
    )


def _said_in_vain(policy: Policy, cluster: Sequence[Layer]) -> tuple[str, ...]:
    merged = merge(Layer("", names.POLICY_CONFIG_MAP, Source.NAMESPACE, policy), cluster)
    found = []
    for direction in DIRECTIONS:
        told = _bounds_lost(policy.of(direction), merged.of(direction))
        found += [f"{direction}.{warning}" for warning in told]
    for key, ours, holds in (
        (names.POLICY_ON_VIOLATION, policy.on_violation, merged.on_violation),
        (names.POLICY_REQUIRE, policy.require, merged.require),
        (names.POLICY_TAKE_OVER, policy.take_over, merged.take_over),
        (names.POLICY_SCHEDULE, policy.schedule, merged.schedule),
        (names.POLICY_MODE, policy.mode, merged.mode),
        (names.POLICY_READINESS_GATE, policy.readiness_gate, merged.readiness_gate),
    ):
        if ours is not None and ours != holds:
            word = str(holds).lower()
            found.append(f"{key}: the cluster's policy says {word}, which holds")
    lost = sorted(set(policy.exempt_cidrs or ()) - set(merged.exempt_cidrs))
    if lost:
        key, networks = names.POLICY_EXEMPT_CIDRS, ", ".join(lost)
        found.append(f"{key}: the cluster's policy does not exempt {networks}, which holds")
    return tuple(found)


def policy_denial_message(problems: tuple[Problem, ...]) -> str:
    """What a user reads when a policy is refused."""
    return denial_message(problems, "the policy")


def _bounds_lost(said: Bounds, holds: EffectiveBounds) -> Iterator[str]:
    for bound, ours, theirs in (
        (names.POLICY_DEFAULT, said.default, holds.default),
        (names.POLICY_MIN, said.min, holds.min),
        (names.POLICY_MAX, said.max, holds.max),
        (names.POLICY_TOTAL_PER_NODE, said.total, holds.total),
        (names.POLICY_REQUEST_DEFAULT, said.request_default, holds.request.default),
        (names.POLICY_REQUEST_MIN, said.request_min, holds.request.min),
        (names.POLICY_REQUEST_MAX, said.request_max, holds.request.max),
    ):
        if ours is not None and theirs is not None and ours != theirs.bits_per_second:
            where = "above" if ours > theirs.bits_per_second else "below"
            yield f"{bound} is {where} the cluster's, {_rate(theirs)}, which holds"
    if said.burst_max is not None and said.burst_max != holds.burst_max:
        most = f"{holds.burst_max} bits"
        yield f"{names.POLICY_BURST_MAX} is above the cluster's, {most}, which holds"


def _rate(sourced: Sourced) -> str:
    return format_bits_per_second(sourced.bits_per_second) + sourced.note
