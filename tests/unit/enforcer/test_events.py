"""enforcer.pods.events: few Events, repetitions as series, a bounded number for each pod."""

import re

from contract.names import EventReason
from enforcer.pods.budget import Budget
from enforcer.pods.events import PER_POD_BURST, EventBook, NewEvent, SeriesPatch
from tests.unit.enforcer.pod_json import make_pod

NOON = 1_800_000_000.0


def test_an_event_has_what_the_api_demands():
    """events.k8s.io/v1 refuses one without controller, action or six digits of time."""
    event = EventBook("n1").note(make_pod(), EventReason.CHANGED, "now 5 Mbit/s", NOON)

    assert isinstance(event, NewEvent)
    assert event.namespace == event.body["metadata"]["namespace"] == "shop"
    assert re.fullmatch(r"[-0-9]+T[:0-9]+\.[0-9]{6}Z", event.body["eventTime"])
    assert event.body["type"] == "Normal"
    assert event.body["reason"] == "BandwidthLimitChanged"
    assert event.body["regarding"]["uid"] == make_pod().uid
    for key in ("reportingController", "reportingInstance", "action", "note"):
        assert event.body[key]


def test_failures_are_warnings_and_long_notes_are_cut():
    """The API server refuses more than 1024 bytes."""
    event = EventBook("n1").note(make_pod(), EventReason.DENIED, "é" * 2000, NOON)

    assert event.body["type"] == "Warning"
    assert len(event.body["note"].encode()) <= 1024


def test_what_repeats_becomes_a_series_written_now_and_then():
    """Once a minute, with the count so far."""
    book = EventBook("n1")
    first = book.note(make_pod(), EventReason.DENIED, "ENOMEM", NOON)
    silent = [book.note(make_pod(), EventReason.DENIED, "ENOMEM", NOON + s) for s in range(10, 60)]
    told = book.note(make_pod(), EventReason.DENIED, "ENOMEM", NOON + 61)

    assert silent == [None] * 50
    assert isinstance(told, SeriesPatch)
    assert told.name == first.body["metadata"]["name"]
    assert told.body["series"]["count"] == 52


def test_what_comes_back_after_a_long_time_is_a_new_event():
    """The old series is over."""
    book = EventBook("n1")
    book.note(make_pod(), EventReason.DENIED, "ENOMEM", NOON)

    assert isinstance(book.note(make_pod(), EventReason.DENIED, "ENOMEM", NOON + 3600), NewEvent)


def test_one_pod_cannot_flood_the_events():
    """Somebody who changes a limit ten times a second; other pods are still told about."""
    book = EventBook("n1")
    told = [book.note(make_pod(1), EventReason.CHANGED, f"now {i}", NOON) for i in range(100)]

    assert sum(e is not None for e in told) == PER_POD_BURST
    assert book.note(make_pod(2), EventReason.CHANGED, "now 1", NOON) is not None


def test_ten_thousand_pods_leave_a_bounded_memory():
    """Pods come and go."""
    book = EventBook("n1")
    for i in range(10_000):
        pod = make_pod(1, uid=f"11111111-2222-3333-4444-{i:012d}")
        book.note(pod, EventReason.CHANGED, "now", NOON + i)
        if i % 2:
            book.forget(pod)

    assert len(book._series) <= 1000
    assert len(book._budgets) <= 1000


def test_a_budget_says_how_long_to_wait():
    """Two at once, then one every ten seconds."""
    budget = Budget(2, 10.0, 100.0)

    assert [budget.spend(100.0) for _ in range(3)] == [0, 0, 10.0]
    assert budget.spend(110.0) == 0


def test_a_clock_that_is_set_back_silences_no_event():
    """Budgets go by a clock that nobody sets; what is written goes by the wall's."""
    walls = [NOON, NOON - 3600, NOON - 3600 + 60]
    book = EventBook("n1", lambda: walls[0])
    for n in range(PER_POD_BURST):
        assert book.note(make_pod(), EventReason.CHANGED, f"{n}", 100.0) is not None
    walls.pop(0)
    spent = book.note(make_pod(), EventReason.CHANGED, "too much", 101.0)
    walls.pop(0)
    later = book.note(make_pod(), EventReason.CHANGED, "later", 161.0)

    assert spent is None
    assert later.body["eventTime"] < "2027-01-15T08:00:00.000000Z"
