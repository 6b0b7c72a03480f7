"""enforcer.kube against a real HTTPS server: what is asked, and how each fault is got over."""

import socket
import threading
from queue import SimpleQueue

import pytest

from enforcer.errors import ApiError, EnforcerError
from enforcer.kube.api import KubeApi, load_configuration
from enforcer.kube.reflector import PodReflector, pods_query
from enforcer.loops import backoff_seconds, start_loop
from enforcer.pods.news import PodChanged, PodGone, PodsListed
from kube.transport import WATCH_READ_SECONDS
from tests.fakes import FakeLog
from tests.unit.enforcer.api_server import END, RESET, SILENCE, serve
from tests.unit.enforcer.pod_json import labels, pod_json


class Reflecting:
    """A reflector in a thread, over a server with faults."""

    def __init__(self, server, read_seconds=20.0):
        self.server = server
        self.news = SimpleQueue()
        self.log = FakeLog()
        self.restarts = []
        self.errors = []
        self.stopping = threading.Event()
        self.loads = 0
        self.api = KubeApi(self._load, read_seconds)
        self.reflector = PodReflector(
            self.api, pods_query("n1"), self.news.put, self.log, self.restarts.append
        )

    def _load(self):
        self.loads += 1
        return load_configuration(str(self.server._work / "kubeconfig"))

    def start(self):
        """Run it; ends with the server."""
        self.thread = start_loop(
            "watch pods", self.reflector.step, self.stopping, self.log, self.errors.append
        )

    def next(self):
        """Waits for it."""
        return self.news.get(timeout=20)

    def event(self, kind, number=1, version=20, **changes):
        """Let the watch say so."""
        body = pod_json(number, version=version, **changes)
        self.server.events.put({"type": kind, "object": body})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses after failures are short."""
    monkeypatch.setattr("enforcer.loops.BACKOFF_CAP_SECONDS", 0.01)


@pytest.fixture
def server(tmp_path):
    """With one pod in it."""
    with serve(tmp_path) as found:
        found.pods = [pod_json(1)]
        found.kubeconfig()
        yield found


@pytest.fixture
def reflecting(server):
    """Started, and past the first list."""
    found = Reflecting(server)
    found.start()
    yield found
    found.stopping.set()
    server.events.put(END)
    found.thread.join()


def test_the_list_comes_from_the_cache_and_has_this_nodes_limited_pods_only(reflecting):
    """5,000 nodes ask for this; the watch goes on from the list's version."""
    listed = reflecting.next()
    reflecting.event("MODIFIED", labels=labels("1000000"))
    changed = reflecting.next()

    assert isinstance(listed, PodsListed)
    assert [pod.name for pod in listed.pods] == ["p1"]
    assert changed.pod.asked.limits.egress.bits_per_second == 1_000_000
    selectors = {
        "fieldSelector": "spec.nodeName=n1",
        "labelSelector": "podpace.io/limited=true",
    }
    assert reflecting.server.lists() == [selectors | {"resourceVersion": "0"}]
    (watch,) = reflecting.server.watches()
    assert watch.items() >= (selectors | {"resourceVersion": "10"}).items()
    assert watch["allowWatchBookmarks"] == "1" or watch["allowWatchBookmarks"] == "true"
    assert 300 <= int(watch["timeoutSeconds"]) < 600


def test_pods_come_and_go(reflecting):
    """In order."""
    reflecting.next()
    reflecting.event("ADDED", 2)
    reflecting.event("DELETED", 2)

    assert isinstance(reflecting.next(), PodChanged)
    assert isinstance(reflecting.next(), PodGone)


def test_a_watch_that_ended_goes_on_from_the_last_bookmark(reflecting):
    """Nothing is listed again."""
    reflecting.next()
    reflecting.server.events.put(
        {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "99"}}}
    )
    reflecting.server.events.put(END)
    reflecting.event("ADDED", 2, version=100)
    reflecting.next()

    assert [w["resourceVersion"] for w in reflecting.server.watches()] == ["10", "99"]
    assert len(reflecting.server.lists()) == 1


def test_a_reset_connection_goes_on_where_it_was(reflecting):
    """Without a list: 5,000 nodes would otherwise list together when one API server restarts."""
    reflecting.next()
    reflecting.event("MODIFIED", version=33)
    reflecting.next()
    reflecting.server.events.put(RESET)
    reflecting.event("MODIFIED", version=34)
    reflecting.next()

    assert [w["resourceVersion"] for w in reflecting.server.watches()] == ["10", "33"]
    assert len(reflecting.server.lists()) == 1
    assert reflecting.restarts == ["error"]


def test_a_silent_watch_is_given_up(server):
    """A half-open connection would otherwise be watched for ever."""
    reflecting = Reflecting(server, read_seconds=0.3)
    reflecting.start()
    reflecting.next()
    server.events.put(SILENCE)
    server.asked.acquire()
    reflecting.event("MODIFIED", version=44)
    changed = reflecting.next()
    reflecting.stopping.set()
    server.events.put(END)
    reflecting.thread.join()

    assert isinstance(changed, PodChanged)
    assert len(server.watches()) >= 2
    assert len(server.lists()) == 1


