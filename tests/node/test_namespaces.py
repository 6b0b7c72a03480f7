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
    RUNS,
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
LEAST = 0.8
"""Of a total. Emulated processors stand still now and then, and so does what is sent."""
MOST = 1.1
"""A total may be passed by so much in a second, while somebody who comes back is not seen yet."""
NEAR = 0.25
"""What two who look at different seconds may differ by."""


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
    """What ``kubectl podpace nodes`` says of what the senders send, by namespace."""
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
    said = [told for told in json.loads(done.stdout) if told["direction"] == Direction.EGRESS]
    return {told["group"].removeprefix(namespace_group("")): told for told in said}


def test_nodes_shows_what_iperf3_measures(
    podpace: Cluster, senders: dict[str, list[Pod]], sinks: list[Pod]
) -> None:
    """Two pods have together what one of another namespace has alone, and no more."""
    pods = [item for found in senders.values() for item in found]
    tried: list[dict[str, tuple[float, float]]] = []
    for _ in range(RUNS):
        with ThreadPoolExecutor() as meanwhile:
            runs = [
                meanwhile.submit(iperf, podpace, item, sink, Direction.EGRESS, RUN_SECONDS)
                for item, sink in zip(pods, sinks, strict=True)
            ]
            podpace.until(
                "all of them send",
                lambda: nodes(podpace),
                lambda told: all(
                    told[name]["used_bits_per_second"] >= LEAST / 2 * TOTAL_BITS_PER_SEC
                    for name in senders
                ),
            )
            said = nodes(podpace)
            received = [run.result().bits_per_sec / PAYLOAD_SHARE for run in runs]
        measured = {
            name: sum(bits for item, bits in zip(pods, received, strict=True) if item in found)
            for name, found in senders.items()
        }
        for name, found in senders.items():
            # Two that begin and end at different times have, each by itself, moments alone.
            by_one_clock = said[name]["used_bits_per_second"] if len(found) > 1 else measured[name]
            assert by_one_clock <= MOST * TOTAL_BITS_PER_SEC
            assert said[name]["total_bits_per_second"] == TOTAL_BITS_PER_SEC
            assert said[name]["members"] == len(found)
            assert {user["pod"] for user in said[name]["most"]} <= {
                f"{name}/{item.name}" for item in found
            }
        told = {name: said[name]["used_bits_per_second"] for name in senders}
        tried.append({name: (measured[name], told[name]) for name in senders})
        podpace.say(f"bit/s by iperf3, by nodes: {tried[-1]}")
        if all(
            bits >= LEAST * TOTAL_BITS_PER_SEC and abs(told[name] / bits - 1) <= NEAR
            for name, bits in measured.items()
        ):
            return
    raise AssertionError(f"bit/s by iperf3, by nodes, in {len(tried)} runs: {tried}")
