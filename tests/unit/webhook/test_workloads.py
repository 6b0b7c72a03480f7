"""Workloads: their authors are warned of what their pods will meet; nothing is refused."""

import json
from typing import Any

import pytest

from webhook.digest import digest
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore
from webhook.workloads import make_warn

EGRESS = "podpace.io/egress-bandwidth"
TEMPLATES = {
    "Deployment": lambda template: {"template": template},
    "CronJob": lambda template: {"jobTemplate": {"spec": {"template": template}}},
}


def answer(kind: str, template: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """To its creation, under a policy with a maximum; by the digest as well as by the review."""
    store = PolicyStore("podpace-system")
    store.put(PolicyKey("podpace-system", "podpace-policy"), {"egress.max": "100M"})
    warn = make_warn(store, Metrics())
    workload = {"metadata": metadata, "spec": TEMPLATES[kind](template)}
    request = {"uid": "u", "operation": "CREATE", "namespace": "shop", "object": workload}
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request,
    }
    body = json.dumps(review).encode()
    answers = [json.loads(warn(b))["response"] for b in (body, digest("workloads", body))]
    assert answers[0] == answers[1]
    found: dict[str, Any] = answers[0]
    return found


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_author_of_a_workload_is_told_why_its_pods_will_be_refused(kind: str) -> None:
    """And it is admitted."""
    found = answer(kind, {"metadata": {"annotations": {EGRESS: "10Mbps"}}, "spec": {}}, {})

    assert found["allowed"]
    assert found["warnings"][0].startswith(
        f'its pods will be refused: {EGRESS}: "10Mbps" has a unit'
    )


def test_what_its_pods_will_be_warned_of_is_told() -> None:
    """A gate that nobody opens, a label that nobody reads."""
    spec = {
        "nodeSelector": {"kubernetes.io/os": "windows"},
        "readinessGates": [{"conditionType": "podpace.io/BandwidthEnforced"}],
    }
    found = answer("Deployment", {"metadata": {"labels": {EGRESS: "10M"}}, "spec": spec}, {})

    assert any("write it as an annotation" in w for w in found["warnings"])
    assert any("no enforcer is on the nodes" in w for w in found["warnings"])


def test_a_key_on_the_workload_itself_is_told_to_have_no_effect() -> None:
    """It belongs to the pod template."""
    metadata = {"annotations": {EGRESS: "10M"}, "labels": {"podpace.io/ignore": "true"}}

    found = answer("Deployment", {"metadata": {}, "spec": {}}, metadata)

    assert f"{EGRESS} has no effect here" in found["warnings"][0]
    assert "is a label of namespaces" in found["warnings"][1]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_workload_that_is_right_is_admitted_without_a_word(kind: str) -> None:
    """Nearly all are."""
    template = {"metadata": {"annotations": {EGRESS: "10M"}}, "spec": {"containers": []}}

    assert answer(kind, template, {"name": "web"}) == {"uid": "u", "allowed": True}
