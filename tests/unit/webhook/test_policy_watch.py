"""The policies as they are listed and watched, and what is told about bad ones."""

import json

import pytest

from contract import names
from kube.errors import ApiError, GoneError
from kube.listwatch import ListWatch, Observer
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from webhook.kube.policies import (
    PATH,
    QUERY,
    Namespace,
    NamespaceSink,
    PolicySink,
    decode,
    decode_namespace,
    event_poster,
)
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

RELEASE = "podpace-system"


def config_map(namespace: str, **data: str) -> Json:
    """A policy as the API server sends it."""
    return {
        "metadata": {"name": names.POLICY_CONFIG_MAP, "namespace": namespace, "uid": namespace},
        "data": {k.replace("_", "."): v for k, v in data.items()},
    }


def event(kind: str, body: Json, version: str) -> Json:
    """A watch event."""
    body = body | {"metadata": body.get("metadata", {}) | {"resourceVersion": version}}
    return {"type": kind, "object": body}


class Watched:
    """A reflector of policies and what it feeds."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.store = PolicyStore(RELEASE, without_cluster=True)
        self.metrics = Metrics()
        self.sink = PolicySink(self.store, self.metrics, event_poster(api))
        self.restarts: list[str] = []
        observer = Observer()
        observer.restarted = self.restarts.append  # type: ignore[method-assign]
        self.watch = ListWatch(api, PATH, QUERY, decode, self.sink, observer=observer)

    def egress_max(self, namespace: str) -> int | None:
        """What holds there."""
        bound = self.store.effective(namespace).egress.max
        return bound.bits_per_second if bound else None

    def bad(self, namespace: str) -> float | None:
        """The metric."""
        return self.metrics.registry.get_sample_value(
            "podpace_policy_bad", {"namespace": namespace, "policy": names.POLICY_CONFIG_MAP}
        )


@pytest.fixture
def watched(api: FakeApi) -> Watched:
    """With one policy in it."""
    api.put("/api/v1/namespaces/a/configmaps/podpace-policy", config_map("a", egress_max="1M"))
    return Watched(api)


def test_policies_are_listed_and_then_watched(watched: Watched, api: FakeApi) -> None:
    """The watch goes on from the list, the next watch from the last event or bookmark."""
    api.watches = [
        [
            event("MODIFIED", config_map("a", egress_max="2M"), "7"),
            event("ADDED", config_map("b", egress_max="3M"), "8"),
            event("BOOKMARK", {}, "9"),
        ],
        [event("DELETED", config_map("a"), "10")],
    ]

    watched.watch.step()
    first = watched.egress_max("a"), watched.egress_max("b")
    watched.watch.step()

    assert first == (2_000_000, 3_000_000)
    assert watched.egress_max("a") is None
    assert api.watched_from == ["1", "9"]


def test_a_watch_that_is_too_old_lists_again(watched: Watched, api: FakeApi) -> None:
    """What went away meanwhile is gone."""
    api.watches = [[GoneError("too old", 410)], [event("BOOKMARK", {}, "9")]]
    watched.watch.step()
    api.objects.clear()

    watched.watch.step()

    assert watched.egress_max("a") is None
    assert watched.restarts == ["expired", "ended"]


def test_a_broken_watch_goes_on_where_it_was(watched: Watched, api: FakeApi) -> None:
    """And the policies stay in force meanwhile."""
    api.watches = [[event("BOOKMARK", {}, "5"), ApiError("reset")], [event("BOOKMARK", {}, "6")]]

    with pytest.raises(ApiError):
        watched.watch.step()
    watched.watch.step()

    assert api.watched_from == ["1", "5"]
    assert watched.egress_max("a") == 1_000_000


def test_a_bad_policy_is_told_once_by_metric_and_event(watched: Watched, api: FakeApi) -> None:
    """The Event is about the ConfigMap and says that the last good one holds."""
    bad = event("MODIFIED", config_map("a", egress_max="lots"), "7")
    api.watches = [[bad, bad]]

    watched.watch.step()

    assert watched.egress_max("a") == 1_000_000
    assert watched.bad("a") == 1
    [(path, told)] = api.posted
    assert path == "/api/v1/namespaces/a/events"
    assert told["involvedObject"]["name"] == names.POLICY_CONFIG_MAP
    assert told["message"].startswith("the last good policy stays in force: egress.max")


def test_a_policy_that_is_mended_or_removed_is_no_longer_bad(
    watched: Watched, api: FakeApi
) -> None:
    """The metric's series goes."""
    api.watches = [
        [
            event("MODIFIED", config_map("a", egress_max="lots"), "7"),
            event("MODIFIED", config_map("a", egress_max="5M"), "8"),
            event("ADDED", config_map("b", egress_max="lots"), "9"),
            event("DELETED", config_map("b"), "10"),
        ]
    ]

    watched.watch.step()

    assert (watched.bad("a"), watched.bad("b")) == (None, None)


def test_an_event_that_cannot_be_written_does_not_stop_the_policies(
    watched: Watched, api: FakeApi
) -> None:
    """The metric still tells."""
    api.watches = [[event("MODIFIED", config_map("a", egress_max="lots"), "7")], []]
    watched.watch.step()
    api.fail = ApiError("forbidden", 403)

    watched.sink.put(event("MODIFIED", config_map("c", egress_max="lots"), "8")["object"])

    assert watched.bad("c") == 1


def selected(name: str, **data: str) -> Json:
    """A labelled policy of the cluster."""
    metadata = {"name": name, "namespace": RELEASE, "labels": {names.LABEL_POLICY: "true"}}
    return {"metadata": metadata, "data": {k.replace("_", "."): v for k, v in data.items()}}


def test_labelled_policies_of_the_cluster_are_watched_apart() -> None:
    """The one named podpace-policy is the other watch's, whatever its labels."""
    store, metrics = PolicyStore(RELEASE, without_cluster=True), Metrics()
    sink = PolicySink(store, metrics, lambda *_: None, selected=True)
    for_all = selected(names.POLICY_CONFIG_MAP, egress_max="1M")
    objects = [
        event("ADDED", o, "1")["object"] for o in (selected("free", egress_max="2M"), for_all)
    ]

    sink.replace(objects)
    limit = store.effective("a").egress.max
    policies = metrics.registry.get_sample_value("podpace_cluster_policies")
    sink.remove(objects[0])

    assert limit is not None
    assert (limit.bits_per_second, limit.place) == (2_000_000, f"free in {RELEASE}")
    assert policies == 1
    assert store.effective("a").egress.max is None
    assert metrics.registry.get_sample_value("podpace_cluster_policies") == 0


def test_labels_of_namespaces_are_watched() -> None:
    """New, changed and gone."""
    store = PolicyStore(RELEASE)
    store.put(PolicyKey(RELEASE, "free"), {"namespace-selector": "tier=free", "egress.max": "1M"})
    sink = NamespaceSink(store)

    def namespace(labels: dict[str, str] | None = None) -> Namespace:
        body = {"metadata": {"name": "a", "labels": labels, "managedFields": [{"f": {}}]}}
        return decode_namespace(json.dumps(body).encode())

    def bounded() -> bool:
        return store.effective("a").egress.max is not None

    sink.replace([namespace()])
    seen = [bounded()]
    sink.put(namespace({"tier": "free"}))
    seen.append(bounded())
    sink.put(namespace({}))
    seen.append(bounded())
    sink.remove(namespace())

    # Of a namespace that is gone nothing is known: every policy bounds it.
    assert (*seen, bounded()) == (False, True, False, True)
