"""The audit of running pods: what is looked at, in which order, by whom, and how often."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract import names
from kube.errors import ApiError
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from webhook.drift import decode_pod
from webhook.kube.audit import Audit, pods_query
from webhook.kube.election import RENEW_SECONDS, Election, Leadership
from webhook.kube.policies import event_poster
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

RELEASE = "podpace-system"
EGRESS = names.ANNOTATION_EGRESS_BANDWIDTH
RATE = names.LABEL_EGRESS_BITS_PER_SECOND


class Bench:
    """A leader's audit under a cluster max of 1 Mbit/s, told of pods as a watch would."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = 0.0
        self.leads = True
        self.store = PolicyStore(RELEASE)
        self.store.replace({PolicyKey(RELEASE): {"egress.max": "1M"}})
        self.store.replace_namespaces({"a": {}, "b": {}})
        self.metrics = Metrics()
        self.patched: list[str] = []
        self.audit = Audit(
            api,
            self.store,
            self.metrics,
            leading=lambda: self.leads,
            interval_seconds=60.0,
            post_event=event_poster(api),
            pause=lambda _: None,
            monotonic=lambda: self.now,
        )

    def put(self, name: str, namespace: str = "a", tell: bool = True, **metadata: Any) -> Json:
        """A pod is there, or has changed."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        body = {"metadata": {"name": name, "namespace": namespace, "uid": name, **metadata}}
        stored = self.api.put(path, body)
        if tell:
            self.tell(stored)
        return stored

    def tell(self, stored: Json) -> None:
        """The watch does."""
        self.audit.put(decode_pod(json.dumps(stored).encode()))

    def run(self, seconds: float = 0.0) -> None:
        """Steps until nothing waits, ``seconds`` later."""
        self.now += seconds
        self.audit.listed = True
        while self.audit.step() == 0.0:
            pass

    def egress(self, name: str, namespace: str = "a") -> str | None:
        """What its label says now."""
        found = self.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        value: str | None = (found["metadata"].get("labels") or {}).get(RATE)
        return value

    def count(self, result: str) -> float | None:
        """The metric."""
        return self.metrics.registry.get_sample_value(
            "podpace_audit_pods_total", {"result": result}
        )


@pytest.fixture
def bench(api: FakeApi) -> Bench:
    """A leader's."""
    return Bench(api)


def test_what_slipped_in_is_labelled_and_told(bench: Bench) -> None:
    """With an Event on the pod where the policy decided."""
    bench.put("slipped")
    bench.put("asking", annotations={EGRESS: "5M"})
    bench.put("fine", annotations={EGRESS: "500k"})

    bench.run()

    assert [bench.egress(n) for n in ("slipped", "asking", "fine")] == [
        "1000000",
        "1000000",
        "500000",
    ]
    told = {e["involvedObject"]["name"]: (e["reason"], e["message"]) for _, e in bench.api.posted}
    assert told.keys() == {"slipped", "asking"}
    assert told["asking"][0] == "BandwidthLimitClamped"
    assert "5 Mbit/s is asked for" in told["asking"][1]


def test_the_most_urgent_is_corrected_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it came."""
    labels = {names.LABEL_LIMITED: "true", names.LABEL_MODE: "enforce"}
    bench.put("tight", labels=labels | {RATE: "1000"})
    bench.put("loose", labels=labels | {RATE: "2000000"})
    bench.put("unlimited")
    order: list[str] = []
    patch = bench.api.json_patch
    monkeypatch.setattr(
        bench.api,
        "json_patch",
        lambda path, operations: (order.append(path.rpartition("/")[2]), patch(path, operations)),
    )

    bench.run()

    assert order == ["unlimited", "loose", "tight"]


def test_ended_pods_and_exempt_namespaces_are_not_even_asked_for() -> None:
    """By the API server's own selection."""
    assert pods_query(["kube-system", "a"])["fieldSelector"] == (
        "status.phase!=Succeeded,status.phase!=Failed,"
        "metadata.namespace!=a,metadata.namespace!=kube-system"
    )


def test_an_ignored_namespace_is_left_alone_until_its_label_goes(bench: Bench) -> None:
    """And again when it comes back."""
    bench.store.put_namespace("a", {names.LABEL_NAMESPACE_IGNORE: ""})
    bench.put("p")
    bench.run()
    while_ignored = bench.egress("p")
    bench.store.put_namespace("a", {})
    bench.run(seconds=60)

    assert while_ignored is None
    assert bench.egress("p") == "1000000"


def test_a_changed_policy_reaches_the_pods_of_its_namespaces_within_the_interval(
    bench: Bench,
) -> None:
    """And no other pod is looked at."""
    bench.put("p", "a")
    bench.put("q", "b")
    bench.run()
    bench.api.posted.clear()
    for namespace, name in (("a", "p"), ("b", "q")):
        bench.tell(bench.api.get(f"/api/v1/namespaces/{namespace}/pods/{name}"))
    bench.store.put(PolicyKey("a"), {"egress.max": "500k"})

    bench.run(seconds=59)
    before = bench.egress("p", "a")
    bench.run(seconds=1)

    assert before == "1000000"
    assert (bench.egress("p", "a"), bench.egress("q", "b")) == ("500000", "1000000")


