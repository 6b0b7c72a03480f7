"""Pods of all shapes that book, on the real API server."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.cluster.client import Client, Json
from tests.cluster.install import KUBELET_USER, Installation
from tests.pod_shapes import EGRESS, OVERHEAD_CLASS, SHAPES, Shape


@pytest.fixture(scope="module")
def overhead(installation: Installation) -> Iterator[None]:
    """The RuntimeClass of some shapes."""
    path = "/apis/node.k8s.io/v1/runtimeclasses"
    adds = {"podFixed": {EGRESS: "1M"}}
    body = {"metadata": {"name": OVERHEAD_CLASS}, "handler": "x", "overhead": adds}
    installation.admin.create(path, body)
    yield
    installation.admin.delete(f"{path}/{OVERHEAD_CLASS}")


@pytest.fixture(scope="module")
def kubelet(installation: Installation) -> Iterator[Callable[[str, Json], httpx.Response]]:
    """Tells of a static pod of its Node; into which namespace, and which."""
    name = KUBELET_USER.rpartition(":")[2]
    node = installation.admin.create("/api/v1/nodes", {"metadata": {"name": name}})
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "controller": True}
    owner["uid"] = node["metadata"]["uid"]
    with installation.plane.client(KUBELET_USER) as client:

        def tell(path: str, static: Json) -> httpx.Response:
            static["metadata"]["ownerReferences"] = [owner]
            static["spec"]["nodeName"] = name
            return client.http.post(path, json=static)

        yield tell
    installation.admin.delete(f"/api/v1/nodes/{name}")


@pytest.mark.usefixtures("overhead")
@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.policy], ids=lambda shape: shape.what)
def test_the_api_server_takes_a_booked_pod_of_any_shape(
    admin: Client, booking: str, kubelet: Callable[[str, Json], httpx.Response], shape: Shape
) -> None:
    """And sums for a quota what the page says: by the same function as the scheduler."""
    quota = {"requests.podpace.io/egress": "10P"}
    path = f"/api/v1/namespaces/{booking}/resourcequotas"
    admin.create(path, {"metadata": {"name": "sum"}, "spec": {"hard": quota}})
    admin.patch(
        f"{path}/sum/status", {"status": {"hard": quota, "used": dict.fromkeys(quota, "0")}}
    )
    body = {"apiVersion": "v1", "kind": "Pod"} | shape.pod
    body["metadata"]["name"] = "shape"

    pods = f"/api/v1/namespaces/{booking}/pods"
    answer = kubelet(pods, body) if shape.is_static else admin.http.post(pods, json=body)

    assert answer.is_success is not shape.refused, answer.text
    if shape.refused:
        return
    used = admin.get(f"{path}/sum")["status"]["used"]["requests.podpace.io/egress"]
    assert used == ("0" if shape.booked == "-" else shape.booked)
