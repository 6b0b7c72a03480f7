"""kube.api against a real HTTPS server."""

import socket

import pytest

from kube.api import KubeApi
from kube.credentials import load
from kube.errors import ApiError, ConflictError, GoneError, NotFoundError
from kube.ports import MERGE_PATCH
from tests.api_server import serve


@pytest.fixture
def server(tmp_path):
    """One that answers."""
    with serve(tmp_path) as found:
        yield found


def connect(server):
    """The client of it."""
    return KubeApi(lambda: load(server.kubeconfig()))


def test_writes_are_json_with_the_content_type_that_decides_how_they_are_merged(server):
    """By method, path and body."""
    api = connect(server)
    api.patch("/api/v1/namespaces/shop/pods/p1/status", {"a": 1}, MERGE_PATCH)
    api.json_patch("/api/v1/namespaces/shop/pods/p1", [{"op": "test"}])
    api.create("/apis/events.k8s.io/v1/namespaces/shop/events", {"b": 2})

    assert [(method, path) for method, path, _ in server.requests] == [
        ("PATCH", "/api/v1/namespaces/shop/pods/p1/status"),
        ("PATCH", "/api/v1/namespaces/shop/pods/p1"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events"),
    ]
    assert server.bodies == [{"a": 1}, [{"op": "test"}], {"b": 2}]
    assert server.content_types == [MERGE_PATCH, "application/json-patch+json", "application/json"]


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (409, ConflictError), (410, GoneError)]
)
def test_a_refusal_says_what_the_server_says(server, status, kind):
    """With its status, and how long to wait."""
    server.refusals.append((status, {"Retry-After": "3"}))

    with pytest.raises(kind) as refusal:
        connect(server).get("/api/v1/namespaces/shop")

    assert str(refusal.value) == f"GET /api/v1/namespaces/shop: {status} refused"
    assert (refusal.value.status, refusal.value.retry_after_seconds) == (status, 3.0)


def test_a_server_that_is_down_is_an_error_with_a_reason(server):
    """And nothing hangs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server.url = f"https://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ApiError, match="refused") as refusal:
            connect(server).list("/api/v1/pods")

    assert refusal.value.status == 0


def test_a_server_with_another_authority_is_not_believed(server, tmp_path):
    """Its certificate is checked."""
    (tmp_path / "other").mkdir()
    with serve(tmp_path / "other") as other:
        other.url = server.url
        with pytest.raises(ApiError, match=r"(?i)certificate verify failed"):
            connect(other).get("/version")


def test_a_list_goes_on_with_the_next_page(server):
    """The version to read from belongs to the first."""
    server.pods = [{"metadata": {"name": f"p{n}"}} for n in range(3)]
    server.page = 2

    found = connect(server).list("/api/v1/pods", {"resourceVersion": "0"})

    assert [o["metadata"]["name"] for o in found] == ["p0", "p1", "p2"]
    first, second = server.lists()
    assert first == {"resourceVersion": "0", "limit": "500"}
    assert second == {"continue": "2", "limit": "500"}
