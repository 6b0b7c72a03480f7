"""Bookings on the real API server and scheduler, with the enforcer's own code for two nodes.

The nodes have no kubelet: what it would copy from ``capacity`` to ``allocatable`` is copied here,
and pods that are bound do not run.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import yaml

from contract.names import LABEL_NAMESPACE_IGNORE as IGNORE
from contract.names import Direction
from enforcer.kube.advertise import ExtendedResources
from enforcer.kube.node_bookings import list_bookings
from enforcer.kube.own_node import node_watch
from enforcer.logs import make_log
from enforcer.loops import start_loop
from kube.api import KubeApi
from kube.credentials import load
from tests.cluster.client import Client
from tests.cluster.helpers import until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, asking, pod
from tests.cluster.nodes.identity import bound_token, enforcer_pod
from tests.cluster.plane import ControlPlane
from tests.pod_shapes import EGRESS

NODES: Final = ("narrow-a", "narrow-b")
ROOM: Final = {"cpu": "64", "memory": "256Gi", "pods": "110"}
CAPACITY: Final = 10**9
_SECONDS: Final = 60
"""How long a test waits before it gives up; nothing is said by it of how long it should take."""


class Node:
    """A Node object, and the part of an enforcer that speaks of it."""

    def __init__(self, plane: ControlPlane, admin: Client, name: str, work: Path) -> None:
        self.name = name
        self.path = f"/api/v1/nodes/{name}"
        self.capacity = {Direction.EGRESS: CAPACITY}
        self._plane, self._admin, self._work = plane, admin, work
        self._stopping = threading.Event()
        self._pods = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"

    def register(self) -> None:
        """As a new kubelet does."""
        labels = {"kubernetes.io/hostname": self.name, "narrow": "true"}
        self._admin.create("/api/v1/nodes", {"metadata": {"name": self.name, "labels": labels}})
        ready = {"type": "Ready", "status": "True"}
        status = {"capacity": ROOM, "allocatable": ROOM, "conditions": [ready]}
        self._admin.patch(f"{self.path}/status", {"status": status})
        self._admin.patch(self.path, {"spec": {"taints": None}})

    def unregister(self) -> None:
        """Somebody deletes the object; pods on it go when it stays away, which it does not."""
        self._admin.delete(self.path)

    def start_enforcer(self) -> ExtendedResources:
        """With the token of its own pod, which the admission policy asks for."""
        own = self._admin.create(self._pods, enforcer_pod(self.name))
        (self._work / f"{self.name}.yaml").write_text(
            yaml.safe_dump(
                {
                    "current-context": "x",
                    "clusters": [
                        {
                            "name": "x",
                            "cluster": {
                                "server": self._plane.url,
                                "certificate-authority": str(self._plane.ca_file),
                            },
                        }
                    ],
                    "users": [{"name": "x", "user": {"token": bound_token(self._admin, own)}}],
                    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                }
            )
        )
        api = KubeApi(lambda: load(str(self._work / f"{self.name}.yaml")))
        self._stopping, log = threading.Event(), make_log("error")
        offer = ExtendedResources(
            api,
            self.name,
            self.capacity.get,
            lambda _: 0,
            list_booked=lambda: list_bookings(api, self.name),
            ready=lambda: True,
            log=log,
        )
        watch = node_watch(api, self.name, offer.see, metadata_only=False)
        for name, step in (("watch node", watch.step), ("advertise", offer.step)):
            start_loop(name, step, self._stopping, log, lambda _: None)
        return offer

    def still_enforcer(self) -> None:
        """Its threads stop where they are."""
        self._stopping.set()

    def kill_enforcer(self) -> None:
        """Its threads stop where they are; the pod object goes, and its rights with it."""
        self.still_enforcer()
        self._admin.delete(f"{self._pods}/{enforcer_pod(self.name)['metadata']['name']}")

    def wait_capacity(self, amount: str = "1G") -> None:
        """Returns when its enforcer has said what it has, and the kubelet has copied it."""
        until(
            lambda: self._admin.get(self.path)["status"].get("capacity", {}),
            lambda capacity: capacity.get(EGRESS) == amount,
            _SECONDS,
        )
        copied = {"status": {"allocatable": {EGRESS: amount}}}
        self._admin.patch(f"{self.path}/status", copied)


@pytest.fixture(scope="module")
def nodes(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Node]]:
    """Two of 1 Gbit/s."""
    work = tmp_path_factory.mktemp("scheduling")
    with ExitStack() as stack:
        made = [Node(installation.plane, installation.admin, name, work) for name in NODES]
        for node in made:
            node.register()
            stack.callback(node.unregister)
            node.start_enforcer()
            stack.callback(node.kill_enforcer)
        for node in made:
            node.wait_capacity()
        yield made


def placed(admin: Client, namespace: str) -> tuple[dict[str, int], list[str]]:
    """How many pods each node has, and why the others wait, as the scheduler says it."""
    counts: dict[str, int] = {}
    waiting = []
    for found in admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
        node = found["spec"].get("nodeName")
        if node:
            counts[node] = counts.get(node, 0) + 1
        else:
            conditions = found["status"].get("conditions", [])
            waiting += [c["message"] for c in conditions if c["type"] == "PodScheduled"]
    return counts, waiting


def place_one(admin: Client, namespace: str, node: Node) -> None:
    """A pod that has booked, on that node."""
    body = asking("stays")
    body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node.name}
    admin.create(f"/api/v1/namespaces/{namespace}/pods", body)
    until(lambda: placed(admin, namespace)[0], lambda counts: counts == {node.name: 1}, _SECONDS)


def test_two_nodes_of_1g_take_ten_of_twelve_pods_that_request_200m(
    admin: Client, nodes: list[Node], booking: str
) -> None:
    """Five each; two wait with the scheduler's reason, and one of them runs when one leaves."""
    pods = f"/api/v1/namespaces/{booking}/pods"
    for number in range(12):
        admin.create(pods, asking(f"p{number}"))

    counts, waiting = until(
        lambda: placed(admin, booking),
        lambda found: sum(found[0].values()) == 10 and len(found[1]) == 2,
        _SECONDS,
    )

    assert counts == {node.name: 5 for node in nodes}
    assert all("2 Insufficient podpace.io/egress" in why for why in waiting)
    running = [p for p in admin.get(pods)["items"] if p["spec"].get("nodeName")]
    admin.delete(f"{pods}/{running[0]['metadata']['name']}")
    counts, waiting = until(
        lambda: placed(admin, booking), lambda found: len(found[1]) == 1, _SECONDS
    )
    assert sum(counts.values()) == 10


