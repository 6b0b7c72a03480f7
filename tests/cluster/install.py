"""Podpace's webhook installed on the test control plane, by the chart's own manifests."""

import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.chart.helm import objects
from tests.cluster.client import Client, Json
from tests.cluster.logged import ROOT, LoggedProcess
from tests.cluster.plane import ControlPlane, free_port
from tests.pod_shapes import REQUEST

RELEASE_NAMESPACE: Final = "podpace-system"
WEBHOOK_USER: Final = f"system:serviceaccount:{RELEASE_NAMESPACE}:podpace-webhook"
TESTER_USER: Final = f"system:serviceaccount:{RELEASE_NAMESPACE}:podpace-test"
KUBELET_USER: Final = "system:node:node-1"
USERS: Final = {
    WEBHOOK_USER: ("system:serviceaccounts",),
    TESTER_USER: ("system:serviceaccounts",),
    KUBELET_USER: ("system:nodes",),
    "dev": ("system:masters",),
    "editor": (),
    # Of a namespace, with the ClusterRole edit; the lead has the verb change-bandwidth, too.
    "tenant": (),
    "lead": (),
    # May write pods' status and bind them, as a scheduler's or a node's agent.
    "controller": (),
    "platform": (),
}
SERVICE: Final = "podpace-webhook"
TEMPLATES: Final = (
    "webhook-rbac.yaml",
    "webhook-guard.yaml",
    "pod-guard.yaml",
    "policy-guard.yaml",
    "webhook-warnings.yaml",
    "webhook-configurations.yaml",
    "enforcer-rbac.yaml",
    "enforcer-guard.yaml",
)
REQUIRE_VERB: Final[Json] = {"liveChanges": {"requireVerb": True}}
"""Values with which there is ``live-changes.yaml``."""
READY_SECONDS: Final = 30


def render(template: str, values: Json | None = None) -> list[Json]:
    """The objects of one of the chart's templates, by Helm."""
    return objects(values, f"--show-only=templates/{template}")


class Replica(LoggedProcess):
    """One webhook process; its log is read as it is written."""

    def __init__(
        self,
        plane: ControlPlane,
        address: str,
        *options: str,
        folder: Path = ROOT,
        stats: bool = False,
    ) -> None:
        """``folder``: of its sources. ``stats``: it serves the aggregated API, too."""
        self.address = address
        self.stats_port = free_port() if stats else 0
        if stats:
            options = (*options, f"--stats-port={self.stats_port}")
        self.port, self.health_port = free_port(), free_port()
        command = [
            *(sys.executable, "-m", "webhook", "serve"),
            f"--host={address}",
            f"--port={self.port}",
            f"--health-port={self.health_port}",
            f"--release-namespace={RELEASE_NAMESPACE}",
            f"--kubeconfig={plane.kubeconfig(WEBHOOK_USER)}",
            *options,
        ]
        super().__init__(command, plane.folder / f"webhook-{self.port}.err", folder)

    def wait_ready(self) -> None:
        """Returns when /readyz says ok."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self._stderr.read_text()
            if self.ready():
                return
            time.sleep(0.05)
        message = f"not ready: {self.log[-3:]} {self._stderr.read_text()[-2000:]}"
        raise AssertionError(message)

    def ready(self) -> bool:
        """What the kubelet's probe would see."""
        try:
            return httpx.get(
                f"http://{self.address}:{self.health_port}/readyz", trust_env=False
            ).is_success
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """The value of a series, labels included in its name; 0 when it is not there."""
        url = f"http://{self.address}:{self.health_port}/metrics"
        for line in httpx.get(url, trust_env=False).text.splitlines():
            series, _, value = line.rpartition(" ")
            if series == name:
                return float(value)
        return 0.0