def test_a_policy_that_was_there_between_two_looks_leaves_no_pod_behind(bench: Bench) -> None:
    """Judged by it, and by what it was before and after: the look finds no change."""
    bench.put("first", labels={}, annotations={EGRESS: "500k"})
    bench.run()
    own = PolicyKey("a")

    bench.store.put(own, {"egress.max": "200k"})
    as_admitted = {names.LABEL_LIMITED: "true", names.LABEL_SOURCE: "pod", RATE: "200000"}
    as_admitted |= {names.LABEL_EGRESS_BURST_BITS: "200000", names.LABEL_MODE: "enforce"}
    bench.put("second", labels=as_admitted, annotations={EGRESS: "500k"})
    bench.store.remove(own)
    bench.run(60.0)

    assert bench.egress("second") == "500000"


@pytest.mark.parametrize("unknown", ["policies", "the namespace"])
def test_what_is_not_known_yet_corrects_nothing(bench: Bench, unknown: str) -> None:
    """Without policies, or its namespace's labels, every pod would look wrong."""
    policies, namespaces = {PolicyKey(RELEASE): {"egress.max": "1M"}}, {"a": dict[str, str]()}
    bench.audit.policies = store = PolicyStore(RELEASE)
    if unknown == "policies":
        store.replace_namespaces(namespaces)
    else:
        store.replace(policies)
        store.replace_namespaces({})
    bench.put("p")
    bench.run()
    before = bench.egress("p")
    store.replace(policies)
    store.replace_namespaces(namespaces)
    bench.run(seconds=60)

    assert before is None
    assert bench.egress("p") == "1000000"


def test_only_a_leader_that_has_seen_all_pods_corrects(bench: Bench) -> None:
    """The order by urgency needs all of them."""
    bench.put("p")
    bench.audit.step()
    unlisted = bench.egress("p")
    bench.leads = False
    bench.run()
    following = bench.egress("p")
    bench.leads = True
    bench.run()

    assert (unlisted, following) == (None, None)
    assert bench.egress("p") == "1000000"


def test_pods_that_are_gone_from_a_new_list_are_forgotten(bench: Bench) -> None:
    """And nothing is patched that is not there."""
    gone = bench.put("gone")
    stays = bench.put("stays")
    bench.api.delete("/api/v1/namespaces/a/pods/gone")

    bench.audit.replace(decode_pod(json.dumps(s).encode()) for s in [stays])
    bench.run()
    bench.audit.remove(decode_pod(json.dumps(gone).encode()))

    assert bench.egress("stays") == "1000000"
    assert bench.count("raced") == bench.count("failed") == 0


def test_a_pod_that_changed_meanwhile_is_corrected_as_what_it_is_then(bench: Bench) -> None:
    """The patch carries the version that it was made from; that is no failure."""
    bench.put("p")
    changed = bench.put("p", tell=False, annotations={EGRESS: "200k"})
    bench.run()
    raced = bench.count("raced")
    bench.tell(changed)
    bench.run()

    assert (raced, bench.count("failed")) == (1, 0)
    assert bench.egress("p") == "200000"


def refusing(bench: Bench, error: ApiError) -> Callable[[], None]:
    """Patches are refused until the returned is called."""
    patch = bench.api.json_patch

    def refuse(_path: str, _operations: object) -> None:
        raise error

    bench.api.json_patch = refuse  # type: ignore[assignment, method-assign]

    def allow() -> None:
        bench.api.json_patch = patch  # type: ignore[method-assign]

    return allow


@pytest.mark.parametrize(("status", "first"), [(403, "failed"), (422, "raced")])
def test_a_refused_patch_is_tried_once_an_interval_and_counted(
    bench: Bench, status: int, first: str
) -> None:
    """One pod that cannot be corrected keeps no other waiting."""
    bench.put("p")
    allow = refusing(bench, ApiError("no", status))
    bench.run()
    after_first = bench.count(first)
    bench.run(seconds=30)
    bench.run(seconds=30)
    failed = bench.count("failed")
    allow()
    bench.run(seconds=60)

    assert after_first == 1
    assert failed == (2 if first == "failed" else 1)
    assert bench.egress("p") == "1000000"


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_server_that_does_not_answer_loses_nothing(bench: Bench, status: int) -> None:
    """The loop waits and goes on where it was."""
    bench.put("p")
    allow = refusing(bench, ApiError("away", status))
    with pytest.raises(ApiError):
        bench.run()
    allow()
    bench.run()

    assert bench.egress("p") == "1000000"


def test_who_changes_his_pod_for_ever_does_not_fill_the_queue(bench: Bench) -> None:
    """Also on a replica that follows pods and does not lead any more."""
    bench.leads = False
    for number in range(3000):
        annotations = {} if number % 2 else {names.ANNOTATION_MIRROR: "x"}
        bench.put("p", annotations=annotations)

    assert len(bench.audit._order) < 1100


def test_a_lease_is_written_once_a_step_and_lost_with_the_api_server(api: FakeApi) -> None:
    """Whatever the audit does meanwhile."""
    metrics = Metrics()
    leadership = Leadership(Election(api, RELEASE, "audit", "me"), metrics)
    other = Leadership(Election(api, RELEASE, "audit", "other"), Metrics())
    pauses = [leadership.step() for _ in range(3)]
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{RELEASE}/leases/audit")
    other.step()
    api.fail = ApiError("gone away")
    led = leadership.leading
    with pytest.raises(ApiError):
        leadership.step()

    assert pauses == [RENEW_SECONDS] * 3
    assert lease["metadata"]["resourceVersion"] == "3"
    assert (led, other.leading, leadership.leading) == (True, False, False)
    assert metrics.registry.get_sample_value("podpace_audit_leader") == 0
