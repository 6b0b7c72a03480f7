"""The audit of running pods."""

import pytest

from contract import names
from kube.errors import ApiError
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from webhook.kube.audit import Audit
from webhook.kube.election import Election
from webhook.metrics import Metrics
from webhook.policies import PolicyKey, PolicyStore

RELEASE = "podpace-system"


def pod(name: str, namespace: str = "a", **metadata: object) -> Json:
    """A pod's metadata, as the audit lists it."""
    return {"metadata": {"name": name, "namespace": namespace, "uid": name, **metadata}}


@pytest.fixture
def audit(api: FakeApi) -> Audit:
    """A lone replica's audit under a cluster max of 1 Mbit/s."""
    store = PolicyStore(RELEASE, without_cluster=True)
    store.replace({PolicyKey(RELEASE): {"egress.max": "1M"}})
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
    known, audit.store = audit.store, PolicyStore(RELEASE)
    audit.step()
    unsynced = labels(api, "a")
    audit.store = known
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
