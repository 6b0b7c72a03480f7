"""The routes: what is refused before it is a review, health, and draining."""

import asyncio
import base64
import json
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from webhook import app as app_module
from webhook.admission import make_mutate, make_validate
from webhook.app import create_admission_app, create_health_app
from webhook.large import MAX_BODY_BYTES, LargeReviews
from webhook.lifecycle import Lifecycle
from webhook.loops import Loops
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

EGRESS = "podpace.io/egress-bandwidth"
JSON = {"Content-Type": "application/json"}


def review(obj: Any = None, **fields: Any) -> dict[str, Any]:
    """A review as the API server sends it."""
    request = {"uid": "u-1", "operation": "CREATE", "namespace": "default", "object": obj}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request | fields,
    }


class Server:
    """Both apps in this process."""

    def __init__(self) -> None:
        self.store = PolicyStore("podpace-system", without_cluster=True)
        self.metrics = Metrics()
        self.large = LargeReviews()
        self.lifecycle = Lifecycle({"policies not synced": lambda: self.store.synced})
        self.admission: Starlette = create_admission_app(
            {
                "mutate": make_mutate(self.store, self.metrics),
                "validate": make_validate(self.store, "podpace-system", self.metrics),
            },
            self.lifecycle,
            self.metrics,
            self.large,
        )
        self.loops = Loops(self.metrics)
        self.health: Starlette = create_health_app(self.lifecycle, self.metrics, self.loops)

    def call(self, app: Starlette, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://w") as client:
                    return await client.request(method, path, **options)
            finally:
                self.large.stop()

        return asyncio.run(run())

    def post(self, path: str, content: bytes | dict[str, Any], **headers: str) -> httpx.Response:
        """One review."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.call(self.admission, "POST", path, content=body, headers=JSON | headers)


@pytest.fixture
def server() -> Server:
    """A webhook without TLS."""
    return Server()


def test_the_answer_is_for_the_question(server: Server) -> None:
    """Same version, kind and uid."""
    answer = server.post("/mutate", review({"metadata": {}})).json()

    assert answer == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"kind": "AdmissionReview"}',
        json.dumps(review() | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        json.dumps(review({"metadata": {"annotations": {"a": 1}}})).encode(),
        json.dumps(review({"metadata": []})).encode(),
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_review_is_a_bad_request(server: Server, path: str, body: bytes) -> None:
    """Never a 5xx, and the connection is not used again."""
    response = server.post(path, body)

    assert response.status_code == 400
    assert response.headers["connection"] == "close"
    assert response.text.strip()


def test_another_content_type_is_refused(server: Server) -> None:
    """The API server sends JSON."""
    assert server.post("/mutate", review(), **{"Content-Type": "text/plain"}).status_code == 415


def test_a_charset_behind_the_content_type_is_no_matter(server: Server) -> None:
    """Parameters of the media type."""
    headers = {"Content-Type": "application/json; charset=utf-8"}

    assert server.post("/mutate", review({}), **headers).status_code == 200


def large(kind: str, size: int) -> bytes:
    """A review of so many bytes, with what nobody reads in it, or what nobody should."""
    pod: dict[str, Any] = {"metadata": {"name": "big", "annotations": {EGRESS: "10M"}}}
    if kind == "spec":
        pod["spec"] = {"containers": [{"env": [{"name": "X", "value": "@"}]}]}
        padding = b"\\u003c"
    else:
        pod["metadata"]["annotations"]["a"] = "@"
        padding = b'","podpace.io/%d0gress-bandwidt":"'
    before, after = json.dumps(review(pod)).encode().split(b"@")
    count = (size - len(before) - len(after)) // len(padding)
    middle = padding * count if kind == "spec" else b"".join(padding % n for n in range(count))
    return before + middle + after


def test_the_largest_legal_review_is_decided_as_any_other(server: Server) -> None:
    """JSON makes six bytes of a sign that takes one in etcd, and an update has two objects."""
    answer = server.post("/mutate", large("spec", 20_000_000)).json()["response"]

    assert answer["allowed"]
    patch = json.loads(base64.b64decode(answer["patch"]))
    assert "/metadata/labels" in {operation["path"] for operation in patch}


def test_more_annotations_than_the_api_server_takes_are_refused(server: Server) -> None:
    """Once, and without reading each."""
    answer = server.post("/mutate", large("keys", 3_000_000)).json()["response"]

    assert not answer["allowed"]
    assert "more labels or annotations than the API server takes" in answer["status"]["message"]


def test_a_policy_of_very_many_keys_is_refused(server: Server) -> None:
    """So that it is not in force one day."""
    data = {f"k{n:06d}": "" for n in range(150_000)}
    policy = {"metadata": {"name": "podpace-policy"}, "data": data}

    answer = server.post("/validate", review(policy)).json()["response"]

    assert not answer["allowed"]
    assert "is larger than 64 KiB" in answer["status"]["message"]


def test_a_body_above_the_cap_is_denied_and_not_left_to_the_failure_policy(server: Server) -> None:
    """Where failures are ignored it would be admitted unjudged."""
    response = server.post("/mutate", large("spec", MAX_BODY_BYTES + 1000))

    answer = response.json()["response"]
    assert (answer["uid"], answer["allowed"]) == ("u-1", False)
    assert "too large to be judged" in answer["status"]["message"]
    assert server.post("/mutate", b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_a_body_without_an_end_is_refused(server: Server) -> None:
    """While it is read, not after, and next to nothing of it is kept."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1048576

    response = server.call(server.admission, "POST", "/mutate", content=chunks(), headers=JSON)

    assert response.status_code == 413
    assert sent < 5 * MAX_BODY_BYTES / 1048576


def test_a_large_body_that_is_no_review_is_a_bad_request(server: Server) -> None:
    """As a small one."""
    assert server.post("/mutate", b"[" * 1_000_000).status_code == 400
    assert server.post("/mutate", b'{"a": "' + b"b" * 1_000_000).status_code == 400


def test_a_large_review_is_decided_when_the_process_that_reads_them_has_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower, but not unjudged."""
    monkeypatch.setattr(sys, "executable", "/bin/true")

    answer = server.post("/mutate", large("spec", 500_000)).json()["response"]

    assert answer["allowed"]
    assert "patch" in answer


def test_a_body_that_does_not_arrive_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow sender holds no memory for long."""
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.01)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = server.call(server.admission, "POST", "/mutate", content=chunks(), headers=JSON)

    assert response.status_code == 408


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/mutate", 405), ("POST", "/x", 404)]
)
def test_nothing_else_is_served(server: Server, method: str, path: str, status: int) -> None:
    """No documentation routes, either."""
    assert server.call(server.admission, method, path).status_code == status
    assert server.call(server.admission, "GET", "/docs").status_code == 404


