"""Thirty limited pods on three nodes: what is asked is in force, and every condition says so."""

import json
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from bench.rig import TcpLoad, bulk
from contract.names import Direction
from enforcer.datapath import libbpf
from tests.cluster.client import Json
from tests.cluster.helpers import until
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.kubelet import SimulatedNode
from tests.cluster.nodes.placing import conditions, on, wait_enforced
from tests.cluster.nodes.sandbox import Sandbox
from tests.cluster.nodes.traffic import Pair

PODS_PER_NODE = 10
SECONDS = 3
M = 10**6


@dataclass(frozen=True)
class Limited:
    """One of the thirty, and the unlimited pods it talks to."""

    name: str
    node: SimulatedNode
    bits_per_sec: dict[Direction, int]
    sandbox: Sandbox
    near: Sandbox
    """On its own node."""
    far: Sandbox
    """On another one."""
    port: int


@pytest.fixture(scope="module")
def fleet_namespace(installation: Installation) -> Iterator[str]:
    """Where the thirty live."""
    name = "fleet"
    installation.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    installation.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def thirty(
    installation: Installation,
    enforcers: list[Enforcer],
    fleet_namespace: str,
) -> list[Limited]:
    """Made through the API, admitted by the webhook, bound by the scheduler; rates differ."""
    admin, nodes = installation.admin, [e.node for e in enforcers]
    path = f"/api/v1/namespaces/{fleet_namespace}/pods"
    for node in nodes:
        admin.create(path, on(node, pod(name=f"peer-{node.name}")))
    rates: dict[tuple[int, int], dict[Direction, int]] = {}
    for n in range(len(nodes)):
        for k in range(PODS_PER_NODE):
            rates[n, k] = {Direction.INGRESS: (5 + k % 4) * M, Direction.EGRESS: (6 + k % 3) * M}
            annotations = {
                f"podpace.io/{d}-bandwidth": f"{rate // M}M" for d, rate in rates[n, k].items()
            }
            # Small against what is sent here, so that a rate is told from a burst.
            annotations |= {f"podpace.io/{d}-burst": "200k" for d in Direction}
            annotations["podpace.io/readiness-gate"] = "true"
            admin.create(path, on(nodes[n], pod(annotations, name=f"limited-{n}-{k}")))
    peers = [node.sandbox(fleet_namespace, f"peer-{node.name}") for node in nodes]
    return [
        Limited(
            name=(name := f"limited-{n}-{k}"),
            node=nodes[n],
            bits_per_sec=rates[n, k],
            sandbox=nodes[n].sandbox(fleet_namespace, name),
            near=peers[n],
            far=peers[(n + 1 + k % 2) % len(nodes)],
            port=5201 + n * PODS_PER_NODE + k,
        )
        for n, k in rates
    ]


def test_every_pod_is_ready_and_its_condition_names_its_limits(
    installation: Installation, thirty: list[Limited], fleet_namespace: str
) -> None:
    """``kubectl get pods`` shows readiness gates released."""
    found = wait_enforced(installation.admin, fleet_namespace, len(thirty))

    for limited in thirty:
        body = next(p for p in found if p["metadata"]["name"] == limited.name)
        message = conditions(body)["podpace.io/BandwidthEnforced"]["message"]
        for direction, rate in limited.bits_per_sec.items():
            assert f"{direction} {rate // M} Mbit/s (" in message
    shown = until(
        lambda: installation.plane.kubectl("get", "pods", "-n", fleet_namespace, "-o", "json"),
        lambda done: all(
            conditions(p)["Ready"]["status"] == "True" for p in json.loads(done.stdout)["items"]
        ),
    )
    assert all(
        "readinessGates" in p["spec"]
        for p in json.loads(shown.stdout)["items"]
        if p["metadata"]["name"].startswith("limited")
    )
    wide = installation.plane.kubectl("get", "pods", "-n", fleet_namespace, "-o", "wide").stdout
    assert wide.count("1/1") == 2 * len(thirty) + 3, wide


def test_conditions_say_what_the_kernel_has(thirty: list[Limited], enforced: list[Json]) -> None:
    """Programs on the cgroup of every pod, and a queue where the condition says shaped."""
    for limited in thirty:
        body = next(p for p in enforced if p["metadata"]["name"] == limited.name)
        message = conditions(body)["podpace.io/BandwidthEnforced"]["message"]
        cgroup = os.open(limited.sandbox.cgroup, os.O_RDONLY)
        try:
            hooks = {hook for hook in libbpf.AttachType if libbpf.attached(cgroup, hook)}
        finally:
            os.close(cgroup)
        assert limited.sandbox.network is not None
        link = limited.sandbox.network.port
        queues = limited.node.network.place.run("tc", "qdisc", "show", "dev", link)
        assert hooks == set(libbpf.AttachType)
        egress = limited.bits_per_sec[Direction.EGRESS] // M
        assert f"egress {egress} Mbit/s (paced)" in message
        assert ("shaped on veth" in message) == (" htb " in queues or " fq " in queues), message


@pytest.fixture(scope="module")
def enforced(installation: Installation, thirty: list[Limited], fleet_namespace: str) -> list[Json]:
    """The thirty, every one with its condition."""
    return wait_enforced(installation.admin, fleet_namespace, len(thirty))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("where", ["near", "far"])
def test_each_of_thirty_gets_its_limit_and_no_more(
    thirty: list[Limited],
    enforced: list[Json],
    where: str,
    direction: Direction,
    family: int,
) -> None:
    """All at the same time, on one node and across."""
    utilisation = {}

    def load(limited: Limited) -> float:
        pair = Pair(limited.sandbox, getattr(limited, where))
        options = TcpLoad(direction, SECONDS, family=family, port=limited.port)
        with bulk(pair, options) as running:
            goodput = running.result().goodput_bits_per_sec()
        return goodput / options.payload_of_frame / limited.bits_per_sec[direction]

    with ThreadPoolExecutor(len(thirty)) as pool:
        for limited, used in zip(thirty, pool.map(load, thirty), strict=True):
            utilisation[limited.name] = used
    print(
        f"{where} {direction} v{family}: {min(utilisation.values()):.3f} to "
        f"{max(utilisation.values()):.3f}"
    )
    # A machine that is short of processor time may keep some from using their limit, none from it.
    assert {name: used for name, used in utilisation.items() if not 0.5 <= used <= 1.05} == {}
    assert statistics.median(utilisation.values()) >= 0.85
