"""Pods on the real nodes, and traffic between them that starts inside their cgroups."""

import json
from dataclasses import dataclass
from typing import Any, Final

from contract.names import CONDITION_BANDWIDTH_ENFORCED, Direction
from tests.cluster.plane import Json
from tests.node.cluster import Cluster
from tests.node.rootfs import TRAFFIC_IMAGE

NAMESPACE: Final = "default"
PAYLOAD_SHARE: Final = 1448 / 1514
"""Limits count Ethernet frames; this is what TCP over IPv4 carries in a full one."""
WARM_UP_SECONDS: Final = 2
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


def listed(cluster: Cluster, app: str) -> list[Json]:
    """Pods of an application, those that are being deleted left out."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{app}"
    items: list[Json] = cluster.admin.get(path)["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def wait_ready(cluster: Cluster, app: str, count: int = 1) -> list[Pod]:
    """The application's pods, once all are Ready; sorted by node."""

    def all_ready(items: list[Json]) -> bool:
        ready = [item for item in items if condition(item, "Ready").get("status") == "True"]
        return len(ready) == len(items) == count

    items = cluster.until(f"{app} is ready", lambda: listed(cluster, app), all_ready)
    pods = [
        Pod(
            item["metadata"]["name"],
            item["metadata"]["uid"],
            item["spec"]["nodeName"],
            item["status"]["podIP"],
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


def wait_condition(cluster: Cluster, name: str, *parts: str) -> Json:
    """Our condition of a pod, once its reason and message contain all ``parts``."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"

    def says(found: Json) -> bool:
        text = f"{found.get('reason')} {found.get('message')}"
        return all(part in text for part in parts)

    return cluster.until(
        f"{name} says {' and '.join(parts)}", lambda: condition(cluster.admin.get(path)), says
    )


def iperf(
    cluster: Cluster, limited: Pod, peer: Pod, direction: Direction, seconds: int = 10
) -> dict[str, Any]:
    """Run iperf3 inside the limited pod against the server in ``peer``; its report."""
    reverse = ["--reverse"] if direction is Direction.INGRESS else []
    output = cluster.kubectl(
        *("exec", limited.name, "--", "iperf3", "--json", "--client", peer.address),
        *(f"--time={seconds}", f"--omit={WARM_UP_SECONDS}", *reverse),
        seconds=seconds + 60,
    )
    report: dict[str, Any] = json.loads(output)
    return report


def utilisation(report: dict[str, Any], limit_bits_per_sec: float) -> float:
    """What arrived, as a part of what the limit allows TCP."""
    received: float = report["end"]["sum_received"]["bits_per_second"]
    return received / (limit_bits_per_sec * PAYLOAD_SHARE)


def highest_second(report: dict[str, Any], limit_bits_per_sec: float) -> float:
    """The same for the fastest second."""
    fastest: float = max(i["sum"]["bits_per_second"] for i in report["intervals"])
    return fastest / (limit_bits_per_sec * PAYLOAD_SHARE)
