"""A digest is decided as its review is, and is small whatever the review holds."""

import json
from typing import Any

import pytest

from webhook.admission import make_mutate, make_validate
from webhook.digest import digest
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

EGRESS, GATE = "podpace.io/egress-bandwidth", "podpace.io/BandwidthEnforced"
PODS: dict[str, dict[str, Any]] = {
    "books": {
        "metadata": {"annotations": {"podpace.io/ingress-request": "1M"}},
        "spec": {
            "containers": [{"name": "a", "resources": {}}, {"image": "b"}],
            "initContainers": [
                {
                    "restartPolicy": "Always",
                    "resources": {"limits": {"cpu": "1", "podpace.io/egress": "2M"}},
                }
            ],
            "nodeSelector": {"a": "b" * 100_000},
        },
    },
    "bare": {"metadata": {"name": "web"}},
    "no maps": {"metadata": {"labels": None, "annotations": None}, "spec": {}},
    "empty maps": {"metadata": {"labels": {}, "annotations": {}}, "spec": {}},
    "limited": {"metadata": {"annotations": {EGRESS: "10M", "a": "b"}, "labels": {"app": "web"}}},
    "above the maximum": {"metadata": {"annotations": {EGRESS: "10G"}}},
    "taken over": {"metadata": {"annotations": {"kubernetes.io/egress-bandwidth": "10M"}}},
    "unreadable": {"metadata": {"annotations": {EGRESS: "9" * 100_000}}},
    "misspelt": {"metadata": {"annotations": {"podpace.io/egres-bandwidth": "10M" * 100}}},
    "newer": {"metadata": {"annotations": {"podpace.io/colour": "blue"}}},
    "crowded": {"metadata": {"annotations": {f"podpace.io/{n}": "" for n in range(500)}}},
    "labels by hand": {"metadata": {"labels": {"podpace.io/limited": "true", EGRESS: "1M"}}},
    "mirror": {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x", EGRESS: "wrong"}}},
    "gated": {
        "metadata": {"annotations": {EGRESS: "10M"}},
        "spec": {
            "readinessGates": [{"conditionType": "a"}, {"conditionType": GATE}],
            "nodeSelector": {"kubernetes.io/os": "windows"},
        },
    },
}


def review(operation: str, new: Any, old: Any) -> bytes:
    """As the API server sends it."""
    request = {"uid": "u", "operation": operation, "namespace": "shop", "object": new}
    request |= {"oldObject": old, "dryRun": False, "userInfo": {"username": "dev"}}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(body).encode()


@pytest.fixture
def store() -> PolicyStore:
    """A policy of the cluster with much to say."""
    found = PolicyStore("podpace-system")
    data = {"egress.max": "1G", "take-over": "true", "readiness-gate": "always", "schedule": "true"}
    found.put(PolicyKey("podpace-system", "podpace-policy"), data)
    return found


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS.keys())
@pytest.mark.parametrize("old", [None, "bare", "same", "limited"])
def test_a_digest_is_decided_as_its_review_is(
    store: PolicyStore, pod: dict[str, Any], old: str | None
) -> None:
    """Created, and updated from another pod."""
    before = {None: None, "same": pod}.get(old, PODS.get(old or ""))
    body = review("CREATE" if old is None else "UPDATE", pod, before)
    mutate = make_mutate(store, Metrics())

    # Of what cannot be read a digest keeps the beginning, as a message does.
    assert mutate(digest("mutate", body)) == mutate(body)


@pytest.mark.parametrize(
    "data",
    [{"egress.max": "1G"}, {"egres.max": "1G"}, {"egress.quota": "1G"}, {"mode": "x"}, None],
)
def test_a_policys_digest_is_decided_as_the_policy_is(
    store: PolicyStore, data: dict[str, str] | None
) -> None:
    """With its warnings."""
    policy = {"metadata": {"name": "podpace-policy", "labels": {"a": "b"}}, "data": data}
    body = review("CREATE", policy, None)
    validate = make_validate(store, "podpace-system", Metrics())

    assert validate(digest("validate", body)) == validate(body)


@pytest.mark.parametrize(
    "pod",
    [
        {"metadata": {"name": "n" * 10**6, "generateName": "g" * 10**6}},
        {"metadata": {"annotations": {f"podpace.io/{n:06d}": "x" * 9 for n in range(30_000)}}},
        {"metadata": {"annotations": {EGRESS: "9" * 10**6, "podpace.io/x": "y" * 10**6}}},
        {"metadata": {"labels": {f"l{n:06d}": "x" for n in range(30_000)}}},
        {"metadata": {}, "spec": {"readinessGates": [{"conditionType": GATE}] * 30_000}},
        {"metadata": {}, "spec": {"nodeSelector": {f"l{n:06d}": "x" for n in range(30_000)}}},
        {"metadata": {}, "spec": {"containers": [{"env": [{"value": "<" * 10**6}]}]}},
        {"metadata": {}, "spec": {"initContainers": [{"name": "a"}] * 100_000}},
        {
            "metadata": {},
            "spec": {"containers": [{"resources": {"limits": {"podpace.io/egress": "1" * 10**6}}}]},
        },
    ],
)
def test_a_digest_is_small(pod: dict[str, Any]) -> None:
    """Whatever there is much of."""
    assert len(digest("mutate", review("UPDATE", pod, pod))) < 200_000
    assert len(digest("workloads", review("CREATE", {"spec": {"template": pod}}, None))) < 200_000


@pytest.mark.parametrize("body", [b"", b"[]", b'{"request": 1}', b'{"a":' * 100_000])
def test_what_is_no_review_has_no_digest(body: bytes) -> None:
    """And says so by an error that is told to the sender."""
    with pytest.raises((ValueError, RecursionError)):
        digest("mutate", body)
