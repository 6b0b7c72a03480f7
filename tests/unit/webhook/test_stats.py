"""The aggregated API: what it says of whom, to whom, and what nobody can make it do."""

import asyncio
import json
import threading
from typing import Any

import pytest

from certs.authority import issue_leaf, make_authority, utc_now
from contract.stats import READ_AT, path_of
from kube.errors import ApiError, NotFoundError
from tests.unit.webhook.fake_api import FakeApi
from webhook.errors import CertificateError
from webhook.kube.authority import API_SERVICE
from webhook.stats import app as stats_app
from webhook.stats.app import StatsApp
from webhook.stats.front_proxy import FrontProxy
from webhook.stats.leaving import leave
from webhook.stats.nodes import Nodes
from webhook.stats.page import namespace_of, read_nodes, read_page
from webhook.tls import LiveContext

PAGE = b"""# TYPE podpace_passed_bytes counter
podpace_passed_bytes_total{direction="egress",namespace="shop",pod="web",target="pod:shop/web"} 12.0
podpace_passed_bytes_total{direction="egress",namespace="shop",pod="db",target="pod:shop/db"} 1e+06
podpace_passed_bytes_total{direction="ingress",target="pod:shopping/web"} 3.0
podpace_passed_bytes_total{direction="ingress",target="cgroup:/x\\"target=\\"pod:shop/web"} 4.0
podpace_active_flows{direction="ingress",namespace="shop",pod="web",target="pod:shop/web"} 2.0
podpace_read_timestamp_seconds 1.5e+09
"""


def test_a_page_is_read_for_one_namespace() -> None:
    """Not for one whose name begins alike, nor by what somebody wrote into a name of his own."""
    db, web = read_page(PAGE, "shop", "node-a")

    assert db.metadata == {"namespace": "shop", "name": "db"}
    assert db.egress == {"podpace_passed_bytes_total": 1e6, READ_AT: 1.5e9}
    assert (web.node, web.egress["podpace_passed_bytes_total"]) == ("node-a", 12.0)
    assert web.ingress["podpace_active_flows"] == 2.0
    assert read_page(b"<html>", "shop", "node-a") == ()