class Installation:
    """Manifests, Service and any number of replicas behind it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.admin: Client = plane.client()
        self.address = own_address()
        self.replicas: list[Replica] = []
        self.in_force: dict[str, str] | None = None
        """The cluster's policy."""
        self._slices = f"/apis/discovery.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/endpointslices"

    def apply(self) -> None:
        """What the chart would install, without the workloads."""
        self.admin.create("/api/v1/namespaces", {"metadata": {"name": RELEASE_NAMESPACE}})
        for template in TEMPLATES:
            done = self.plane.kubectl("apply", "-f", "-", stdin=yaml.dump_all(render(template)))
            assert done.returncode == 0, done.stderr
        self.admin.create(
            f"/api/v1/namespaces/{RELEASE_NAMESPACE}/services",
            {
                "metadata": {"name": SERVICE},
                "spec": {
                    "ports": [
                        {"name": "https", "port": 443, "targetPort": 8443},
                        {"name": "stats", "port": 8444},
                    ]
                },
            },
        )

    def add_replica(self, *options: str, stats: bool = False) -> Replica:
        """Start one and, when it is ready, let it be called."""
        replica = Replica(self.plane, self.address, *options, stats=stats)
        replica.wait_ready()
        self.replicas.append(replica)
        self.set_endpoint(replica, ready=True)
        return replica

    def set_endpoint(self, replica: Replica, *, ready: bool) -> None:
        """What kubelet and endpoint controller do together: one slice per replica here, since
        replicas on one address differ by port."""
        name = f"{SERVICE}-{replica.port}"
        self.admin.delete(f"{self._slices}/{name}")
        ports = {"https": replica.port, "stats": replica.stats_port}
        if ready:
            self.admin.create(
                self._slices,
                {
                    "metadata": {"name": name, "labels": {"kubernetes.io/service-name": SERVICE}},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": [self.address], "conditions": {"ready": True}}],
                    "ports": [
                        {"name": name, "port": port, "protocol": "TCP"}
                        for name, port in ports.items()
                        if port
                    ],
                },
            )

    def remove_replica(self, replica: Replica) -> None:
        """As a rolling update does: SIGTERM and out of the endpoints at the same time."""
        replica.terminate()
        self.set_endpoint(replica, ready=False)
        replica.join()
        self.replicas.remove(replica)

    def wait_called(self) -> None:
        """Returns when the API server calls us; it honours a new configuration after a moment."""
        body = pod({"podpace.io/egress-bandwidth": "wrong"}, name="probe")
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            url = "/api/v1/namespaces/default/pods"
            if self.admin.http.post(url, params={"dryRun": "All"}, json=body).status_code == 403:
                return
            time.sleep(0.1)
        message = f"the webhook is not called: {self.plane.log('kube-apiserver')[-2000:]}"
        raise AssertionError(message)

    def set_policy(
        self, namespace: str, data: dict[str, str] | None, name: str = "podpace-policy"
    ) -> None:
        """Put a policy there (None: take it away) and wait until every replica has it."""
        if (namespace, name) == (RELEASE_NAMESPACE, "podpace-policy"):
            self.in_force = data
        marks = [len(r.log) for r in self.replicas]
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        if data is None:
            meant = {"metadata": {"annotations": {"podpace.io/allow-removal": "true"}}}
            self.admin.try_patch(f"{path}/{name}", meant)
            self.admin.delete(f"{path}/{name}")
        else:
            put_policy(self.admin, namespace, data, name)
        event = "policy removed" if data is None else "policy seen"
        for replica, mark in zip(self.replicas, marks, strict=True):
            replica.wait_log(
                lambda e: (
                    (e["event"], e.get("namespace"), e.get("policy")) == (event, namespace, name)
                ),
                start=mark,
            )

    def stop(self) -> None:
        """End all replicas."""
        for replica in self.replicas:
            replica.terminate()
        for replica in self.replicas:
            replica.join()
        self.admin.http.close()


def put_policy(
    client: Client, namespace: str, data: dict[str, str], name: str = "podpace-policy"
) -> None:
    """Create or replace a policy, whatever it said before."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    metadata = {
        "name": name,
        "labels": {"podpace.io/policy": "true"},
        "annotations": {"podpace.io/allow-removal": "true"},
    }
    body = {"metadata": metadata, "data": data}
    if client.http.get(f"{path}/{name}").status_code == 404:
        client.create(path, body)
    else:
        response = client.http.put(f"{path}/{name}", json=body)
        assert response.is_success, response.text


def pod(
    annotations: dict[str, str] | None = None,
    *,
    name: str = "",
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Json:
    """The smallest pod there is; without a name it has generateName."""
    metadata: Json = {"name": name} if name else {"generateName": "pod-"}
    if annotations is not None:
        metadata["annotations"] = annotations
    if labels is not None:
        metadata["labels"] = labels
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": "main"}], **spec},
    }


def asking(name: str, request: str = "200M") -> Json:
    """A pod for these nodes."""
    return pod({REQUEST: request}, name=name, nodeSelector={"narrow": "true"})


def own_address() -> str:
    """An address of this machine that endpoints may have: not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address
