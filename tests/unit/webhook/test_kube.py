"""The loops against the API server: reflector, policies, election, authority, audit."""

import base64
import threading
from datetime import timedelta

import pytest

from certs.rotation import from_secret_data
from contract import names
from tests.unit.webhook.fake_api import FakeApi
from webhook.errors import ApiError, CertificateError, GoneError, WebhookError
from webhook.kube.audit import Audit
from webhook.kube.authority import KINDS, SECRET, SharedAuthority, publish_bundle
from webhook.kube.election import LEASE_SECONDS, Election
from webhook.kube.policies import PATH, QUERY, PolicySink, event_poster
from webhook.kube.ports import Json
from webhook.kube.reflector import Reflector
from webhook.loops import start_loop
from webhook.metrics import Metrics
from webhook.policies import PolicyStore

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
        self.store = PolicyStore(RELEASE)
        self.metrics = Metrics()
        self.sink = PolicySink(self.store, self.metrics, event_poster(api))
        self.restarts: list[str] = []
        self.reflector = Reflector(api, PATH, QUERY, self.sink, self.restarts.append)

    def egress_max(self, namespace: str) -> int | None:
        """What holds there."""
        bound = self.store.effective(namespace).egress.max
        return bound.bits_per_second if bound else None

    def bad(self, namespace: str) -> float | None:
        """The metric."""
        return self.metrics.registry.get_sample_value(
            "podpace_policy_bad", {"namespace": namespace}
        )


@pytest.fixture
def api() -> FakeApi:
    """An empty API server."""
    return FakeApi()


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

    watched.reflector.step()
    first = watched.egress_max("a"), watched.egress_max("b")
    watched.reflector.step()

    assert first == (2_000_000, 3_000_000)
    assert watched.egress_max("a") is None
    assert api.watched_from == ["1", "9"]
    assert watched.store.synced


def test_a_watch_that_is_too_old_lists_again(watched: Watched, api: FakeApi) -> None:
    """What went away meanwhile is gone."""
    api.watches = [[GoneError("too old", 410)], []]
    watched.reflector.step()
    api.objects.clear()

    watched.reflector.step()

    assert watched.egress_max("a") is None
    assert watched.restarts == ["expired"]


def test_a_broken_watch_goes_on_where_it_was(watched: Watched, api: FakeApi) -> None:
    """And the policies stay in force meanwhile."""
    api.watches = [[event("BOOKMARK", {}, "5"), ApiError("reset")], []]

    with pytest.raises(ApiError):
        watched.reflector.step()
    watched.reflector.step()

    assert api.watched_from == ["1", "5"]
    assert watched.egress_max("a") == 1_000_000


def test_a_bad_policy_is_told_once_by_metric_and_event(watched: Watched, api: FakeApi) -> None:
    """The Event is about the ConfigMap and says that the last good one holds."""
    bad = event("MODIFIED", config_map("a", egress_max="lots"), "7")
    api.watches = [[bad, bad]]

    watched.reflector.step()

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

    watched.reflector.step()

    assert (watched.bad("a"), watched.bad("b")) == (None, None)


def test_an_event_that_cannot_be_written_does_not_stop_the_policies(
    watched: Watched, api: FakeApi
) -> None:
    """The metric still tells."""
    api.watches = [[event("MODIFIED", config_map("a", egress_max="lots"), "7")], []]
    watched.reflector.step()
    api.fail = ApiError("forbidden", 403)

    watched.sink.put(event("MODIFIED", config_map("c", egress_max="lots"), "8")["object"])

    assert watched.bad("c") == 1


class Contest:
    """Candidates for one lease, and a clock."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = 1000.0

    def candidate(self, name: str) -> Election:
        """One replica."""
        return Election(self.api, RELEASE, "audit", name)

    def campaign(self, candidate: Election) -> bool:
        """At the present time."""
        return candidate.campaign(self.now, self.now)


def test_one_of_two_leads_and_goes_on_leading(api: FakeApi) -> None:
    """Renewing keeps the other out."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")

    led = []
    for _ in range(10):
        led.append((contest.campaign(first), contest.campaign(second)))
        contest.now += 5

    assert led == [(True, False)] * 10


