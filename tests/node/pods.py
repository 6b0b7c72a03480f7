"""Pods on the real nodes, and traffic between them that starts inside their cgroups."""

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from contract.names import CONDITION_BANDWIDTH_ENFORCED, Direction
from tests.cluster.client import Json
from tests.node.cluster import Cluster
from tests.node.rootfs import TRAFFIC_IMAGE

NAMESPACE: Final = "default"
PAYLOAD_SHARE: Final = 1448 / 1514
"""Limits count Ethernet frames; this is what TCP over IPv4 carries in a full one."""
WARM_UP_SECONDS: Final = 2
MOST: Final = 1.01
LEAST: Final = 0.5
"""That a limit is in force, not how well it is used: emulated processors share this machine's,
and one that stands still for 20 ms has emptied the queue. What is used is measured where time is
counted (tests/vm/guest/test_cells.py)."""
RUNS: Final = 8
BURST_BYTES: Final = 150_000
"""What a limit lets through at once, after a rest."""
IPERF_SERVER: Final = ("iperf3", "--server", "--json")
_SPEC: Final[Json] = {
    "enableServiceLinks": False,
    "automountServiceAccountToken": False,
    "terminationGracePeriodSeconds": 1,
}


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod."""

    name: str
    uid: str
    node: str
    address: str
    namespace: str = NAMESPACE

    @property
    def cgroup(self) -> str:
        """On its node; the kubelet's cgroupfs driver makes it. BestEffort, as all pods here."""
        return f"/sys/fs/cgroup/kubepods/besteffort/pod{self.uid}"


def deployment(name: str, annotations: dict[str, str]) -> Json:
    """Two pods that never share a node."""
    labels = {"app": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    container = {"name": "idle", "image": TRAFFIC_IMAGE, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _SPEC | {"topologySpreadConstraints": [spread], "containers": [container]},
            },
        },
    }


def pod(name: str, node: str, annotations: dict[str, str], *command: str) -> Json:
    """One pod on a given node."""
    container = {"name": "main", "image": TRAFFIC_IMAGE, "imagePullPolicy": "Never"}
    if command:
        container["command"] = list(command)
    labels = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": _SPEC | {"nodeName": node, "containers": [container]},
    }


def listed(cluster: Cluster, app: str, namespace: str = NAMESPACE) -> list[Json]:
    """Pods of an application, those that are being deleted left out."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}"
    items: list[Json] = cluster.admin.get(path)["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def wait_ready(cluster: Cluster, app: str, count: int = 1, namespace: str = NAMESPACE) -> list[Pod]:
    """The application's pods, once all are Ready; sorted by node."""

    def all_ready(items: list[Json]) -> bool:
        ready = [item for item in items if condition(item, "Ready").get("status") == "True"]
        return len(ready) == len(items) == count

    items = cluster.until(f"{app} is ready", lambda: listed(cluster, app, namespace), all_ready)
    pods = [
        Pod(
            item["metadata"]["name"],
            item["metadata"]["uid"],
            item["spec"]["nodeName"],
            item["status"]["podIP"],
            namespace,
        )
        for item in items
    ]
    return sorted(pods, key=lambda p: p.node)


def condition(item: Json, kind: str = CONDITION_BANDWIDTH_ENFORCED) -> Json:
    """A pod's condition; empty when it has none."""
    for found in item.get("status", {}).get("conditions", ()):
        if found["type"] == kind:
            return dict(found)
    return {}


def wait_condition(cluster: Cluster, name: str, *parts: str, namespace: str = NAMESPACE) -> Json:
    """Our condition of a pod, once its reason and message contain all ``parts``."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"

    def says(found: Json) -> bool:
        text = f"{found.get('reason')} {found.get('message')}"
        return all(part in text for part in parts)

    return cluster.until(
        f"{name} says {' and '.join(parts)}", lambda: condition(cluster.admin.get(path)), says
    )


@dataclass(frozen=True, slots=True)
class Received:
    """What the receiver of a flow counted."""

    bits_per_sec: float
    """Without the warm-up."""
    seconds: tuple[tuple[float, float], ...]
    """Length in seconds and payload bytes, one after the other, from the first on."""

    def utilisation(self, limit_bits_per_sec: float) -> float:
        """As a part of what the limit allows TCP."""
        return self.bits_per_sec / (limit_bits_per_sec * PAYLOAD_SHARE)

    def above(self, limit_bits_per_sec: float) -> list[tuple[float, float]]:
        """When more had come than a limit lets through that holds from the beginning: seconds since
        then, and payload bytes.

        Not by single seconds: a receiver that stood still reads later what came in time.
        """
        rate_bytes_per_sec = limit_bits_per_sec * PAYLOAD_SHARE / 8
        lengths, counts = zip(*self.seconds, strict=True)
        return [
            (elapsed, count)
            for elapsed, count in zip(accumulate(lengths), accumulate(counts), strict=True)
            if count > MOST * rate_bytes_per_sec * elapsed + BURST_BYTES
        ]


def assert_limited(
    cluster: Cluster,
    limited: Pod,
    peer: Pod,
    direction: Direction,
    limit_bits_per_sec: float,
) -> None:
    """One TCP flow is never above the limit, and has a good part of it in one of eight runs."""
    used: list[float] = []
    for _ in range(RUNS):
        received = iperf(cluster, limited, peer, direction)
        above = received.above(limit_bits_per_sec)
        assert not above, f"seconds and bytes above the limit: {above}"
        used.append(received.utilisation(limit_bits_per_sec))
        cluster.say(f"{limited.node} {direction}: {used[-1]:.3f} of the limit")
        if used[-1] >= LEAST:
            return
    raise AssertionError(f"parts of the limit in {len(used)} runs: {used}")


def iperf(
    cluster: Cluster, limited: Pod, peer: Pod, direction: Direction, seconds: int = 8
) -> Received:
    """Run iperf3 inside the limited pod against the server in ``peer``."""
    incoming = direction is Direction.INGRESS
    output = cluster.kubectl(
        *(
            "exec",
            limited.name,
            f"--namespace={limited.namespace}",
            "--",
            "iperf3",
            "--json",
            "--client",
            peer.address,
        ),
        *(f"--time={seconds}", f"--omit={WARM_UP_SECONDS}"),
        "--reverse" if incoming else "--get-server-output",
        seconds=seconds + 60,
    )
    report: dict[str, Any] = json.loads(output)
    receiver = report if incoming else report["server_output_json"]
    intervals = [i["sum"] for i in receiver["intervals"]]
    return Received(
        report["end"]["sum_received"]["bits_per_second"],
        tuple((i["seconds"], i["bytes"]) for i in intervals),
    )
