"""kube.listwatch against a real HTTPS server: what is asked, and how each fault is got over."""

import threading
from queue import SimpleQueue

import msgspec
import pytest

from enforcer.loops import start_loop
from kube.api import WATCH_READ_SECONDS, KubeApi
from kube.credentials import load
from kube.listwatch import ListWatch, Observer
from tests.api_server import END, RESET, SILENCE, serve
from tests.fakes import FakeLog

SELECTOR = {"labelSelector": "a=b"}


def thing(name, version=5):
    """An object."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def decode(body):
    """Its name."""
    name = msgspec.json.decode(body)["metadata"]["name"]
    if name is None:
        raise ValueError("no name")
    return name.lower()


class Watching(Observer):
    """A list-watch in a thread, over a server with faults; what it tells is queued."""

    def __init__(self, server, read_seconds=20.0, **options):
        self.server = server
        self.told = SimpleQueue()
        self.restarts, self.errors, self.odd, self.loads = [], [], [], 0
        self.stopping = threading.Event()
        api = KubeApi(self._load, watch_read_seconds=read_seconds)
        self.watch = ListWatch(
            api, "/api/v1/things", SELECTOR, decode, self, observer=self, **options
        )

    def _load(self):
        self.loads += 1
        return load(str(self.server._work / "kubeconfig"))

    def replace(self, objects):
        """See ``Sink``."""
        self.told.put(("all", tuple(objects)))

    def put(self, changed):
        """See ``Sink``."""
        self.told.put(("put", changed))

    def remove(self, removed):
        """See ``Sink``."""
        self.told.put(("removed", removed))

    def restarted(self, reason):
        """See ``Observer``."""
        self.restarts.append(reason)

    def unreadable(self, reason):
        """See ``Observer``."""
        self.odd.append(reason)

    def start(self):
        """Run it."""
        self.thread = start_loop(
            "watch", self.watch.step, self.stopping, FakeLog(), self.errors.append
        )

    def stop(self):
        """It ends with the watch."""
        self.stopping.set()
        self.server.events.put(END)
        self.thread.join()

    def next(self):
        """Waits for it."""
        return self.told.get(timeout=60)

    def event(self, kind, name="a", version=20):
        """Let the watch say so."""
        self.server.events.put({"type": kind, "object": thing(name, version)})

    def followed(self):
        """The versions that watches went on from."""
        return [w["resourceVersion"] for w in self.server.watches() if "sendInitialEvents" not in w]

    def began(self):
        """How often all there is was asked for."""
        streamed = [w for w in self.server.watches() if "sendInitialEvents" in w]
        return len(streamed if self.server.streams else self.server.lists())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses after failures are short."""
    monkeypatch.setattr("enforcer.loops.BACKOFF_CAP_SECONDS", 0.01)


@pytest.fixture(params=["streamed", "listed"])
def server(tmp_path, request):
    """With one object in it; newer API servers stream, older ones list."""
    with serve(tmp_path) as found:
        found.streams = request.param == "streamed"
        found.pods = [thing("A")]
        found.kubeconfig()
        yield found


@pytest.fixture
def watching(server):
    """Started, and past the first state."""
    found = Watching(server)
    found.start()
    assert found.next() == ("all", ("a",))
    yield found
    found.stop()


def test_objects_come_change_and_go_in_order(watching):
    """As they are told."""
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        watching.event(kind, "B")

    assert [watching.next() for _ in range(3)] == [("put", "b"), ("put", "b"), ("removed", "b")]


def test_the_watch_goes_on_from_the_first_state(watching):
    """With the selector, bookmarks, and an end that is spread over minutes."""
    watching.event("ADDED", "B")
    watching.next()

    last = watching.server.watches()[-1]
    assert last.items() >= (SELECTOR | {"allowWatchBookmarks": "true"}).items()
    assert 300 <= int(last["timeoutSeconds"]) < 600
    if not watching.server.streams:
        assert watching.followed() == ["10"]
        assert watching.server.lists() == [SELECTOR | {"limit": "500"}]


@pytest.mark.parametrize("streams", [True, False])
def test_the_first_state_comes_from_the_cache_where_that_is_wanted(tmp_path, streams):
    """5,000 nodes must not all read from etcd."""
    with serve(tmp_path) as server:
        server.streams = streams
        server.kubeconfig()
        watching = Watching(server, from_cache=True)
        watching.start()
        watching.next()
        watching.stop()
        first = server.watches()[0] if streams else server.lists()[0]

    assert first["resourceVersion"] == "0"