def test_a_dead_leader_is_followed_after_its_lease(api: FakeApi) -> None:
    """Counted from when the follower last saw it renewed, on its own clock."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")
    contest.campaign(first)
    contest.campaign(second)

    contest.now += LEASE_SECONDS - 1
    early = contest.campaign(second)
    contest.now += 1
    late = contest.campaign(second)

    assert (early, late) == (False, True)
    assert not contest.campaign(first)


def test_a_leader_that_resigns_is_followed_at_once(api: FakeApi) -> None:
    """A rolling update need not wait."""
    contest = Contest(api)
    first, second = contest.candidate("first"), contest.candidate("second")
    contest.campaign(first)

    second.resign(contest.now)
    still = contest.campaign(second)
    first.resign(contest.now)

    assert not still
    assert contest.campaign(second)


def test_replicas_that_start_together_share_one_authority(api: FakeApi) -> None:
    """Whoever creates the Secret first."""
    first, second = (SharedAuthority(api, RELEASE).current() for _ in range(2))

    assert first == second


def test_an_authority_lost_to_a_faster_replica_is_read_again(api: FakeApi) -> None:
    """AlreadyExists is an answer, not an error."""

    class Slow(FakeApi):
        def create(self, path: str, body: Json) -> Json:
            SharedAuthority(api, RELEASE).current()
            self.objects = api.objects
            return super().create(path, body)

    slow = Slow()

    assert SharedAuthority(slow, RELEASE).current() == SharedAuthority(api, RELEASE).current()


def test_a_rotation_is_asked_for_by_annotation_and_only_once(api: FakeApi) -> None:
    """The annotation is taken off in the same write."""
    shared = SharedAuthority(api, RELEASE, timedelta(0))
    before = shared.current()
    path = f"/api/v1/namespaces/{RELEASE}/secrets/{SECRET}"
    secret = api.get(path)
    secret["metadata"]["annotations"] = {names.ANNOTATION_ROTATE: "now", "other": "x"}
    api.put(path, secret)

    overlapping, switched, after = shared.current(), shared.current(), shared.current()

    assert overlapping.signer == before.signer
    assert overlapping.successor is not None
    assert switched.signer == overlapping.successor.authority
    assert after == switched
    assert api.get(path)["metadata"]["annotations"] == {"other": "x"}
    stored = {k: base64.b64decode(v) for k, v in api.get(path)["data"].items()}
    assert from_secret_data(stored) == switched


def test_an_empty_secret_is_filled_and_keeps_its_labels(api: FakeApi) -> None:
    """The chart makes it, so that it is removed with the release."""
    path = f"/api/v1/namespaces/{RELEASE}/secrets/{SECRET}"
    api.put(path, {"metadata": {"labels": {"a": "b"}}})

    first, second = (SharedAuthority(api, RELEASE).current() for _ in range(2))

    assert first == second
    assert api.get(path)["metadata"]["labels"] == {"a": "b"}


def test_a_foreign_secret_is_an_error_that_says_what_to_do(api: FakeApi) -> None:
    """It is not overwritten."""
    path = f"/api/v1/namespaces/{RELEASE}/secrets/{SECRET}"
    api.put(path, {"metadata": {}, "data": {"a": "Yg=="}})

    with pytest.raises(CertificateError, match="delete it to get one"):
        SharedAuthority(api, RELEASE).current()

    assert api.get(path)["data"] == {"a": "Yg=="}


def test_the_bundle_is_published_in_every_webhook_and_then_left_alone(api: FakeApi) -> None:
    """A second time nothing is written; a missing configuration is no error."""
    path = f"/apis/admissionregistration.k8s.io/v1/{KINDS[0]}/podpace"
    webhooks = [{"clientConfig": {}}, {"clientConfig": {"caBundle": "b2xk"}}]
    api.put(path, {"metadata": {}, "webhooks": webhooks})

    changed = publish_bundle(api, "podpace", b"new"), publish_bundle(api, "podpace", b"new")

    assert changed == (1, 0)
    assert [w["clientConfig"]["caBundle"] for w in api.get(path)["webhooks"]] == ["bmV3"] * 2


def pod(name: str, namespace: str = "a", **metadata: object) -> Json:
    """A pod's metadata, as the audit lists it."""
    return {"metadata": {"name": name, "namespace": namespace, "uid": name, **metadata}}