def test_a_node_that_is_made_anew_has_its_capacity_again_and_ends_no_pod(
    admin: Client, nodes: list[Node], booking: str
) -> None:
    """Its pods stay bound to its name; nobody else wrote to it."""
    node = nodes[0]
    place_one(admin, booking, node)

    node.unregister()
    node.register()
    node.wait_capacity()

    assert placed(admin, booking)[0] == {node.name: 1}


def test_a_lower_capacity_waits_for_pods_that_nobody_labelled(
    admin: Client, nodes: list[Node], namespace: str
) -> None:
    """They book by themselves in a namespace that the webhook leaves out."""
    node = nodes[0]
    admin.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {IGNORE: "true"}}})
    body = pod({}, name="own", nodeSelector={"kubernetes.io/hostname": node.name})
    body["spec"]["containers"][0]["resources"] = {"limits": {EGRESS: "700M"}}
    path = f"/api/v1/namespaces/{namespace}/pods"
    until(
        lambda: admin.http.post(path, params={"dryRun": "All"}, json=body).json(),
        lambda made: not made["metadata"].get("labels"),
        _SECONDS,
    )
    admin.create(path, body)
    until(lambda: placed(admin, namespace)[0], lambda counts: counts == {node.name: 1}, _SECONDS)

    node.capacity[Direction.EGRESS] = CAPACITY // 2
    node.wait_capacity("700M")
    admin.delete(f"{path}/own")
    node.wait_capacity("500M")

    node.capacity[Direction.EGRESS] = CAPACITY
    node.wait_capacity()


def test_an_enforcer_that_was_away_finds_what_it_said_and_puts_right_what_changed(
    admin: Client, nodes: list[Node], booking: str
) -> None:
    """While it is away its Node keeps what it said; a Node made anew meanwhile gets it later."""
    node = nodes[1]
    place_one(admin, booking, node)

    node.kill_enforcer()
    assert admin.get(node.path)["status"]["capacity"][EGRESS] == "1G"
    node.unregister()
    node.register()
    assert EGRESS not in admin.get(node.path)["status"]["capacity"]
    node.start_enforcer()
    node.wait_capacity()

    assert placed(admin, booking)[0] == {node.name: 1}


def test_who_goes_for_good_leaves_no_key_and_no_pod_is_ended(
    admin: Client, nodes: list[Node], booking: str
) -> None:
    """As an enforcer whose installation was deleted."""
    node = nodes[0]
    place_one(admin, booking, node)

    node.kill_enforcer()
    offer = node.start_enforcer()
    until(lambda: offer.advertised(Direction.EGRESS), bool, _SECONDS)
    node.still_enforcer()
    offer.withdraw()

    assert admin.get(node.path)["status"]["capacity"] == ROOM
    assert placed(admin, booking)[0] == {node.name: 1}
    node.kill_enforcer()
    node.start_enforcer()
    node.wait_capacity()
