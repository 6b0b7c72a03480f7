"""Readiness gates are on pods where an enforcer opens them, and nowhere else."""

import json
from typing import Any

import msgspec
import pytest

from contract.effective import EffectivePolicy
from contract.merging import Layer, merge
from contract.names import Source
from contract.policy import parse_policy
from tests.unit.webhook.patching import apply_patch
from webhook.mutation import decide
from webhook.reach import LINUX, Placement, can_reach
from webhook.reviews import Pod, encode_patch

GATE = {"conditionType": "podpace.io/BandwidthEnforced"}
LIMITED = {"annotations": {"podpace.io/egress-bandwidth": "10M"}}


def policy(data: dict[str, str]) -> EffectivePolicy:
    """Of the namespace, where the cluster says nothing."""
    said, problems = parse_policy(data)
    assert problems == ()
    return merge(Layer("default", "podpace-policy", Source.NAMESPACE, said), ())


def always() -> EffectivePolicy:
    """A policy that wants the gate on all limited pods."""
    return policy({"readiness-gate": "always"})


def required(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    """``spec.affinity`` that requires one of ``terms``."""
    terms_found = [{"matchExpressions": term} for term in terms]
    selector = {"nodeSelectorTerms": terms_found}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}


def among(key: str, operator: str, *values: str) -> dict[str, Any]:
    """One requirement."""
    return {"key": key, "operator": operator, "values": list(values)}


def placement(spec: dict[str, Any]) -> Placement:
    """A pod's, off the wire."""
    return msgspec.json.decode(json.dumps(spec), type=Placement)


ARM, AMD = among("kubernetes.io/arch", "In", "arm64"), among("kubernetes.io/arch", "In", "amd64")
OUT_OF_REACH: dict[str, dict[str, Any]] = {
    "Windows, by its system": {"os": {"name": "windows"}},
    "Windows, by a label": {"nodeSelector": {"kubernetes.io/os": "windows"}},
    "Windows, by affinity": {"affinity": required([among("kubernetes.io/os", "In", "windows")])},
    "a virtual kubelet": {"nodeSelector": {"type": "virtual-kubelet"}},
    "Fargate, by its scheduler": {"schedulerName": "fargate-scheduler"},
    "Fargate, by a label": {"nodeSelector": {"eks.amazonaws.com/compute-type": "fargate"}},
}


@pytest.mark.parametrize("spec", OUT_OF_REACH.values(), ids=OUT_OF_REACH.keys())
def test_a_pod_that_no_enforcer_reaches_gets_no_gate_and_is_told(spec: dict[str, Any]) -> None:
    """Its own gate is taken off, and others' are left."""
    other = {"conditionType": "example.com/other"}
    raw = {"metadata": LIMITED, "spec": spec | {"readinessGates": [GATE, other]}}

    plain = decide(msgspec.convert({"metadata": LIMITED, "spec": spec}, Pod), always())
    gated = decide(msgspec.convert(raw, Pod), always())

    assert not any("readinessGates" in o.path for o in plain.patch)
    assert "it gets no readiness gate: no enforcer is on the nodes" in plain.warnings[0]
    assert apply_patch(raw, encode_patch(gated.patch))["spec"]["readinessGates"] == [other]
    assert "was removed: no enforcer is on the nodes" in gated.warnings[0]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"os": {"name": "linux"}, "schedulerName": "default-scheduler"},
        {"nodeSelector": {"disk": "ssd"}},
        {"affinity": required([among("kubernetes.io/os", "In", "windows")], [AMD])},
        {"affinity": required([among("type", "DoesNotExist")])},
    ],
)
def test_a_pod_that_may_be_where_an_enforcer_is_gets_its_gate(spec: dict[str, Any]) -> None:
    """One alternative of several is enough."""
    decision = decide(msgspec.convert({"metadata": LIMITED, "spec": spec}, Pod), always())

    assert [o.value for o in decision.patch if "readinessGates" in o.path] == [[GATE]]
    assert decision.warnings == ()


@pytest.mark.parametrize("namespace", [{}, {"readiness-gate": "always"}])
def test_a_gate_in_a_template_without_a_limit_is_taken_off_and_told(
    namespace: dict[str, str],
) -> None:
    """Nobody writes a condition on a pod without a limit."""
    raw = {"metadata": {"name": "web"}, "spec": {"readinessGates": [GATE]}}

    decision = decide(msgspec.convert(raw, Pod), policy(namespace))

    assert apply_patch(raw, encode_patch(decision.patch))["spec"]["readinessGates"] == []
    assert "was removed: the pod has no limit" in decision.warnings[0]


def test_an_update_leaves_gates_alone() -> None:
    """They cannot be changed."""
    raw = {"metadata": {"name": "web"}, "spec": {"readinessGates": [GATE]}}
    pod = msgspec.convert(raw, Pod)

    assert decide(pod, always(), pod).patch == ()


@pytest.mark.parametrize(
    ("pod", "enforcer", "reached"),
    [
        ({"nodeSelector": {"pool": "a"}}, {"nodeSelector": {"pool": "a"}}, True),
        ({"nodeSelector": {"pool": "b"}}, {"nodeSelector": {"pool": "a"}}, False),
        ({}, {"nodeSelector": {"pool": "a"}}, True),
        ({"affinity": required([ARM])}, {"affinity": required([AMD])}, False),
        ({"affinity": required([ARM], [AMD])}, {"affinity": required([AMD])}, True),
        ({"nodeSelector": {"gpu": "1"}}, {"affinity": required([among("gpu", "DoesNotExist")])}, False),  # noqa: E501
        ({"affinity": required([among("gpu", "Exists")])}, {"affinity": required([among("gpu", "DoesNotExist")])}, False),  # noqa: E501
        ({"nodeSelector": {"pool": "b"}}, {"affinity": required([among("pool", "NotIn", "b")])}, False),  # noqa: E501
        ({"affinity": required([among("cores", "Gt", "8")])}, {"nodeSelector": {"cores": "4"}}, True),  # noqa: E501
        ({"affinity": required(*([[ARM]] * 33))}, {"affinity": required([AMD])}, True),
    ],
)  # fmt: skip
def test_two_placements_meet_where_a_node_can_carry_both(
    pod: dict[str, Any], enforcer: dict[str, Any], reached: bool
) -> None:
    """In doubt they do: a gate that opens late is better than a limit nobody waits for."""
    assert can_reach(placement(pod), placement(enforcer)) is reached


def test_enforcers_are_on_linux_where_nothing_is_said() -> None:
    """As the chart has it."""
    assert LINUX.node_selector == {"kubernetes.io/os": "linux"}
