"""Policies: reading a ConfigMap, merging namespace and cluster."""

import pytest

from contract.names import Direction, GateRule, Mode, OnViolation, Require, Source
from contract.policy import (
    NO_POLICY,
    POLICY_KEYS,
    Bounds,
    EffectivePolicy,
    Policy,
    Sourced,
    merge,
    parse_policy,
)

EVERYTHING = {
    "ingress.default": "10M",
    "ingress.min": "1M",
    "ingress.max": "100M",
    "ingress.burst.max": "1M",
    "egress.default": "5M",
    "egress.min": "1M",
    "egress.max": "50M",
    "egress.burst.max": "2M",
    "on-violation": "clamp",
    "require": "both",
    "take-over": "true",
    "mode": "observe",
    "readiness-gate": "always",
    "exempt-cidrs": "10.0.0.0/8, fd00::/8",
}


def _policy(**data: str) -> Policy:
    policy, problems = parse_policy(
        {k.replace("__", ".").replace("_", "-"): v for k, v in data.items()}
    )
    assert problems == ()
    return policy


def test_every_key_is_read() -> None:
    """Each key of the table has its place."""
    policy, problems = parse_policy(EVERYTHING)

    assert problems == ()
    assert set(EVERYTHING) == set(POLICY_KEYS)
    assert policy == Policy(
        ingress=Bounds(10_000_000, 1_000_000, 100_000_000, 1_000_000),
        egress=Bounds(5_000_000, 1_000_000, 50_000_000, 2_000_000),
        on_violation=OnViolation.CLAMP,
        require=Require.BOTH,
        take_over=True,
        mode=Mode.OBSERVE,
        readiness_gate=GateRule.ALWAYS,
        exempt_cidrs=("10.0.0.0/8", "fd00::/8"),
    )


def test_an_empty_config_map_says_nothing() -> None:
    """No key, no rule."""
    assert parse_policy({}) == (NO_POLICY, ())
    assert merge(NO_POLICY, NO_POLICY) == EffectivePolicy()


def test_a_bad_value_leaves_the_others_in_place() -> None:
    """What can be read is usable although the policy is bad."""
    policy, [problem] = parse_policy({"ingress.max": "1Mbit", "egress.max": "1M"})

    assert problem.key == "ingress.max"
    assert policy == Policy(egress=Bounds(max=1_000_000))


def test_a_misspelt_key_is_told_with_the_right_one() -> None:
    """A typo in a policy is as silent as one in an annotation."""
    _, [problem] = parse_policy({"egres.max": "1M"})

    assert "write egress.max" in problem.fix


def test_space_around_a_value_is_forgiven() -> None:
    """YAML block scalars end in a line feed."""
    assert _policy(egress__max="1M\n", mode=" observe\n").mode is Mode.OBSERVE


@pytest.mark.parametrize("bound", ["default", "min", "max"])
def test_bounds_are_told_when_out_of_order(bound: str) -> None:
    """min <= default <= max within one policy."""
    data = {"ingress.min": "2M", "ingress.default": "3M", "ingress.max": "4M"}
    data[f"ingress.{bound}"] = "1M" if bound != "min" else "9M"

    _, problems = parse_policy(data)

    assert problems
    assert all("is above" in p.reason for p in problems)


def test_a_namespace_may_tighten_and_not_loosen() -> None:
    """Smaller max, larger min, smaller burst.max, stricter require."""
    cluster = _policy(
        ingress__max="100M", ingress__min="2M", ingress__burst__max="2M", require="any"
    )
    loose = _policy(ingress__max="1G", ingress__min="1M", ingress__burst__max="9M", require="none")
    tight = _policy(ingress__max="50M", ingress__min="3M", ingress__burst__max="1M", require="both")

    loosened, tightened = merge(loose, cluster), merge(tight, cluster)

    assert loosened.ingress.max == Sourced(100_000_000, Source.CLUSTER)
    assert loosened.ingress.min == Sourced(2_000_000, Source.CLUSTER)
    assert (loosened.ingress.burst_max, loosened.require) == (2_000_000, Require.ANY)
    assert tightened.ingress.max == Sourced(50_000_000, Source.NAMESPACE)
    assert tightened.ingress.min == Sourced(3_000_000, Source.NAMESPACE)
    assert (tightened.ingress.burst_max, tightened.require) == (1_000_000, Require.BOTH)


