"""What Kubernetes' own scheduler makes of bandwidth as a device's consumable capacity.

Nothing of ours: it is tried so that docs/design/0014-consumable-capacity.md stays true.
"""

from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.client import Client, Json
from tests.cluster.helpers import until
from tests.cluster.install import Installation

RESOURCE = "/apis/resource.k8s.io/v1"
NODES = ("linked-a", "linked-b")
ROOM = {"cpu": "64", "memory": "256Gi", "pods": "110"}
CLASS = "bandwidth"
_SECONDS = 60
"""How long a test waits before it gives up."""


def resource_slice(node: str) -> Json:
    """One link of 1 Gbit/s each way."""
    policy = {"default": "1M", "validRange": {"min": "1M", "step": "1M", "max": "1G"}}
    capacity = {"value": "1G", "requestPolicy": policy}
    device = {"name": "eth0", "allowMultipleAllocations": True}
    return {
        "metadata": {"name": node},
        "spec": {
            "driver": "podpace.io",
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [device | {"capacity": {"egress": capacity, "ingress": capacity}}],
        },
    }


@pytest.fixture(scope="module", autouse=True)
def devices(installation: Installation) -> Iterator[None]:
    """Two nodes with a link each, and a class of all of them."""
    admin = installation.admin
    ready = [{"type": "Ready", "status": "True"}]
    selector = {"cel": {"expression": "device.driver == 'podpace.io'"}}
    for node in NODES:
        labels = {"linked": "true"}
        admin.create("/api/v1/nodes", {"metadata": {"name": node, "labels": labels}})
        status = {"capacity": ROOM, "allocatable": ROOM, "conditions": ready}
        admin.patch(f"/api/v1/nodes/{node}/status", {"status": status})
        admin.patch(f"/api/v1/nodes/{node}", {"spec": {"taints": None}})
        admin.create(f"{RESOURCE}/resourceslices", resource_slice(node))
    body = {"metadata": {"name": CLASS}, "spec": {"selectors": [selector]}}
    admin.create(f"{RESOURCE}/deviceclasses", body)
    yield
    admin.delete(f"{RESOURCE}/deviceclasses/{CLASS}")
    for node in NODES:
        admin.delete(f"{RESOURCE}/resourceslices/{node}")
        admin.delete(f"/api/v1/nodes/{node}")


@pytest.fixture
def claims(admin: Client, namespace: str) -> Iterator[str]:
    """Where a test's claims are; its pods go at once, as no kubelet would let them go."""
    yield f"{RESOURCE}/namespaces/{namespace}/resourceclaims"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    for found in admin.get(pods)["items"]:
        admin.delete(f"{pods}/{found['metadata']['name']}")


def asking(admin: Client, namespace: str, name: str, requests: Json | None) -> httpx.Response:
    """A pod with a claim for so much."""
    exactly = {"deviceClassName": CLASS} | (
        {"capacity": {"requests": requests}} if requests else {}
    )
    spec = {"devices": {"requests": [{"name": "link", "exactly": exactly}]}}
    template = {"metadata": {"name": name}, "spec": {"spec": spec}}
    admin.create(f"{RESOURCE}/namespaces/{namespace}/resourceclaimtemplates", template)
    container = {"name": "main", "image": "x", "resources": {"claims": [{"name": "link"}]}}
    claim = {"name": "link", "resourceClaimTemplateName": name}
    body = {
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "resourceClaims": [claim],
            "nodeSelector": {"linked": "true"},
        },
    }
    return admin.http.post(f"/api/v1/namespaces/{namespace}/pods", json=body)


def placed(admin: Client, namespace: str) -> tuple[list[str], list[str]]:
    """The nodes of those that have one, and why others wait."""
    items = admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    nodes = [item["spec"]["nodeName"] for item in items if "nodeName" in item["spec"]]
    conditions = [c for item in items for c in item["status"].get("conditions", ())]
    why = [
        c["message"] for c in conditions if c["type"] == "PodScheduled" and c["status"] != "True"
    ]
    return sorted(nodes), why