@pytest.mark.parametrize(
    "path",
    [
        "/apis/stats.podpace.io/v1alpha1/pods",
        "/apis/stats.podpace.io/v1alpha1/namespaces/shop/pods/web",
        "/apis/stats.podpace.io/v1alpha1/namespaces/shop/../kube-system/pods",
        "/apis/stats.podpace.io/v1alpha1/namespaces//pods",
        "/apis/stats.podpace.io/v1alpha1//namespaces/shop/pods",
        "/apis/stats.podpace.io/v1alpha1/namespaces/shop/pods/",
        "/apis/stats.podpace.io/v1alpha1/namespaces/shop%2Fx/pods",
        "/apis/stats.podpace.io/v1alpha1/namespaces/Shop/pods",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_none(path: str) -> None:
    """The API server authorised what it read there."""
    assert namespace_of(path) is None
    assert namespace_of(path_of("shop")) == "shop"


def test_nodes_are_read_from_a_table() -> None:
    """Pods that are on no node yet have none."""
    table = {
        "columnDefinitions": [{"name": "Name"}, {"name": "Node"}],
        "rows": [{"cells": ["a", "node-a"]}, {"cells": ["b", "<none>"]}],
        "metadata": {"continue": "more"},
    }

    assert read_nodes(table) == ({"node-a"}, "more")


class _Api:
    """Pods of any namespace are on three nodes; the third has no enforcer."""

    def text(self, path: str, accept: str) -> str:
        assert "as=Table" in accept
        rows = [{"cells": [node]} for node in ("node-a", "node-b", "node-c")]
        return json.dumps({"columnDefinitions": [{"name": "Node"}], "rows": rows})

    def list(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        assert path == "/api/v1/namespaces/rel/pods"
        node = query["fieldSelector"].removeprefix("spec.nodeName=")
        ports = [{"name": "metrics", "containerPort": 9464}]
        containers = [{"name": "podpace-enforcer", "ports": ports}]
        found = {"spec": {"containers": containers}, "status": {"podIP": node}}
        return [found] if node != "node-c" else []


def test_a_node_that_does_not_answer_does_not_hide_the_others() -> None:
    """Nor does one that answers never: it is named when the time is over."""
    never = threading.Event()

    def fetch(address: tuple[str, int]) -> bytes:
        if address[0] == "node-b":
            never.wait(30)
        return PAGE

    api: Any = _Api()
    try:
        found = json.loads(Nodes(api, "rel", fetch, seconds=0.3).read("shop"))
    finally:
        never.set()

    assert [(pod["metadata"]["name"], pod["node"]) for pod in found["items"]] == [
        ("db", "node-a"),
        ("web", "node-a"),
    ]
    assert found["problems"] == [
        "node node-b has not answered in time",
        "node node-c cannot be read: no enforcer runs there",
    ]
    assert (found["kind"], found["apiVersion"]) == ("PodStatsList", "stats.podpace.io/v1alpha1")


class _Asked:
    """An app that is asked without a server."""

    def __init__(self, app: StatsApp) -> None:
        self._app = app

    async def get(self, path: str, query: bytes = b"") -> tuple[int, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError

        scope = {"type": "http", "method": "GET", "path": path, "query_string": query}
        await self._app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


def test_however_many_ask_for_a_namespace_it_is_read_once() -> None:
    """Meanwhile, and for a moment afterwards."""
    reads: list[str] = []
    go = threading.Event()

    def read(namespace: str) -> bytes:
        reads.append(namespace)
        assert go.wait(30)
        return b"{}"

    async def crowd() -> list[tuple[int, Any]]:
        asked = _Asked(StatsApp(read, lambda: 0.0))
        tasks = [asyncio.create_task(asked.get(path_of("shop"))) for _ in range(200)]
        await asyncio.sleep(0)
        go.set()
        found = list(await asyncio.gather(*tasks))
        return [*found, await asked.get(path_of("shop"))]

    assert asyncio.run(crowd()) == [(200, {})] * 201
    assert reads == ["shop"]


def test_more_namespaces_than_can_wait_are_told_to_come_again() -> None:
    """Nothing grows without end, and who is served already still is."""
    go = threading.Event()

    def read(_: str) -> bytes:
        assert go.wait(30)
        return b"{}"

    async def crowd() -> list[int]:
        asked = _Asked(StatsApp(read))
        tasks = [
            asyncio.create_task(asked.get(path_of(f"n{number}")))
            for number in range(stats_app.WAITING + 1)
        ]
        last, _ = await tasks[-1]
        go.set()
        return [last, *[status for status, _ in await asyncio.gather(*tasks[:-1])]]

    assert asyncio.run(crowd()) == [429] + [200] * stats_app.WAITING


@pytest.mark.parametrize(
    ("error", "status"), [(ApiError("gone"), 503), (ValueError("a fault of ours"), 500)]
)
def test_a_failure_is_an_answer(error: Exception, status: int) -> None:
    """And the next one is asked anew."""
    errors = [error]

    def read(_: str) -> bytes:
        if errors:
            raise errors.pop()
        return b"{}"

    async def twice() -> list[int]:
        asked = _Asked(StatsApp(read))
        return [(await asked.get(path_of("shop")))[0] for _ in range(2)]

    assert asyncio.run(twice()) == [status, 200]


def test_the_api_server_learns_what_there_is() -> None:
    """Two pages for discovery; a watch there is not."""

    async def ask() -> list[tuple[int, Any]]:
        asked = _Asked(StatsApp(lambda _: b"{}"))
        paths = ("/apis/stats.podpace.io", "/apis/stats.podpace.io/v1alpha1", "/openapi/v2")
        found = [await asked.get(path) for path in paths]
        return [*found, await asked.get(path_of("shop"), b"watch=true")]

    (_, group), (_, version), (nothing, _), (watch, _) = asyncio.run(ask())
    assert group["preferredVersion"]["groupVersion"] == "stats.podpace.io/v1alpha1"
    assert version["resources"][0]["verbs"] == ["list"]
    assert (nothing, watch) == (404, 405)


def _front_proxy(data: dict[str, str]) -> FrontProxy:
    import ssl

    api = FakeApi()
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    api.put(path, {"metadata": {}, "data": data})
    live = LiveContext(ssl.TLSVersion.TLSv1_3)
    live.load(issue_leaf(make_authority(utc_now()), ["localhost"], utc_now()))
    return FrontProxy(api, live)


class _Transport(asyncio.BaseTransport):
    def __init__(self, name: str) -> None:
        super().__init__({"peercert": {"subject": ((("commonName", name),),)}})


def test_only_names_of_the_front_proxy_are_let_in() -> None:
    """Where the API server names none, any certificate of that authority is."""
    authority = make_authority(utc_now()).certificate.decode()
    named = _front_proxy(
        {"requestheader-client-ca-file": authority, "requestheader-allowed-names": '["front"]'}
    )
    any_name = _front_proxy({"requestheader-client-ca-file": authority})
    before = named.context
    named.step()
    any_name.step()

    assert [named.admits(_Transport(name)) for name in ("front", "other", "")] == [
        True,
        False,
        False,
    ]
    assert any_name.admits(_Transport("other"))
    assert not any_name.admits(asyncio.BaseTransport())
    assert named.context is not before
    changed = named.context
    named.step()
    assert named.context is changed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "has no front proxy"),
        ({"requestheader-client-ca-file": "no certificate"}, "cannot be read"),
        (
            {"requestheader-client-ca-file": "x", "requestheader-allowed-names": "front"},
            "is no list",
        ),
    ],
)
def test_without_a_front_proxy_nobody_is_let_in(data: dict[str, str], words: str) -> None:
    """And the log says why."""
    proxy = _front_proxy(data)
    before = proxy.context

    with pytest.raises(CertificateError, match=words):
        proxy.step()

    assert proxy.context is before


@pytest.mark.parametrize(("deleting", "stays"), [(True, False), (False, True)])
def test_the_api_goes_with_its_namespace_and_not_with_a_replica(
    deleting: bool, stays: bool
) -> None:
    """One that nobody answers for would keep every namespace from ending."""
    api = FakeApi()
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    api.put("/api/v1/namespaces/rel", {"metadata": metadata})
    api.put(API_SERVICE, {"metadata": {}, "spec": {}})

    leave(api, "rel")

    try:
        api.get(API_SERVICE)
    except NotFoundError:
        assert not stays
    else:
        assert stays
