"""Limited pods on real nodes: kubelet, containerd, runc, CNI bridge, kernel 6.1."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.names import (
    ANNOTATION_EGRESS_BANDWIDTH,
    ANNOTATION_INGRESS_BANDWIDTH,
    ANNOTATION_KUBERNETES_EGRESS_BANDWIDTH,
    ANNOTATION_KUBERNETES_INGRESS_BANDWIDTH,
    POLICY_CONFIG_MAP,
    POLICY_TAKE_OVER,
    Direction,
)
from tests.node.cluster import Cluster
from tests.node.network import PLACES
from tests.node.pods import (
    IPERF_SERVER,
    LEAST,
    NAMESPACE,
    Pod,
    assert_limited,
    deployment,
    iperf,
    listed,
    pod,
    wait_condition,
    wait_ready,
)
from tests.node.product import enforcer_pods, metrics

INGRESS_BITS_PER_SEC = 8_000_000
EGRESS_BITS_PER_SEC = 5_000_000
LIMITS = {ANNOTATION_INGRESS_BANDWIDTH: "8M", ANNOTATION_EGRESS_BANDWIDTH: "5M"}
LIMIT = {Direction.INGRESS: INGRESS_BITS_PER_SEC, Direction.EGRESS: EGRESS_BITS_PER_SEC}
KILL_SECONDS = 20
_PLUGINS_QUEUE = re.compile(r"qdisc tbf \S+ dev \S+ root")
"""A tbf of ours is below another queue."""


@pytest.fixture(scope="module")
def applied(podpace: Cluster) -> Cluster:
    """A Deployment of two pods, one a node, whose template is annotated; and on each node a pod
    without limits, with an iperf3 server."""
    servers = (pod(f"peer-{p.name}", p.name, {}, *IPERF_SERVER) for p in PLACES)
    podpace.apply(deployment("limited", LIMITS), *servers)
    return podpace


@pytest.fixture(scope="module")
def limited(applied: Cluster) -> list[Pod]:
    """The Deployment's pods; their limits are in force."""
    pods = wait_ready(applied, "limited", 2)
    for item in pods:
        wait_condition(applied, item.name, "Enforced", "ingress 8 Mbit/s", "egress 5 Mbit/s")
    return pods


@pytest.fixture(scope="module")
def peers(applied: Cluster) -> dict[str, Pod]:
    """The pods without limits, by node."""
    return {p.name: wait_ready(applied, f"peer-{p.name}")[0] for p in PLACES}


def across(peers: dict[str, Pod], item: Pod) -> Pod:
    """The peer on the other node."""
    return next(peer for node, peer in peers.items() if node != item.node)


def test_pods_of_both_nodes_reach_each_other(podpace: Cluster, limited: list[Pod]) -> None:
    """Limited pods on two nodes ping each other, both ways."""
    first, second = limited
    assert first.node != second.node
    for here, there in ((first, second), (second, first)):
        podpace.kubectl("exec", here.name, "--", "ping", "-c", "2", "-w", "20", there.address)


@pytest.mark.parametrize("direction", Direction)
def test_pods_use_their_limits_and_no_more(
    applied: Cluster, limited: list[Pod], peers: dict[str, Pod], direction: Direction
) -> None:
    """One TCP flow across nodes gets what the limit allows, on both nodes."""
    for item in limited:
        assert_limited(applied, item, across(peers, item), direction, LIMIT[direction])


def test_an_annotation_changes_the_rate(
    podpace: Cluster, limited: list[Pod], peers: dict[str, Pod]
) -> None:
    """``kubectl annotate`` on a running pod: the condition says the new rate, which is in force."""
    item = limited[0]

    def annotate(text: str) -> None:
        change = f"{ANNOTATION_EGRESS_BANDWIDTH}={text}"
        podpace.kubectl("annotate", "pod", item.name, change, "--overwrite")
        wait_condition(podpace, item.name, "Enforced", f"egress {text.removesuffix('M')} Mbit/s")

    annotate("10M")
    assert_limited(podpace, item, across(peers, item), Direction.EGRESS, 10_000_000)
    annotate("5M")
    assert_limited(podpace, item, across(peers, item), Direction.EGRESS, EGRESS_BITS_PER_SEC)


def test_a_restarted_container_is_limited(
    podpace: Cluster, limited: list[Pod], peers: dict[str, Pod]
) -> None:
    """A container whose first process ends is started again by the kubelet, and limited again."""
    item = limited[1]

    def restarts() -> int:
        (found,) = [i for i in listed(podpace, "limited") if i["metadata"]["name"] == item.name]
        count: int = found["status"]["containerStatuses"][0]["restartCount"]
        return count

    before = restarts()
    # The container's end may take `kill` along, so what says that it worked is the restart.
    podpace.plane.kubectl("exec", item.name, "--", "kill", "-TERM", "1")
    podpace.until("the container is restarted", restarts, lambda count: count > before)
    wait_ready(podpace, "limited", 2)
    assert_limited(podpace, item, across(peers, item), Direction.EGRESS, EGRESS_BITS_PER_SEC)


