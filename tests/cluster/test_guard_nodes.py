"""What an enforcer may write of Nodes: two keys of its own one's capacity."""

import httpx
import pytest

from tests.cluster.client import Client, Json
from tests.cluster.guard import NODE, OTHER_NODE
from tests.cluster.install import Installation, pod

INGRESS_RESOURCE, EGRESS_RESOURCE = "podpace.io/ingress", "podpace.io/egress"


@pytest.fixture
def registered(admin: Client, agent: Client) -> Client:
    """The enforcer of a Node whose kubelet has told what it has."""
    told = {"capacity": {"cpu": "8"}, "allocatable": {"cpu": "8"}}
    assert _advertise(admin, NODE, told).is_success
    return agent


def _advertise(client: Client, node: str, status: Json, **more: Json) -> httpx.Response:
    return client.try_patch(
        f"/api/v1/nodes/{node}/status", {"status": status, **more}, "merge-patch+json"
    )


def test_it_writes_what_the_scheduler_can_give_on_its_own_node(registered: Client) -> None:
    """Made, changed, and taken away again."""
    both = {INGRESS_RESOURCE: "1G", EGRESS_RESOURCE: "400G"}

    made = _advertise(registered, NODE, {"capacity": both})
    changed = _advertise(registered, NODE, {"capacity": {EGRESS_RESOURCE: "2G"}})
    gone = _advertise(registered, NODE, {"capacity": dict.fromkeys(both)})

    assert made.json()["status"]["capacity"] == {"cpu": "8"} | both, made.text
    assert changed.json()["status"]["capacity"][EGRESS_RESOURCE] == "2G"
    assert gone.json()["status"]["capacity"] == {"cpu": "8"}


@pytest.mark.parametrize("capacity", [None, {"cpu": "8"}])
def test_the_first_write_on_a_node_that_says_nothing_of_what_is_left_is_let_through(
    admin: Client, agent: Client, capacity: Json | None
) -> None:
    """The API server then fills in ``allocatable`` with all of ``capacity``, and so does ours."""
    empty = {"status": {"capacity": capacity, "allocatable": None}}
    json_patch = [{"op": "add", "path": "/status", "value": empty["status"]}]
    path = f"/api/v1/nodes/{NODE}/status"
    assert admin.try_patch(path, json_patch, "json-patch+json").is_success

    made = _advertise(agent, NODE, {"capacity": {EGRESS_RESOURCE: "1G"}})

    assert made.is_success, made.text
    assert made.json()["status"]["capacity"] == (capacity or {}) | {EGRESS_RESOURCE: "1G"}
    more = _advertise(agent, NODE, {"allocatable": {"cpu": "64", EGRESS_RESOURCE: "2G"}})
    assert "and nothing else" in more.text


def test_it_says_nothing_of_another_node(agent: Client) -> None:
    """A node that was taken over draws no pods away from others, nor keeps them off."""
    refused = _advertise(agent, OTHER_NODE, {"capacity": {EGRESS_RESOURCE: "1G"}})

    assert refused.status_code == 422
    assert "its own Node only" in refused.text


@pytest.mark.parametrize(
    ("status", "more"),
    [
        ({"capacity": {"cpu": "64"}}, {}),
        ({"capacity": {EGRESS_RESOURCE: "1G", "example.com/gpu": "8"}}, {}),
        ({"allocatable": {EGRESS_RESOURCE: "1G"}}, {}),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, {}),
        ({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}, {}),
        ({"nodeInfo": {"kernelVersion": "1"}}, {}),
        ({}, {"metadata": {"labels": {"a": "b"}}}),
        ({}, {"metadata": {"annotations": {"a": "b"}}}),
        ({}, {"metadata": {"finalizers": ["example.com/keep"]}}),
    ],
)
def test_it_changes_nothing_else_of_its_node(agent: Client, status: Json, more: Json) -> None:
    """Neither other resources nor its labels, by which pods are placed."""
    refused = _advertise(agent, NODE, status, **more)

    assert refused.status_code == 422, refused.text
    assert "and nothing else" in refused.text


def test_it_never_says_that_there_is_nothing(registered: Client) -> None:
    """A kubelet that is restarted ends all pods that have booked of 0."""
    refused = _advertise(registered, NODE, {"capacity": {EGRESS_RESOURCE: "0"}})

    assert refused.status_code == 422
    assert "would end pods" in refused.text


def test_a_kubelet_says_of_its_node_what_it_likes(installation: Installation) -> None:
    """The policy is about enforcers."""
    said = {"capacity": {"cpu": "8", EGRESS_RESOURCE: "0"}}

    assert _advertise(installation.admin, OTHER_NODE, said).is_success


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_booking_that_would_be_misread_is_refused_where_the_webhook_is_not_asked(
    admin: Client, where: str
) -> None:
    """Beyond 2^63 the scheduler takes it for a small number."""
    body = pod(name="misread")
    too_much = {"limits": {EGRESS_RESOURCE: "9223372036854775808"}}
    body["spec"].setdefault(where, []).append({"name": "much", "image": "x", "resources": too_much})

    refused = admin.http.post("/api/v1/namespaces/kube-system/pods", json=body)

    assert refused.status_code == 422, refused.text
    assert "at most 1P" in refused.text
