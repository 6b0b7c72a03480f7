"""Podpace on the real nodes, installed as an operator does: by Helm, from our own images."""

import json
import subprocess
from typing import Any, Final

import httpx

from tests.chart.helm import CHART, NAMESPACE, RELEASE
from tests.cluster.client import Json
from tests.node.cluster import Cluster
from tests.node.images import TAG
from tests.node.network import PLACES

VALUES: Final[dict[str, Any]] = {
    "image": {"pullPolicy": "Never"},
    "webhook": {"image": {"tag": TAG}, "drainSeconds": 2, "replicas": 1},
    "enforcer": {"image": {"tag": TAG}},
}
METRICS_PORT: Final = 9464
PINS: Final = "/sys/fs/bpf/podpace"


def helm(cluster: Cluster, *arguments: str, seconds: float = 660) -> str:
    """The real helm, as an administrator; it must work. What it printed."""
    plane = cluster.plane
    done = subprocess.run(
        [str(plane.bin / "helm"), *arguments, f"--namespace={NAMESPACE}"],
        env={
            "HOME": str(plane.folder),
            "KUBECONFIG": str(plane.kubeconfig("admin")),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"helm {arguments[0]}: {said}\n{state(cluster)}"
    return said


def install(cluster: Cluster, *more: str) -> None:
    """Returns when webhook and enforcers are ready. ``more``: values as ``helm --set`` has them."""
    (cluster.plane.folder / "values.json").write_text(json.dumps(VALUES))
    helm(
        cluster,
        *("upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "--wait"),
        f"--values={cluster.plane.folder / 'values.json'}",
        *(f"--set={value}" for value in more),
        "--timeout=10m",
    )
    cluster.say("Podpace is installed")


def state(cluster: Cluster) -> str:
    """What an operator would look at when something does not start."""
    shown = [
        cluster.plane.kubectl(*words.split(), f"--namespace={NAMESPACE}").stdout
        for words in (
            "get pods -o wide",
            "get events --sort-by=.lastTimestamp",
            "logs -l app.kubernetes.io/name=podpace --all-containers --prefix --tail=15",
        )
    ]
    return "\n".join(shown)[-8000:]


def enforcer_pods(cluster: Cluster) -> dict[str, Json]:
    """The enforcers' pods by node."""
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    items = cluster.admin.get(f"{pods}?labelSelector=app.kubernetes.io%2Fcomponent%3Denforcer")
    return {item["spec"]["nodeName"]: item for item in items["items"]}


def metrics(node: str) -> str:
    """What a node's enforcer serves to Prometheus."""
    (address,) = (place.address for place in PLACES if place.name == node)
    url = f"http://{address}:{METRICS_PORT}/metrics"
    return httpx.get(url, timeout=30, trust_env=False).raise_for_status().text
