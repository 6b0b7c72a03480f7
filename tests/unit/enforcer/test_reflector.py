"""The list-watch of a node's pods: what is asked for, and what is told of it."""

import threading
from queue import SimpleQueue

import pytest

from enforcer.kube.reflector import pod_watch
from enforcer.loops import backoff_seconds, start_loop
from enforcer.pods.news import PodChanged, PodGone, PodsListed
from kube.api import KubeApi
from kube.credentials import load
from tests.api_server import END, serve
from tests.fakes import FakeLog
from tests.unit.enforcer.pod_json import labels, pod_json


class Reflecting:
    """The list-watch in a thread, over a server."""

    def __init__(self, server):
        self.server = server
        self.news = SimpleQueue()
        self.log = FakeLog()
        self.stopping = threading.Event()
        api = KubeApi(lambda: load(server.kubeconfig()))
        self.watch = pod_watch(api, "n1", self.news.put, self.log)
        self.thread = start_loop(
            "watch pods", self.watch.step, self.stopping, self.log, lambda _: None
        )

    def next(self):
        """Waits for it."""
        return self.news.get(timeout=60)

    def event(self, kind, number=1, version=20, **changes):
        """Let the watch say so."""
        body = pod_json(number, version=version, **changes)
        self.server.events.put({"type": kind, "object": body})


@pytest.fixture
def reflecting(tmp_path):
    """Over a server with one pod in it."""
    with serve(tmp_path) as server:
        server.pods = [pod_json(1)]
        found = Reflecting(server)
        yield found
        found.stopping.set()
        server.events.put(END)
        found.thread.join()


def test_only_this_nodes_limited_pods_are_asked_for_from_the_cache(reflecting):
    """5,000 nodes ask for this."""
    listed = reflecting.next()

    assert isinstance(listed, PodsListed)
    assert [pod.name for pod in listed.pods] == ["p1"]
    selected = {
        "fieldSelector": "spec.nodeName=n1",
        "labelSelector": "podpace.io/limited=true",
        "resourceVersion": "0",
    }
    assert reflecting.server.watches()[0].items() >= selected.items()


def test_pods_come_change_and_go(reflecting):
    """In order."""
    reflecting.next()
    reflecting.event("ADDED", 2)
    reflecting.event("MODIFIED", labels=labels("1000000"))
    reflecting.event("DELETED", 2)

    came, changed, gone = (reflecting.next() for _ in range(3))
    assert isinstance(came, PodChanged)
    assert changed.pod.asked.limits.egress.bits_per_second == 1_000_000
    assert isinstance(gone, PodGone)


def test_an_odd_pod_is_told_and_the_watch_goes_on(reflecting):
    """What is known of it stays in force."""
    reflecting.next()
    odd = {"metadata": {"name": "p9", "resourceVersion": "80", "labels": 5}}
    reflecting.server.events.put({"type": "MODIFIED", "object": odd})
    reflecting.event("MODIFIED", version=81)

    assert isinstance(reflecting.next(), PodChanged)
    assert ("warning", "failed") in [(level, event) for level, event, _ in reflecting.log.lines]
    assert len(reflecting.server.watches()) == 1


def test_pauses_grow_and_are_spread(monkeypatch):
    """Full jitter; never less than the server asks for."""
    monkeypatch.setattr("enforcer.loops.BACKOFF_CAP_SECONDS", 30.0)
    draws = [backoff_seconds(20) for _ in range(200)]

    assert max(draws) <= 30.0
    assert max(draws) - min(draws) > 15.0
    assert backoff_seconds(1) <= 1.0
    assert 7.0 <= backoff_seconds(1, 7.0) <= 8.0
