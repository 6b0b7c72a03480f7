"""Pods on chosen nodes, and what is said on them."""

from tests.cluster.client import Client, Json
from tests.cluster.helpers import until
from tests.cluster.nodes.kubelet import SimulatedNode


def on(node: SimulatedNode, body: Json) -> Json:
    """The scheduler has one node to choose from."""
    body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node.name}
    return body


def conditions(found: Json) -> dict[str, Json]:
    """By type."""
    return {c["type"]: c for c in found["status"].get("conditions", [])}


def wait_enforced(admin: Client, namespace: str, count: int, seconds: float = 60) -> list[Json]:
    """The limited pods of a namespace, when all have their condition."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=podpace.io/limited%3Dtrue"
    return until(
        lambda: admin.get(path)["items"],
        lambda found: (
            sum(
                conditions(p).get("podpace.io/BandwidthEnforced", {}).get("status") == "True"
                for p in found
            )
            == count
        ),
        seconds,
    )