def test_a_watch_that_ended_goes_on_from_the_last_bookmark(watching):
    """Nothing is told again."""
    watching.event("BOOKMARK", version=99)
    watching.server.events.put(END)
    watching.event("ADDED", "B", version=100)

    assert watching.next() == ("put", "b")
    assert watching.followed()[-1] == "99"
    assert watching.began() == 1


def test_a_reset_connection_goes_on_where_it_was(watching):
    """Without a list: 5,000 nodes would otherwise list together when one API server restarts."""
    watching.event("MODIFIED", version=33)
    watching.next()
    watching.server.events.put(RESET)
    watching.event("MODIFIED", version=34)
    watching.next()

    assert watching.followed()[-1] == "33"
    assert watching.began() == 1
    assert watching.restarts == ["error"]


def test_a_silent_watch_is_given_up(server):
    """A half-open connection would otherwise be watched for ever."""
    watching = Watching(server, read_seconds=0.3)
    watching.start()
    watching.next()
    server.events.put(SILENCE)
    while len(server.watches()) < 2 + (not server.streams):
        server.asked.acquire()
    watching.event("MODIFIED", version=44)
    changed = watching.next()
    watching.stop()

    assert changed == ("put", "a")
    assert watching.began() == 1


@pytest.mark.parametrize("how", ["as an event", "as an answer"])
def test_a_version_that_is_too_old_begins_anew(watching, how):
    """Once; what went away meanwhile is not in it."""
    watching.server.pods = []
    watching.server.version = 50
    if how == "as an event":
        gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
        watching.server.events.put({"type": "ERROR", "object": gone})
    else:
        watching.server.refusals.append((410, {}))
        watching.server.events.put(END)

    assert watching.next() == ("all", ())
    assert "expired" in watching.restarts
    assert watching.began() == 2


def test_a_first_state_that_breaks_off_is_not_taken_for_all_there_is(tmp_path):
    """What was known stays until the whole is there."""
    with serve(tmp_path) as server:
        server.kubeconfig()
        server.pods = [thing("A"), thing("B")]
        server.first_state_ends = False
        watching = Watching(server)
        watching.start()
        server.events.put(END)
        server.asked.acquire()
        while not watching.errors:
            server.asked.acquire(timeout=0.05)
        nothing = watching.told.empty()
        server.first_state_ends = True
        server.events.put(END)
        told = watching.next()
        watching.stop()

    assert nothing
    assert told == ("all", ("a", "b"))


def test_an_expired_token_is_read_again(server):
    """At once, without a failure."""
    server.token = "second"
    server.kubeconfig("first")
    watching = Watching(server)
    server.kubeconfig("second")
    watching.start()
    watching.next()
    failures = list(watching.errors)
    watching.stop()

    assert watching.loads == 2
    assert failures == []


def test_an_overloaded_server_is_asked_again_as_it_says(watching, monkeypatch):
    """Retry-After is the least."""
    pauses = []
    monkeypatch.setattr(
        "enforcer.loops.backoff_seconds", lambda n, at_least: pauses.append(at_least) or 0.0
    )
    watching.server.refusals.append((429, {"Retry-After": "7"}))
    watching.server.events.put(END)
    watching.event("MODIFIED", version=60)
    watching.next()

    assert 7.0 in pauses
    assert watching.began() == 1


def test_watches_that_end_at_once_are_not_asked_for_in_a_hot_loop(watching, monkeypatch):
    """Each counts as a failure, so that the pause grows; what a first one had told is something."""
    monkeypatch.setattr("kube.listwatch._SHORTEST_WATCH_SECONDS", 3600.0)
    for _ in range(4):
        watching.server.events.put(END)
    watching.event("MODIFIED", version=70)
    watching.next()

    assert len(watching.errors) == (3 if watching.server.streams else 4)


def test_an_object_that_cannot_be_read_is_told_and_the_watch_goes_on(watching):
    """What is known of it stays."""
    odd = {"metadata": {"name": None, "resourceVersion": "80"}}
    watching.server.events.put({"type": "MODIFIED", "object": odd})
    watching.event("MODIFIED", version=81)

    assert watching.next() == ("put", "a")
    assert len(watching.odd) == 1
    assert watching.restarts == []


def test_bookmarks_are_rarer_than_the_patience_for_them():
    """The API server sends them about once a minute."""
    assert WATCH_READ_SECONDS > 60