@pytest.mark.parametrize("how", ["as an event", "as an answer"])
def test_a_version_that_is_too_old_lists_again(reflecting, how):
    """Once; pods that went away meanwhile are not in that list."""
    reflecting.next()
    reflecting.server.pods = []
    reflecting.server.version = 50
    if how == "as an event":
        gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
        reflecting.server.events.put({"type": "ERROR", "object": gone})
    else:
        reflecting.server.refusals.append((410, {}))
        reflecting.server.events.put(END)
    listed = reflecting.next()

    assert listed == PodsListed(())
    assert "expired" in reflecting.restarts
    assert len(reflecting.server.lists()) == 2


def test_an_expired_token_is_read_again(server):
    """At once, without a failure."""
    server.token = "second"
    server.kubeconfig("first")
    reflecting = Reflecting(server)
    server.kubeconfig("second")
    reflecting.start()
    listed, failures = reflecting.next(), list(reflecting.errors)
    reflecting.stopping.set()
    server.events.put(END)
    reflecting.thread.join()

    assert isinstance(listed, PodsListed)
    assert reflecting.loads == 2
    assert failures == []


def test_an_overloaded_server_is_asked_again_as_it_says(reflecting, monkeypatch):
    """Retry-After is the least."""
    pauses = []
    monkeypatch.setattr(
        "enforcer.loops.backoff_seconds", lambda n, at_least: pauses.append(at_least) or 0.0
    )
    reflecting.next()
    reflecting.server.refusals.append((429, {"Retry-After": "7"}))
    reflecting.server.events.put(END)
    reflecting.event("MODIFIED", version=60)
    reflecting.next()

    assert 7.0 in pauses
    assert len(reflecting.server.lists()) == 1


def test_watches_that_end_at_once_are_not_asked_for_in_a_hot_loop(reflecting):
    """Each counts as a failure, so that the pause grows."""
    reflecting.next()
    for _ in range(3):
        reflecting.server.events.put(END)
    reflecting.event("MODIFIED", version=70)
    reflecting.next()

    assert reflecting.errors == ["watch pods"] * 3


def test_an_odd_object_is_told_and_the_watch_goes_on(reflecting):
    """What is known of it stays in force."""
    reflecting.next()
    odd = {"metadata": {"name": "p9", "resourceVersion": "80", "labels": 5}}
    reflecting.server.events.put({"type": "MODIFIED", "object": odd})
    reflecting.event("MODIFIED", version=81)

    assert isinstance(reflecting.next(), PodChanged)
    assert ("warning", "failed") in [(level, event) for level, event, _ in reflecting.log.lines]
    assert len(reflecting.server.watches()) == 1


def test_a_server_that_is_down_is_an_error_with_a_reason(server):
    """And nothing hangs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server.url = f"https://127.0.0.1:{unused.getsockname()[1]}"
        api = KubeApi(lambda: load_configuration(server.kubeconfig()))
        with pytest.raises(ApiError, match="refused") as refusal:
            api.list("/api/v1/pods", {})

    assert refusal.value.status == 0


def test_patches_and_events_are_sent_as_json(server):
    """With the content type that decides how the API server merges."""
    api = KubeApi(lambda: load_configuration(server.kubeconfig()))
    api.patch("/api/v1/namespaces/shop/pods/p1/status", {"a": 1}, "application/merge-patch+json")
    api.create("/apis/events.k8s.io/v1/namespaces/shop/events", {"b": 2})

    assert [(method, path) for method, path, _ in server.requests] == [
        ("PATCH", "/api/v1/namespaces/shop/pods/p1/status"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events"),
    ]
    assert server.bodies == [{"a": 1}, {"b": 2}]


def test_without_credentials_the_daemon_says_what_to_do(tmp_path, monkeypatch):
    """Neither a kubeconfig nor a service account."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(EnforcerError, match="give --kubeconfig"):
        load_configuration(None)
    with pytest.raises(EnforcerError, match="give --kubeconfig"):
        load_configuration(str(tmp_path / "nothing"))


def test_pauses_grow_and_are_spread(monkeypatch):
    """Full jitter; never less than the server asks for."""
    monkeypatch.setattr("enforcer.loops.BACKOFF_CAP_SECONDS", 30.0)
    draws = [backoff_seconds(20) for _ in range(200)]

    assert max(draws) <= 30.0
    assert max(draws) - min(draws) > 15.0
    assert backoff_seconds(1) <= 1.0
    assert 7.0 <= backoff_seconds(1, 7.0) <= 8.0


def test_bookmarks_are_rarer_than_the_patience_for_them():
    """The API server sends them about once a minute."""
    assert WATCH_READ_SECONDS > 60