def test_ten_of_twelve_pods_fit_and_the_scheduler_does_not_say_what_is_short(
    admin: Client, namespace: str, claims: str
) -> None:
    """Two links of 1G, 200M each; what is taken is in the claims."""
    for number in range(12):
        assert asking(admin, namespace, f"p{number}", {"egress": "200M"}).is_success

    nodes, why = until(
        lambda: placed(admin, namespace), lambda f: len(f[0]) == 10 and len(f[1]) == 2, _SECONDS
    )

    assert nodes == ["linked-a"] * 5 + ["linked-b"] * 5
    assert all("2 cannot allocate all claims" in text and "egress" not in text for text in why)
    taken = consumed(admin, claims)
    assert taken == [{"egress": "200M", "ingress": "1M"}] * 10


def consumed(admin: Client, claims: str) -> list[Json]:
    """By each claim that has its device."""
    found = [claim["status"].get("allocation") for claim in admin.get(claims)["items"]]
    return [one["devices"]["results"][0]["consumedCapacity"] for one in found if one]


@pytest.mark.parametrize(
    ("asked", "taken"), [("500k", "1M"), ("1500k", "2M"), ("1G", "1G"), (None, "1M")]
)
def test_what_is_asked_is_rounded_up_to_what_the_device_takes(
    admin: Client, namespace: str, claims: str, asked: str | None, taken: str
) -> None:
    """And a claim cannot be changed afterwards."""
    assert asking(admin, namespace, "one", {"egress": asked} if asked else None).is_success

    (found,) = until(lambda: consumed(admin, claims), bool, _SECONDS)

    assert found["egress"] == taken
    (claim,) = admin.get(claims)["items"]
    request = claim["spec"]["devices"]["requests"][0]
    request["exactly"]["capacity"] = {"requests": {"egress": "7M"}}
    changed = admin.try_patch(
        f"{claims}/{claim['metadata']['name']}", {"spec": {"devices": {"requests": [request]}}}
    )
    assert "field is immutable" in changed.text


def test_a_quota_counts_devices_and_refuses_the_claim_of_a_pod_that_was_taken(
    admin: Client, namespace: str, claims: str
) -> None:
    """So whoever makes the pod is told nothing."""
    hard = {f"{CLASS}.deviceclass.resource.k8s.io/devices": "1"}
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    admin.create(path, {"metadata": {"name": "one"}, "spec": {"hard": hard}})
    used = dict.fromkeys(hard, "0")
    admin.patch(f"{path}/one/status", {"status": {"hard": hard, "used": used}})
    assert asking(admin, namespace, "first", {"egress": "1M"}).is_success
    until(lambda: consumed(admin, claims), bool, _SECONDS)

    second = asking(admin, namespace, "second", {"egress": "1M"})

    assert second.status_code == 201
    events = f"/api/v1/namespaces/{namespace}/events"
    (event,) = until(
        lambda: [
            event
            for event in admin.get(events)["items"]
            if event["reason"] == "FailedResourceClaimCreation"
        ],
        bool,
        _SECONDS,
    )[:1]
    assert "exceeded quota: one" in event["message"]


def test_an_extended_resource_of_such_a_class_is_a_number_of_devices(
    admin: Client, namespace: str, claims: str
) -> None:
    """Not an amount of one: so pods that book today cannot be served by it."""
    selector = {"cel": {"expression": "device.driver == 'podpace.io'"}}
    spec = {"extendedResourceName": "example.com/egress", "selectors": [selector]}
    path = f"{RESOURCE}/deviceclasses"
    admin.create(path, {"metadata": {"name": "amounts"}, "spec": spec})
    container = {"name": "main", "image": "x"}
    limits = {"resources": {"limits": {"example.com/egress": "200M"}}}
    body = {
        "metadata": {"name": "amount"},
        "spec": {"containers": [container | limits], "nodeSelector": {"linked": "true"}},
    }
    try:
        admin.create(f"/api/v1/namespaces/{namespace}/pods", body)

        _, why = until(lambda: placed(admin, namespace), lambda found: bool(found[1]), _SECONDS)
    finally:
        admin.delete(f"{path}/amounts")

    assert "adding 200000000 devices exceeds the claim limit" in why[0]
    assert admin.get(claims)["items"] == []