def test_a_default_lies_within_the_merged_bounds() -> None:
    """Whoever set the bound that moved it is its source."""
    over = merge(_policy(egress__default="1G"), _policy(egress__max="10M"))
    under = merge(_policy(egress__default="1M"), _policy(egress__min="10M"))

    assert over.egress.default == Sourced(10_000_000, Source.CLUSTER)
    assert under.egress.default == Sourced(10_000_000, Source.CLUSTER)


def test_a_max_is_the_default_where_there_is_none() -> None:
    """A pod without a limit would be above any max."""
    assert merge(NO_POLICY, _policy(egress__max="10M")).egress.default == Sourced(
        10_000_000, Source.CLUSTER
    )


def test_a_min_of_one_policy_above_the_max_of_the_other_gives_way() -> None:
    """Only one value is left; the max decides."""
    effective = merge(_policy(egress__min="20M"), _policy(egress__max="10M"))

    assert effective.of(Direction.EGRESS).min == effective.egress.max


@pytest.mark.parametrize(
    ("namespace", "cluster", "mode"),
    [
        ({}, {}, Mode.ENFORCE),
        ({"mode": "observe"}, {}, Mode.OBSERVE),
        ({}, {"mode": "observe"}, Mode.OBSERVE),
        ({"mode": "enforce"}, {"mode": "observe"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"mode": "enforce"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"ingress.max": "1M"}, Mode.ENFORCE),
        ({"mode": "observe"}, {"ingress.max": "1M", "mode": "observe"}, Mode.OBSERVE),
    ],
)
def test_observing_is_no_way_round_the_cluster(
    namespace: dict[str, str], cluster: dict[str, str], mode: Mode
) -> None:
    """A namespace observes only where the cluster does not insist."""
    assert merge(parse_policy(namespace)[0], parse_policy(cluster)[0]).mode is mode


@pytest.mark.parametrize(
    ("namespace", "cluster", "exempt"),
    [
        (None, "10.0.0.0/8", ("10.0.0.0/8",)),
        ("10.1.0.0/16,11.0.0.0/8", "10.0.0.0/8", ("10.1.0.0/16",)),
        ("10.1.0.0/16", None, ("10.1.0.0/16",)),
        ("::/0", "10.0.0.0/8", ()),
        ("10.0.0.0/7", "10.0.0.0/8", ()),
        ("", "10.0.0.0/8", ()),
    ],
)
def test_a_namespace_exempts_only_within_what_the_cluster_exempts(
    namespace: str | None, cluster: str | None, exempt: tuple[str, ...]
) -> None:
    """Where the cluster says nothing, the namespace may say anything."""
    policies = [
        parse_policy({} if text is None else {"exempt-cidrs": text})[0]
        for text in (namespace, cluster)
    ]

    assert merge(*policies).exempt_cidrs == exempt


def test_exempting_everything_is_no_way_round_a_cluster_max() -> None:
    """An exemption would lift the limit."""
    assert merge(_policy(exempt_cidrs="0.0.0.0/0"), _policy(egress__max="1M")).exempt_cidrs == ()


def test_the_namespace_is_heard_first_about_the_rest() -> None:
    """on-violation, take-over and readiness-gate."""
    cluster = _policy(on_violation="clamp", take_over="true", readiness_gate="always")
    namespace = _policy(on_violation="deny", take_over="false", readiness_gate="never")

    silent, heard = merge(NO_POLICY, cluster), merge(namespace, cluster)

    assert (silent.on_violation, silent.take_over, silent.readiness_gate) == (
        OnViolation.CLAMP,
        True,
        GateRule.ALWAYS,
    )
    assert (heard.on_violation, heard.take_over, heard.readiness_gate) == (
        OnViolation.DENY,
        False,
        GateRule.NEVER,
    )
