"""Policies: reading a ConfigMap, merging namespace and cluster."""

import pytest

from contract.names import GateRule, Mode, OnViolation, Require
from contract.policy import (
    NAMESPACE_KEYS,
    NO_POLICY,
    POLICY_KEYS,
    Bounds,
    Policy,
    Scope,
    parse_policy,
    scope_of,
)
from contract.selectors import EVERYTHING, NOTHING, parse_selector

ALL_KEYS = {
    "ingress.default": "10M",
    "ingress.min": "1M",
    "ingress.max": "100M",
    "ingress.burst.max": "1M",
    "ingress.total-per-node": "500M",
    "ingress.request.default": "3M",
    "ingress.request.min": "2M",
    "ingress.request.max": "4M",
    "egress.default": "5M",
    "egress.min": "1M",
    "egress.max": "50M",
    "egress.burst.max": "2M",
    "egress.total-per-node": "200M",
    "egress.request.default": "6M",
    "egress.request.min": "5M",
    "egress.request.max": "7M",
    "on-violation": "clamp",
    "require": "both",
    "take-over": "true",
    "schedule": "true",
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
    policy, problems = parse_policy(ALL_KEYS)

    assert problems == ()
    assert set(ALL_KEYS) == set(NAMESPACE_KEYS)
    assert policy == Policy(
        ingress=Bounds(
            10_000_000,
            1_000_000,
            100_000_000,
            1_000_000,
            500_000_000,
            3_000_000,
            2_000_000,
            4_000_000,
        ),
        egress=Bounds(
            5_000_000,
            1_000_000,
            50_000_000,
            2_000_000,
            200_000_000,
            6_000_000,
            5_000_000,
            7_000_000,
        ),
        on_violation=OnViolation.CLAMP,
        require=Require.BOTH,
        take_over=True,
        schedule=True,
        mode=Mode.OBSERVE,
        readiness_gate=GateRule.ALWAYS,
        exempt_cidrs=("10.0.0.0/8", "fd00::/8"),
    )


def test_an_empty_config_map_says_nothing() -> None:
    """No key, no rule."""
    assert parse_policy({}) == (NO_POLICY, ())
    assert NO_POLICY.silent


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


def test_a_policy_of_the_cluster_selects_namespaces_and_has_a_priority() -> None:
    """Both keys are of those alone that select."""
    data = {"namespace-selector": "tier in (free,trial)", "priority": " 10\n", "egress.max": "10M"}

    policy, problems = parse_policy(data, Scope.SELECTED)

    assert problems == ()
    assert set(data) - set(NAMESPACE_KEYS) == set(POLICY_KEYS) - set(NAMESPACE_KEYS)
    assert policy.selector == parse_selector("tier in (free,trial)")
    assert (policy.priority, policy.egress.max) == (10, 10_000_000)
    assert not policy.silent


def test_a_policy_that_only_selects_says_nothing() -> None:
    """It bounds nobody."""
    policy, _ = parse_policy({"namespace-selector": "a", "priority": "1"}, Scope.SELECTED)

    assert policy.silent


@pytest.mark.parametrize(
    ("scope", "data", "reason"),
    [
        (Scope.NAMESPACE, {"priority": "1"}, "is for the cluster's policies only"),
        (Scope.NAMESPACE, {"namespace-selector": ""}, "is for the cluster's policies only"),
        (Scope.CLUSTER, {"namespace-selector": "a=b"}, "which is about all namespaces"),
        (Scope.SELECTED, {"namespace-selector": "a in b"}, "is not a label selector"),
        (Scope.SELECTED, {"priority": "high"}, "is not a whole number"),
        (Scope.CLUSTER, {"priority": "1e3"}, "is not a whole number"),
    ],
)
def test_selectors_and_priorities_out_of_place_or_unreadable_are_told(
    scope: Scope, data: dict[str, str], reason: str
) -> None:
    """With what to do."""
    _, [problem] = parse_policy(data, scope)

    assert reason in problem.reason
    assert problem.fix


def test_a_selector_that_cannot_be_read_takes_no_bound_from_everybody() -> None:
    """The policy for all stays for all; one that selects selects nothing, not everything."""
    bad = {"namespace-selector": "(", "egress.max": "1M"}

    assert parse_policy(bad, Scope.CLUSTER)[0].selector == EVERYTHING
    assert parse_policy(bad, Scope.SELECTED)[0].selector == NOTHING
    assert not NOTHING.selects({})


@pytest.mark.parametrize(
    ("namespace", "name", "labels", "scope"),
    [
        ("team", "podpace-policy", {}, Scope.NAMESPACE),
        ("team", "podpace-policy", {"podpace.io/policy": "true"}, Scope.NAMESPACE),
        ("rel", "podpace-policy", {"podpace.io/policy": "true"}, Scope.CLUSTER),
        ("rel", "free", {"podpace.io/policy": "true"}, Scope.SELECTED),
        ("rel", "free", {"podpace.io/policy": "false"}, None),
        ("rel", "free", {}, None),
        ("team", "free", {"podpace.io/policy": "true"}, None),
    ],
)
def test_a_tenant_s_label_makes_no_policy_of_the_cluster(
    namespace: str, name: str, labels: dict[str, str], scope: Scope | None
) -> None:
    """Name and namespace decide first."""
    assert scope_of(namespace, name, labels, "rel") is scope