def test_limits_hold_while_an_enforcer_is_killed(
    podpace: Cluster, limited: list[Pod], peers: dict[str, Pod]
) -> None:
    """SIGKILL to a node's enforcer under traffic: no second is above the limit, and the kubelet
    starts a new one, which takes over."""
    item = limited[0]
    machine = podpace.machines[item.node]
    name = enforcer_pods(podpace)[item.node]["metadata"]["name"]

    def started_again() -> bool:
        status = enforcer_pods(podpace)[item.node]["status"]["containerStatuses"][0]
        return bool(status["ready"] and status["restartCount"] >= 1)

    with ThreadPoolExecutor() as meanwhile:
        load = meanwhile.submit(
            iperf, podpace, item, across(peers, item), Direction.EGRESS, KILL_SECONDS
        )
        machine.ok("pkill -KILL -f '[b]in/podpace-enforcer --node-name'")
        received = load.result()
    podpace.until(f"{name} is started again", started_again, bool)
    assert f'target="pod:{NAMESPACE}/{item.name}"' in metrics(item.node)
    used = received.utilisation(EGRESS_BITS_PER_SEC)
    podpace.say(f"egress across the kill: {used:.3f} of the limit")
    assert received.above(EGRESS_BITS_PER_SEC) == []
    assert used >= LEAST


def test_a_second_limiter_is_said_in_the_condition(podpace: Cluster) -> None:
    """The CNI bandwidth plugin limits by the same annotation: the condition says what is there."""
    node = PLACES[0].name
    podpace.apply(pod("twice", node, {ANNOTATION_KUBERNETES_INGRESS_BANDWIDTH: "8M"}))
    (item,) = wait_ready(podpace, "twice")
    wait_condition(podpace, item.name, "ingress 8 Mbit/s", "tbf", "somebody else's")
    assert _PLUGINS_QUEUE.search(podpace.machines[node].ok("tc qdisc show"))
    podpace.kubectl("delete", "pod", "twice", "--wait=true")


def test_take_over_leaves_one_limiter(podpace: Cluster, peers: dict[str, Pod]) -> None:
    """With ``take-over`` in the policy the plugin gets nothing to do, and the limit is ours."""
    podpace.kubectl(
        *("create", "configmap", POLICY_CONFIG_MAP, f"--from-literal={POLICY_TAKE_OVER}=true")
    )
    node = PLACES[0].name
    annotations = {
        ANNOTATION_KUBERNETES_EGRESS_BANDWIDTH: "5M",
        ANNOTATION_KUBERNETES_INGRESS_BANDWIDTH: "8M",
    }
    made = pod("once", node, annotations)
    moved = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    podpace.until(
        "the webhook knows the policy",
        lambda: podpace.kubectl(*moved, stdin=json.dumps(made)),
        lambda said: ANNOTATION_KUBERNETES_EGRESS_BANDWIDTH not in said,
    )
    podpace.apply(made)
    (item,) = wait_ready(podpace, "once")
    said = wait_condition(podpace, item.name, "Enforced", "ingress 8 Mbit/s", "egress 5 Mbit/s")
    assert "somebody else's" not in said["message"]
    assert not _PLUGINS_QUEUE.search(podpace.machines[node].ok("tc qdisc show"))
    assert_limited(podpace, item, across(peers, item), Direction.EGRESS, EGRESS_BITS_PER_SEC)
    podpace.kubectl("delete", "pod", "once", "--wait=true")
    podpace.kubectl("delete", "configmap", POLICY_CONFIG_MAP)


def test_a_deleted_pod_leaves_nothing(podpace: Cluster) -> None:
    """A pod is deleted: its cgroup, its programs, its records and its queues are gone."""
    node = PLACES[1].name
    machine = podpace.machines[node]
    before = _traces(podpace, node)
    podpace.apply(pod("short", node, LIMITS))
    (item,) = wait_ready(podpace, "short")
    wait_condition(podpace, item.name, "Enforced")
    assert _traces(podpace, node) != before
    podpace.kubectl("delete", "pod", "short", "--wait=true")
    podpace.until("the pod's traces are gone", lambda: _traces(podpace, node), before.__eq__)
    assert machine.run(f"ls {item.cgroup}").code != 0
    assert f"/{item.name}" not in metrics(node)


def _traces(cluster: Cluster, node: str) -> str:
    """What a limited pod leaves on its node: programs, records in pinned maps, queues, links.

    Flows are not counted: the kernel drops the least recently used when their map is full.
    """
    return cluster.machines[node].ok(
        "bpftool cgroup tree | grep -c podpace;"
        "for map in $(find /sys/fs/bpf/podpace -type f ! -name '*flows'); do"
        "  bpftool -j map dump pinned $map 2>/dev/null | tr , '\\n' | grep -c '\"key\"';"
        "done;"
        "tc qdisc show | wc -l; ip -brief link | wc -l; true"
    )
