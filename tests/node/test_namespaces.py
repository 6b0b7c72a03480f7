"""Bandwidth that is shared on real nodes: two Deployments in two namespaces with totals.

What ``kubectl podpace nodes`` tells is beside what iperf3 measures.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.limits import namespace_group
from contract.names import POLICY_CONFIG_MAP, POLICY_TOTAL_PER_NODE, Direction
from tests.chart.helm import NAMESPACE as RELEASE_NAMESPACE
from tests.cluster.client import Json
from tests.node.cluster import Cluster
from tests.node.network import PLACES
from tests.node.pods import (
    IPERF_SERVER,
    PAYLOAD_SHARE,
    Pod,
    deployment,
    iperf,
    pod,
    wait_condition,
    wait_ready,
)

HERE, THERE = (place.name for place in PLACES)
TOTAL_BITS_PER_SEC = 3_000_000
SENDERS = {"many": 2, "few": 1}
RUN_SECONDS = 60
LOOK_SECONDS = 8.0
LEAST = 0.1
"""Of a total, for traffic to be there. How well a total is used is judged by tests/kernel: emulated
processors stand still now and then, and so does what is sent."""
MOST = 1.1
"""A total may be passed by so much in a second, while somebody who comes back is not seen yet."""


def group(name: str, replicas: int) -> Iterator[Json]:
    """A namespace with a total, and a Deployment in it whose pods are all on one node."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": POLICY_CONFIG_MAP, "namespace": name},
        "data": {f"{Direction.EGRESS}.{POLICY_TOTAL_PER_NODE}": str(TOTAL_BITS_PER_SEC)},
    }
    made = deployment(name, {})
    made["metadata"]["namespace"] = name
    made["spec"]["replicas"] = replicas
    spec = made["spec"]["template"]["spec"]
    del spec["topologySpreadConstraints"]
    spec["nodeSelector"] = {"kubernetes.io/hostname": HERE}
    yield made


@pytest.fixture(scope="module")
def sinks(podpace: Cluster) -> list[Pod]:
    """On the other node, one for each sender: an iperf3 server takes one at a time."""
    names = [f"group-sink-{number}" for number in range(sum(SENDERS.values()))]
    podpace.apply(*(pod(name, THERE, {}, *IPERF_SERVER) for name in names))
    return [wait_ready(podpace, name)[0] for name in names]


@pytest.fixture(scope="module")
def senders(podpace: Cluster) -> Iterator[dict[str, list[Pod]]]:
    """Pods without a limit of their own, by namespace; what they share is in force."""
    for name, replicas in SENDERS.items():
        podpace.apply(*group(name, replicas))
    found = {name: wait_ready(podpace, name, count, name) for name, count in SENDERS.items()}
    for name, pods in found.items():
        for item in pods:
            said = ("Enforced", f"egress of 3 Mbit/s for namespace {name} on this node")
            wait_condition(podpace, item.name, *said, namespace=name)
    yield found
    podpace.kubectl("delete", "namespace", *SENDERS, "--wait=false")


def nodes(cluster: Cluster) -> dict[str, Any]:
    """What ``kubectl podpace nodes`` says of what the senders send, by namespace; nothing, where an
    enforcer does not answer in time."""
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
    if done.returncode:
        cluster.say(done.stderr)
        return {}
    said = [told for told in json.loads(done.stdout) if told["direction"] == Direction.EGRESS]
    return {told["group"].removeprefix(namespace_group("")): told for told in said}


def test_nodes_shows_who_shares_and_nobody_has_more(
    podpace: Cluster, senders: dict[str, list[Pod]], sinks: list[Pod]
) -> None:
    """Two pods have together what one of another namespace has alone, and no more."""
    pods = [item for found in senders.values() for item in found]

    def all_send(told: dict[str, Any]) -> bool:
        return all(
            told.get(name, {}).get("used_bits_per_second", 0) >= LEAST * TOTAL_BITS_PER_SEC
            for name in senders
        )

    with ThreadPoolExecutor() as meanwhile:
        runs = [
            meanwhile.submit(iperf, podpace, item, sink, Direction.EGRESS, RUN_SECONDS)
            for item, sink in zip(pods, sinks, strict=True)
        ]
        said = podpace.until("all of them send", lambda: nodes(podpace), all_send)
        received = [run.result().bits_per_sec / PAYLOAD_SHARE for run in runs]
    (alone,) = [bits for item, bits in zip(pods, received, strict=True) if item in senders["few"]]
    assert LEAST * TOTAL_BITS_PER_SEC <= alone <= MOST * TOTAL_BITS_PER_SEC
    for name, found in senders.items():
        # Two that begin and end at different times have, by iperf3, moments alone.
        assert said[name]["used_bits_per_second"] <= MOST * TOTAL_BITS_PER_SEC
        assert said[name]["total_bits_per_second"] == TOTAL_BITS_PER_SEC
        assert said[name]["members"] == len(found)
        assert {user["pod"] for user in said[name]["most"]} == {
            f"{name}/{item.name}" for item in found
        }
        podpace.say(f"{name}: {said[name]['used_bits_per_second'] / 1e6:.2f} Mbit/s")
