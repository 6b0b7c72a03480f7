"""Bandwidth that is shared on real nodes: two Deployments in two namespaces with totals.

What ``kubectl podpace nodes`` tells is beside what iperf3 measures.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.limits import namespace_group
from contract.names import Direction
from tests.chart.helm import NAMESPACE as RELEASE_NAMESPACE
from tests.cluster.client import Json
from tests.node.cluster import Cluster
from tests.node.network import PLACES
from tests.node.pods import (
    IPERF_SERVER,
    MOST,
    PAYLOAD_SHARE,
    Pod,
    Received,
    deployment,
    iperf,
    pod,
    wait_condition,
    wait_ready,
)
from tests.node.product import SHARED_BITS_PER_SEC, SHARED_SELECTOR

HERE, THERE = (place.name for place in PLACES)
RUN_SECONDS = 30
LOOK_SECONDS = 8.0
LEAST = 0.85
"""Emulated processors stand still now and then; what is shared is not used up for that long."""
NEAR = 0.25
"""What two who look at different seconds may differ by."""


def shared(name: str, namespace: str, replicas: int, annotations: dict[str, str]) -> Json:
    """A Deployment whose pods are all on one node."""
    made = deployment(name, annotations)
    made["metadata"]["namespace"] = namespace
    made["spec"]["replicas"] = replicas
    spec = made["spec"]["template"]["spec"]
    del spec["topologySpreadConstraints"]
    spec["nodeSelector"] = {"kubernetes.io/hostname": HERE}
    return made


@pytest.fixture(scope="module")
def sinks(podpace: Cluster) -> list[Pod]:
    """On the other node, one for each sender: an iperf3 server takes one at a time."""
    podpace.apply(*(pod(f"shared-sink-{n}", THERE, {}, *IPERF_SERVER) for n in range(3)))
    return [wait_ready(podpace, f"shared-sink-{n}")[0] for n in range(3)]


@pytest.fixture(scope="module")
def senders(podpace: Cluster) -> dict[str, list[Pod]]:
    """Two pods of namespace ``many``, one of namespace ``few``; none has a limit of its own."""
    key, _, value = SHARED_SELECTOR.partition("=")
    for name in ("many", "few"):
        metadata = {"name": name, "labels": {key: value}}
        podpace.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    podpace.apply(shared("many", "many", 2, {}), shared("few", "few", 1, {}))
    found = {name: wait_ready(podpace, name, n, name) for name, n in (("many", 2), ("few", 1))}
    for name, pods in found.items():
        for item in pods:
            said = ("Enforced", f"egress of 6 Mbit/s for namespace {name} on this node")
            wait_condition(podpace, item.name, *said, namespace=name)
    return found


def nodes(cluster: Cluster) -> dict[tuple[str, str], Any]:
    """What ``kubectl podpace nodes`` says of the senders' node, by group and direction."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "client.kube", "nodes", HERE, "-o", "json"),
            *(f"--interval={LOOK_SECONDS}", f"--release-namespace={RELEASE_NAMESPACE}"),
            f"--kubeconfig={cluster.plane.kubeconfig('admin')}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {(group["group"], group["direction"]): group for group in json.loads(done.stdout)}


def send(
    cluster: Cluster, pods: Sequence[Pod], sinks: Sequence[Pod]
) -> tuple[dict[str, float], dict[tuple[str, str], Any]]:
    """All send at once: frames' bits per second of each namespace by iperf3, and what ``nodes``
    said meanwhile."""
    with ThreadPoolExecutor() as meanwhile:
        runs = [
            meanwhile.submit(iperf, cluster, item, sink, Direction.EGRESS, RUN_SECONDS)
            for item, sink in zip(pods, sinks, strict=False)
        ]
        cluster.plane.kubectl("get", "pods", "--all-namespaces", "--output=name")
        said = nodes(cluster)
        received: list[Received] = [run.result() for run in runs]
    used: dict[str, float] = {}
    for item, got in zip(pods, received, strict=True):
        used[item.namespace] = used.get(item.namespace, 0.0) + got.bits_per_sec / PAYLOAD_SHARE
    cluster.say(f"Mbit/s by namespace: { {n: round(v / 1e6, 2) for n, v in used.items()} }")
    return used, said


def test_pods_of_a_namespace_have_its_total_together(
    podpace: Cluster, senders: dict[str, list[Pod]], sinks: list[Pod]
) -> None:
    """Two pods have together what one of another namespace has alone; ``nodes`` says so."""
    pods = [*senders["many"], *senders["few"]]

    used, said = send(podpace, pods, sinks)

    for name, bits_per_sec in used.items():
        assert LEAST <= bits_per_sec / SHARED_BITS_PER_SEC <= MOST
        group = said[namespace_group(name), "egress"]
        assert group["total_bits_per_second"] == SHARED_BITS_PER_SEC
        assert group["members"] == len(senders[name])
        assert abs(group["used_bits_per_second"] / bits_per_sec - 1) <= NEAR
        users = {user["pod"] for user in group["most"]}
        assert users == {f"{name}/{item.name}" for item in senders[name]}
    assert said[namespace_group("many"), "egress"]["short_since"] is not None
