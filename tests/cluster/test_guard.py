"""What an enforcer may write: one condition on pods of its own node, and its own Events."""

from collections.abc import Iterator
from itertools import count

import httpx
import pytest
import yaml

from tests.cluster.client import Client, Json
from tests.cluster.guard import NODE, OTHER_NODE, STRATEGIC, write
from tests.cluster.helpers import EGRESS, EGRESS_LABEL, until
from tests.cluster.install import (
    KUBELET_USER,
    REQUIRE_VERB,
    Installation,
    pod,
    render,
)
from tests.cluster.nodes.identity import bound_token, client_with

OURS = {
    "type": "podpace.io/BandwidthEnforced",
    "status": "True",
    "reason": "Enforced",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
INITIALIZED = {"type": "Initialized", "status": "True"}
OWN_NODE_ONLY = "own node only"
ONE_CONDITION = "and nothing else"


@pytest.fixture
def here(admin: Client, agent: Client, namespace: str) -> str:
    """The path of a limited pod on node-1."""
    path = _pod_on(admin, namespace, NODE)
    admin.patch(f"{path}/status", {"status": {"conditions": [INITIALIZED]}})
    return path


def _pod_on(admin: Client, namespace: str, node: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/pods"
    made = admin.create(path, pod({EGRESS: "10M"}, name=f"on-{node}", nodeName=node))
    return f"{path}/{made['metadata']['name']}"


def _conditions(found: Json) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["status"].get("conditions", [])}


def test_it_writes_its_condition_on_its_own_node(agent: Client, here: str) -> None:
    """Made, changed and taken away again."""
    uid = {"metadata": {"uid": agent_sees(agent, here)["metadata"]["uid"]}}
    made = agent.try_patch(f"{here}/status", uid | {"status": {"conditions": [OURS]}}, STRATEGIC)
    changed = write(agent, here, OURS | {"status": "False", "reason": "Failed"})
    gone = write(agent, here, {"type": OURS["type"], "$patch": "delete"})

    assert _conditions(made.json())[OURS["type"]] == "True"
    assert _conditions(changed.json())[OURS["type"]] == "False"
    assert OURS["type"] not in _conditions(gone.json())


def agent_sees(agent: Client, path: str) -> Json:
    """A pod as its list shows it: it has no right to get one."""
    folder, _, name = path.rpartition("/")
    listed = agent.http.get(folder, params={"fieldSelector": f"metadata.name={name}"})
    item: Json = listed.json()["items"][0]
    return item


def test_it_cannot_write_on_another_node(admin: Client, agent: Client, namespace: str) -> None:
    """A node that was taken over cannot speak for the others."""
    refused = write(agent, _pod_on(admin, namespace, OTHER_NODE), OURS)

    assert refused.status_code == 422
    assert OWN_NODE_ONLY in refused.text


def test_it_cannot_write_to_a_pod_that_is_on_no_node(
    admin: Client, agent: Client, namespace: str
) -> None:
    """Nor before the scheduler has decided."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    admin.create(path, pod({EGRESS: "10M"}, name="a", schedulingGates=[{"name": "example.com/x"}]))

    assert OWN_NODE_ONLY in write(agent, f"{path}/a", OURS).text


def test_a_token_that_is_bound_to_no_pod_writes_nothing(
    installation: Installation, here: str
) -> None:
    """``kubectl create token`` makes such."""
    with client_with(installation.plane, bound_token(installation.admin, None)) as loose:
        assert OWN_NODE_ONLY in write(loose, here, OURS).text


@pytest.mark.parametrize(
    "body",
    [
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"status": {"conditions": [{"type": "podpace.io/Other", "status": "True"}]}},
        {"status": {"conditions": [{"type": "Initialized", "$patch": "delete"}]}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"reason": "Evicted"}},
        {"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}},
        {"status": {"hostIP": "10.0.0.9", "hostIPs": [{"ip": "10.0.0.9"}]}},
        {"status": {"startTime": "2020-01-01T00:00:00Z"}},
        {
            "status": {
                "containerStatuses": [
                    {"name": "main", "ready": True, "image": "x", "imageID": "y", "restartCount": 0}
                ]
            }
        },
        {"metadata": {"labels": {"app": "other"}}},
        {"metadata": {"labels": {"podpace.io/egress-bits-per-second": "1"}}},
        {"metadata": {"annotations": {"example.com/a": "b"}}},
        {"metadata": {"finalizers": ["example.com/never"]}},
    ],
    ids=lambda body: ".".join((next(iter(body)), next(iter(body[next(iter(body))])))),
)
def test_it_writes_nothing_else_even_beside_its_condition(
    agent: Client, here: str, body: Json
) -> None:
    """Not another condition, a phase, an address, a label: its token is on every node."""
    conditions = [OURS, *body.get("status", {}).get("conditions", [])]
    status = body.get("status", {}) | {"conditions": conditions}

    refused = agent.try_patch(f"{here}/status", body | {"status": status}, STRATEGIC)

    assert refused.status_code == 422
    assert ONE_CONDITION in refused.text or "follow from the annotations" in refused.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "{pod}"),
        ("PATCH", "{pod}"),
        ("DELETE", "{pod}"),
        ("PATCH", "/api/v1/nodes/node-1"),
        ("DELETE", "/api/v1/nodes/node-1"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/configmaps"),
        ("GET", "/api/v1/namespaces"),
        ("POST", "{pod}/eviction"),
    ],
)
def test_its_role_allows_nothing_else(agent: Client, here: str, method: str, path: str) -> None:
    """List and watch pods and nodes, patch their status, create and patch Events."""
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}

    answer = agent.http.request(method, path.format(pod=here), json={}, headers=headers)

    assert answer.status_code == 403


def test_nobody_else_writes_its_condition(
    installation: Installation, agent: Client, here: str
) -> None:
    """Not even an administrator, nor a kubelet."""
    assert write(agent, here, OURS).is_success
    with installation.plane.client(KUBELET_USER) as kubelet:
        for client in (installation.admin, kubelet):
            lie = write(client, here, OURS | {"status": "False", "reason": "Failed"})
            erased = write(client, here, {"type": OURS["type"], "$patch": "delete"})
            assert "only the enforcer says" in lie.text
            assert "only the enforcer says" in erased.text


def test_the_kubelets_updates_keep_working_and_keep_our_condition(
    installation: Installation, agent: Client, here: str
) -> None:
    """It patches what it knows, in the same list."""
    assert write(agent, here, OURS).is_success
    with installation.plane.client(KUBELET_USER) as kubelet:
        ready = {"type": "Ready", "status": "True"}
        written = write(kubelet, here, ready, phase="Running", podIP="10.0.0.7")

    assert written.status_code == 200, written.text
    expected = {OURS["type"]: "True", "Ready": "True", "Initialized": "True"}
    assert _conditions(written.json()) == expected


def _event(controller: str, regarding: Json) -> Json:
    return {
        "metadata": {"generateName": "podpace-"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": controller,
        "reportingInstance": NODE,
        "action": "Limit",
        "reason": "LimitChanged",
        "type": "Normal",
        "note": "egress 10 Mbit/s",
        "regarding": {
            "kind": "Pod",
            "namespace": regarding["metadata"]["namespace"],
            "name": regarding["metadata"]["name"],
        },
    }


def test_it_writes_events_of_its_own_only(admin: Client, agent: Client, here: str) -> None:
    """It can neither speak as another component nor change what another said."""
    regarding = admin.get(here)
    events = f"/apis/events.k8s.io/v1/namespaces/{regarding['metadata']['namespace']}/events"
    someones = admin.create(events, _event("example.com/other", regarding))

    own = agent.create(events, _event("podpace.io/enforcer", regarding))
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    repeated = agent.try_patch(f"{events}/{own['metadata']['name']}", series)
    as_other = agent.http.post(events, json=_event("kubelet", regarding))
    of_other = agent.try_patch(f"{events}/{someones['metadata']['name']}", series)

    assert repeated.is_success, repeated.text
    assert "events of its own only" in as_other.text
    assert "events of its own only" in of_other.text


@pytest.fixture
def verb_required(installation: Installation) -> Iterator[None]:
    """A cluster that asks for the verb."""
    documents = yaml.dump_all(render("live-changes.yaml", REQUIRE_VERB))
    for command in ("apply", "delete"):
        done = installation.plane.kubectl(command, "-f", "-", stdin=documents)
        assert done.returncode == 0, done.stderr
        if command == "apply":
            yield


def test_live_changes_need_a_verb_where_the_cluster_asks_for_it(
    installation: Installation, verb_required: None, namespace: str
) -> None:
    """Who may edit pods may then still not change their bandwidth, until the verb is granted."""
    admin = installation.admin
    path = f"/api/v1/namespaces/{namespace}/pods"
    admin.create(path, pod({EGRESS: "10M"}, name="a"))
    rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    _grant(admin, rights, "editor", ["get", "create", "patch"])
    rates = count(20)

    def change() -> httpx.Response:
        edit = {"metadata": {"annotations": {EGRESS: f"{next(rates)}M"}}}
        return editor.try_patch(f"{path}/a", edit)

    with installation.plane.client("editor") as editor:
        refused = until(change, lambda response: not response.is_success)
        other = editor.try_patch(f"{path}/a", {"metadata": {"annotations": {"a": "b"}}})
        created = editor.http.post(path, json=pod({EGRESS: "10M"}, name="b"))
        # As the page on security tells it.
        for command in (
            ("role", "--verb=change-bandwidth", "--resource=pods"),
            ("rolebinding", "--role=bandwidth", "--user=editor"),
        ):
            kind, *rest = command
            done = installation.plane.kubectl("create", kind, "bandwidth", "-n", namespace, *rest)
            assert done.returncode == 0, done.stderr
        asked = ("auth", "can-i", "change-bandwidth", "pods", "-n", namespace)
        can = installation.plane.kubectl(*asked, user="editor")
        allowed = until(change, lambda response: response.is_success)

    assert refused.status_code == 403
    assert "needs the verb change-bandwidth on pods" in refused.text
    assert other.is_success, other.text
    assert created.is_success, created.text
    assert can.stdout == "yes\n"
    written = allowed.json()["metadata"]
    assert written["labels"][EGRESS_LABEL] == written["annotations"][EGRESS].replace("M", "000000")


def _grant(admin: Client, rights: str, name: str, verbs: list[str]) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": verbs}
    admin.create(f"{rights}/roles", {"metadata": {"name": name}, "rules": [rule]})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "editor"}],
    }
    admin.create(f"{rights}/rolebindings", binding)