@pytest.fixture
def audit(api: FakeApi) -> Audit:
    """A lone replica's audit under a cluster max of 1 Mbit/s."""
    store = PolicyStore(RELEASE)
    store.replace({RELEASE: {"egress.max": "1M"}})
    election = Election(api, RELEASE, "audit", "me")
    return Audit(api, store, Metrics(), election, RELEASE, interval_seconds=60)


def labels(api: FakeApi, name: str, namespace: str = "a") -> dict[str, str]:
    """What a pod carries now."""
    found = api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    return found["metadata"].get("labels") or {}


def put_pod(api: FakeApi, body: Json) -> None:
    """Make it."""
    metadata = body["metadata"]
    api.put(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", body)


def test_the_audit_labels_what_slipped_in_and_leaves_the_rest(api: FakeApi, audit: Audit) -> None:
    """Exempt namespaces, mirror pods and pods that are going are left alone."""
    annotations = {"kubernetes.io/config.mirror": "x"}
    api.put(
        "/api/v1/namespaces/b",
        {"metadata": {"name": "b", "labels": {names.LABEL_NAMESPACE_IGNORE: ""}}},
    )
    put_pod(api, pod("slipped"))
    put_pod(api, pod("mirror", annotations=annotations))
    put_pod(api, pod("going", deletionTimestamp="2030-01-01T00:00:00Z"))
    put_pod(api, pod("exempt", "kube-system"))
    put_pod(api, pod("ours", RELEASE))
    put_pod(api, pod("ignored", "b"))
    put_pod(api, pod("named", "c"))
    audit.exempt_namespaces = ("c",)

    audit.step()

    assert labels(api, "slipped")[names.LABEL_EGRESS_BITS_PER_SECOND] == "1000000"
    for name, namespace in (
        ("mirror", "a"),
        ("going", "a"),
        ("exempt", "kube-system"),
        ("ours", RELEASE),
        ("ignored", "b"),
        ("named", "c"),
    ):
        assert labels(api, name, namespace) == {}
    assert audit.audit() == 0


def test_a_pod_that_changed_meanwhile_is_left_to_the_next_pass(api: FakeApi, audit: Audit) -> None:
    """The patch carries the version it was made from."""
    put_pod(api, pod("a"))

    class Racing(FakeApi):
        def json_patch(self, path: str, operations: object) -> Json:
            self.put(path, self.get(path))
            return super().json_patch(path, operations)  # type: ignore[arg-type]

    racing = Racing(version=100)
    racing.objects = api.objects
    audit.api = racing

    assert audit.audit() == 0
    assert labels(api, "a") == {}


def test_only_a_leader_with_policies_audits(api: FakeApi, audit: Audit) -> None:
    """Without policies every label would look wrong."""
    put_pod(api, pod("a"))
    other = Election(api, RELEASE, "audit", "other")
    other.campaign(1.0, 1.0)

    audit.step()
    follower = labels(api, "a")
    other.resign(2.0)
    audit.store.synced = False
    audit.step()
    unsynced = labels(api, "a")
    audit.store.synced = True
    audit.step()

    assert follower == unsynced == {}
    assert labels(api, "a")


def test_a_leader_without_an_api_server_does_not_count_on_leading(
    api: FakeApi, audit: Audit
) -> None:
    """The metric falls with it."""
    audit.step()
    api.fail = ApiError("gone away")

    with pytest.raises(ApiError):
        audit.step()

    assert not audit.leading
    assert audit.metrics.registry.get_sample_value("podpace_audit_leader") == 0


def test_a_loop_survives_failed_steps_and_stops_when_told() -> None:
    """With a pause that grows, and not one thread left."""
    stop, done = threading.Event(), threading.Event()
    failures: list[WebhookError] = []
    calls = iter(range(10))

    def step() -> float:
        if next(calls) == 0:
            raise ApiError("first time")
        done.set()
        return 60

    thread = start_loop("test", step, stop, failures.append)
    assert done.wait(10)
    stop.set()
    thread.join(10)

    assert len(failures) == 1
    assert not thread.is_alive()
