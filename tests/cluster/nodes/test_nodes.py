"""The simulated nodes themselves: what the other tests stand on."""

from pathlib import Path

import pytest

from tests.cluster.client import Client
from tests.cluster.helpers import until
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.kubelet import SimulatedNode


def _pod_on(node: SimulatedNode, name: str, **spec: object) -> dict[str, object]:
    return pod(name=name, nodeSelector={"kubernetes.io/hostname": node.name}, **spec)


@pytest.mark.parametrize("family", [4, 6])
def test_pods_reach_one_another_on_one_node_and_across(
    admin: Client, nodes: list[SimulatedNode], namespace: str, family: int
) -> None:
    """Bound by the real scheduler, run by ours."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    for name, node in {"a": nodes[0], "b": nodes[0], "c": nodes[1], "d": nodes[2]}.items():
        admin.create(path, _pod_on(node, name))
    a, b = (nodes[0].sandbox(namespace, name) for name in "ab")
    c, d = nodes[1].sandbox(namespace, "c"), nodes[2].sandbox(namespace, "d")

    for other in (b, c, d):
        assert other.network is not None
        a.place().run("ping", "-c1", "-W5", other.network.addresses[family])


def test_a_pod_is_ready_when_its_gates_are_open(
    admin: Client, nodes: list[SimulatedNode], namespace: str
) -> None:
    """And not before."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    gate = {"conditionType": "example.com/gate"}
    admin.create(path, _pod_on(nodes[0], "gated", readinessGates=[gate]))
    nodes[0].sandbox(namespace, "gated")
    before = until(lambda: _ready(admin, f"{path}/gated"), lambda status: status is not None)

    gate_open = {"conditions": [{"type": "example.com/gate", "status": "True"}]}
    admin.patch(f"{path}/gated/status", {"status": gate_open}, "strategic-merge-patch+json")

    assert before == "False"
    until(lambda: _ready(admin, f"{path}/gated"), lambda status: status == "True")


def _ready(admin: Client, path: str) -> str | None:
    conditions = admin.get(path)["status"].get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == "Ready"), None)


def test_a_deleted_pod_leaves_no_cgroup_and_no_namespace(
    installation: Installation, nodes: list[SimulatedNode], namespace: str
) -> None:
    """Also after its container was restarted and its cgroup made anew."""
    admin, path = installation.admin, f"/api/v1/namespaces/{namespace}/pods"
    admin.create(path, _pod_on(nodes[2], "short"))
    sandbox = nodes[2].sandbox(namespace, "short")
    first = sandbox.containers["main"]
    nodes[2].restart_container(namespace, "short")
    assert not first.exists()
    sandbox.recreate()
    assert sandbox.containers["main"].exists()
    assert sandbox.network is not None

    done = installation.plane.kubectl("delete", "pod", "-n", namespace, "short", "--timeout=20s")

    assert done.returncode == 0, done.stderr
    assert not sandbox.cgroup.exists()
    assert not (Path("/run/netns") / sandbox.network.name).exists()