def test_the_namespace_of_the_request_counts(server: Server) -> None:
    """The object's may be blank or another's."""
    server.store.put(PolicyKey("strict"), {"require": "both"})
    obj = {"metadata": {"namespace": "default"}}

    answer = server.post("/mutate", review(obj, namespace="strict")).json()

    assert not answer["response"]["allowed"]


def test_a_review_without_an_object_is_allowed(server: Server) -> None:
    """Nothing to change."""
    assert server.post("/mutate", review(None)).json()["response"]["allowed"]


def test_other_config_maps_are_allowed_unread(server: Server) -> None:
    """Should the configuration ever send one."""
    body = review({"metadata": {"name": "other"}, "data": {"ingress.max": "x"}})

    assert server.post("/validate", body).json()["response"]["allowed"]


def test_binary_data_in_a_policy_is_refused(server: Server) -> None:
    """It would be overlooked."""
    body = review({"metadata": {"name": "podpace-policy"}, "binaryData": {"ingress.max": "MQ=="}})

    answer = server.post("/validate", body).json()["response"]

    assert "write it as text" in answer["status"]["message"]


def test_a_policy_that_tries_to_loosen_the_clusters_is_told(server: Server) -> None:
    """It is admitted, for it may be right after the cluster's changes."""
    server.store.put(PolicyKey("podpace-system"), {"ingress.max": "1M", "require": "any"})
    data = {"ingress.max": "1G", "mode": "observe", "exempt-cidrs": "::/0", "require": "none"}
    policy = {"metadata": {"name": "podpace-policy"}, "data": data}

    answer = server.post("/validate", review(policy)).json()["response"]

    assert answer["allowed"]
    assert {w.split()[0].rstrip(":") for w in answer["warnings"]} == set(data)


def test_ready_is_when_the_policies_are_known(server: Server) -> None:
    """And not while shutting down."""
    before = server.call(server.health, "GET", "/readyz")
    server.store.replace({})
    ready = server.call(server.health, "GET", "/readyz")
    server.lifecycle.draining = True
    after = server.call(server.health, "GET", "/readyz")

    assert (before.status_code, ready.status_code, after.status_code) == (503, 200, 503)
    assert "policies not synced" in before.text
    assert "shutting down" in after.text
    assert server.call(server.health, "GET", "/livez").status_code == 200


def test_a_loop_that_hangs_fails_liveness_and_each_is_told(server: Server) -> None:
    """The kubelet then starts the replica anew; readiness is another matter."""
    release = threading.Event()
    server.loops.add("idle").start(lambda: 1000.0)
    before = server.call(server.health, "GET", "/livez")
    hanging = server.loops.add("hanging")
    hanging.start(lambda: release.wait(60) and None)
    hanging._alive_until -= 1000
    after = server.call(server.health, "GET", "/livez")
    release.set()
    server.loops.stop.set()

    assert (before.status_code, before.text) == (200, "ok\nidle: ok\n")
    assert after.status_code == 503
    assert "hanging: no sign of life" in after.text


def test_requests_are_counted_by_result(server: Server) -> None:
    """Names of the metrics are a promise."""
    server.post("/mutate", review({"metadata": {"annotations": {"podpace.io/egres-burst": "1"}}}))
    server.post("/mutate", review({}, operation="whatever"))
    server.post("/mutate", b"{")

    page = server.call(server.health, "GET", "/metrics").text
    for series in (
        '{operation="CREATE",result="denied",route="mutate"} 1.0',
        '{operation="other",result="allowed",route="mutate"} 1.0',
        '{operation="other",result="unusable",route="mutate"} 1.0',
    ):
        assert f"podpace_admission_requests_total{series}" in page
