"""Who an enforcer is: a service account's token that is bound to a pod of a node."""

from typing import Final

from tests.cluster.client import Client, Json
from tests.cluster.install import RELEASE_NAMESPACE, pod
from tests.cluster.plane import ControlPlane

ENFORCER: Final = "podpace-enforcer"
TOKEN_SECONDS: Final = 3600


def enforcer_pod(node: str, metrics_port: int = 9464) -> Json:
    """What the DaemonSet would make for a node."""
    made = pod(
        name=f"{ENFORCER}-{node}",
        labels={
            "app.kubernetes.io/part-of": "podpace",
            "app.kubernetes.io/component": "enforcer",
        },
        nodeName=node,
        serviceAccountName=ENFORCER,
        hostNetwork=True,
        tolerations=[{"operator": "Exists"}],
    )
    ports = [{"name": "metrics", "containerPort": metrics_port, "hostPort": metrics_port}]
    made["spec"]["containers"] = [{"name": ENFORCER, "image": ENFORCER, "ports": ports}]
    return made


def bound_token(admin: Client, bound_to: Json | None) -> str:
    """A token for the enforcer's account, bound to a pod; None makes an unbound one."""
    spec: Json = {"expirationSeconds": TOKEN_SECONDS}
    if bound_to is not None:
        metadata = bound_to["metadata"]
        spec["boundObjectRef"] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
    path = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/serviceaccounts/{ENFORCER}/token"
    token: str = admin.create(path, {"spec": spec})["status"]["token"]
    return token


def client_with(plane: ControlPlane, token: str) -> Client:
    """An API client that shows this token."""
    return Client(plane.url, plane.ca_file, token)
