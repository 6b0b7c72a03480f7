"""enforcer.pods.reports with an API server in memory: what is written, and what is not."""

import json

import pytest

from contract.names import EventReason
from enforcer.pods.events import EventBook
from enforcer.pods.news import PodFound
from enforcer.pods.pod import Condition
from enforcer.pods.reports import Reports
from kube.errors import ApiError
from kube.ports import Page
from tests.fakes import FakeLog
from tests.unit.enforcer.pod_json import UID, condition_json, make_pod, pod_json

IN_FORCE = Condition("True", "Enforced", "egress 5 Mbit/s (paced)")


class FakeApi:
    """Keeps what was written; ``fail`` is raised by the next calls."""

    def __init__(self):
        self.patched = []
        self.created = []
        self.pods = {}
        self.fail = []

    def pages(self, path, query):
        """See ports.Api; one."""
        self._maybe_fail()
        found = self.pods.get((path, query["fieldSelector"]))
        yield Page(() if found is None else (found,), "9")

    def create(self, path, body):
        """See ports.Api."""
        self._maybe_fail()
        self.created.append((path, body))

    def patch(self, path, body, content_type):
        """See ports.Api."""
        assert content_type == "application/strategic-merge-patch+json"
        self._maybe_fail()
        self.patched.append((path, body))

    def _maybe_fail(self):
        if self.fail:
            raise self.fail.pop(0)


class Desk:
    """Reports over that API server."""

    def __init__(self):
        self.api = FakeApi()
        self.log = FakeLog()
        self.errors = []
        self.told = []
        self.reports = Reports(
            self.api, EventBook("n1"), self.log, self.errors.append, self.told.append
        )

    def write(self):
        """All that is to be written."""
        while self.reports._wanted or self.reports._events or self.reports._questions:
            self.reports.step()


@pytest.fixture
def desk():
    """Nothing to write yet."""
    return Desk()


def test_a_condition_is_written_once(desk):
    """Not again before the watch shows it, nor after."""
    desk.reports.want(make_pod(), IN_FORCE)
    desk.write()
    desk.reports.want(make_pod(), IN_FORCE)
    shown = make_pod(conditions=condition_json("True", "Enforced", IN_FORCE.message))
    desk.reports.want(shown, IN_FORCE)
    desk.write()

    assert [path for path, _ in desk.api.patched] == ["/api/v1/namespaces/shop/pods/p1/status"]
    assert desk.log.events == ["reported"]


def test_only_the_last_of_several_is_written(desk):
    """A limit that is changed ten times while the API server is slow."""
    for message in "abc":
        desk.reports.want(make_pod(), Condition("True", "Enforced", message))
    desk.write()

    assert [b["status"]["conditions"][0]["message"] for _, b in desk.api.patched] == ["c"]


def test_what_became_true_again_is_not_written(desk):
    """It says so already."""
    shown = make_pod(conditions=condition_json("True", "Enforced", IN_FORCE.message))
    desk.reports.want(shown, Condition("False", "Failed", "ENOMEM"))
    desk.reports.want(shown, IN_FORCE)
    desk.write()

    assert desk.api.patched == []


def test_what_somebody_else_wrote_over_ours_is_corrected(desk, monkeypatch):
    """Once it is clear that it is no echo of the time before our write."""
    desk.reports.want(make_pod(), IN_FORCE)
    desk.write()
    forged = make_pod(conditions=condition_json("True", "Enforced", "1 Tbit/s"))
    desk.reports.want(forged, IN_FORCE)
    echo = len(desk.reports._wanted)
    monkeypatch.setattr("enforcer.pods.reports._SETTLE_SECONDS", -1.0)
    desk.reports.want(forged, IN_FORCE)
    desk.write()

    assert echo == 0
    assert len(desk.api.patched) == 2


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_what_could_not_be_written_is_written_later(desk, status):
    """The loop waits in between; the limit is in force meanwhile."""
    desk.api.fail = [ApiError("down", status)]
    desk.reports.want(make_pod(), IN_FORCE)
    desk.reports.event(make_pod(), EventReason.CHANGED, "now")
    with pytest.raises(ApiError):
        desk.write()
    desk.write()

    assert len(desk.api.patched) == len(desk.api.created) == 1
    assert desk.errors == ["report"]


@pytest.mark.parametrize(("status", "logged"), [(404, 0), (409, 0), (403, 1), (422, 1)])
def test_what_will_never_be_written_does_not_hold_up_the_rest(desk, status, logged):
    """The pod is gone, or is another one; or a policy refuses us, which is told."""
    desk.api.fail = [ApiError("no", status)]
    desk.reports.want(make_pod(1), IN_FORCE)
    desk.reports.want(make_pod(2), IN_FORCE)
    desk.write()

    assert [body["metadata"]["uid"] for _, body in desk.api.patched] == [UID.format(2)]
    assert desk.log.events.count("failed") == logged


def test_a_pod_that_is_gone_leaves_nothing_to_write(desk):
    """Neither its condition nor memory."""
    desk.reports.want(make_pod(1), IN_FORCE)
    desk.write()
    desk.reports.want(make_pod(1), Condition("False", "Failed", "x"))
    desk.reports.forget(make_pod(1))
    desk.write()

    assert len(desk.api.patched) == 1
    assert desk.reports._written == {}


def test_many_changes_are_written_at_a_bounded_rate(desk, monkeypatch):
    """A burst, and then at the pace that one node may have."""
    slept = []
    monkeypatch.setattr("enforcer.pods.reports.time.sleep", slept.append)
    for number in range(9):
        desk.reports.want(make_pod(number), IN_FORCE)
    desk.reports._budget._left = 3
    for _ in range(5):
        desk.reports.step()

    assert len(desk.api.patched) == 3
    assert all(0 < seconds <= 0.05 for seconds in slept)
    assert len(slept) == 2


def test_events_are_written_to_the_pods_namespace(desk):
    """Through events.k8s.io, as RBAC grants it."""
    desk.reports.event(make_pod(), EventReason.DENIED, "ENOMEM")
    desk.write()

    assert desk.api.created[0][0] == "/apis/events.k8s.io/v1/namespaces/shop/events"


def test_a_pod_that_is_asked_for_is_looked_up_by_its_name(desk):
    """Whatever its labels; the answer is news."""
    desk.api.pods["/api/v1/namespaces/shop/pods", "metadata.name=p1"] = json.dumps(
        pod_json(labels={})
    ).encode()
    desk.reports.ask(make_pod())
    desk.reports.ask(make_pod(2))
    desk.write()

    assert desk.told == [
        PodFound(UID.format(1), make_pod(labels={})),
        PodFound(UID.format(2), None),
    ]


def test_a_question_that_was_not_answered_is_asked_again(desk):
    """Nothing is told meanwhile, so nothing is released."""
    desk.api.fail = [ApiError("away", 503)]
    desk.reports.ask(make_pod())
    with pytest.raises(ApiError):
        desk.write()
    before = list(desk.told)
    desk.write()

    assert before == []
    assert desk.told == [PodFound(UID.format(1), None)]
