"""Certificates change and replicas come and go under 200 pod creations a second: none fails."""

import base64
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.helpers import until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, Replica
from tests.cluster.load import Outcome, steady_load
from tests.unit.webhook.test_authority import rsa_pair

SECRET = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/podpace-webhook-ca"
PER_SECOND = 200
OPTIONS = (
    "--audit-seconds=0",
    "--drain-seconds=3",
    "--certificate-poll-seconds=0.5",
    "--ca-overlap-seconds=3",
)


@pytest.fixture(scope="module")
def rotating(installation: Installation) -> Iterator[Installation]:
    """Two replicas that look at their certificates twice a second, instead of the usual one."""
    for usual in list(installation.replicas):
        installation.remove_replica(usual)
    for _ in range(2):
        installation.add_replica(*OPTIONS)
    installation.wait_called()
    yield installation
    for replica in list(installation.replicas):
        installation.remove_replica(replica)
    installation.add_replica("--audit-seconds=0", "--drain-seconds=1")
    installation.wait_called()


def _judge(outcome: Outcome) -> None:
    print(f"{outcome.done} creations in {outcome.seconds:.1f} s, {len(outcome.failures)} failed")
    assert outcome.failures == []
    assert outcome.done > 0


def _certificates(replica: Replica) -> list[str]:
    return [e["timestamp"] for e in replica.log if e["event"] == "certificate loaded"]


def _wait_certificate(replica: Replica, mark: int) -> None:
    replica.wait_log(lambda e: e["event"] == "certificate loaded", start=mark)


def test_a_new_authority_takes_over_without_a_failed_request(rotating: Installation) -> None:
    """Published beside the old one, then signing: every handshake meets trust."""
    before = rotating.admin.get(SECRET)["data"]
    marks = [len(r.log) for r in rotating.replicas]

    with steady_load(rotating.plane, PER_SECOND) as outcome:
        time.sleep(1)
        rotating.admin.patch(SECRET, {"metadata": {"annotations": {"podpace.io/rotate": "now"}}})
        for replica, mark in zip(rotating.replicas, marks, strict=True):
            _wait_certificate(replica, mark)
        time.sleep(2)

    _judge(outcome)
    assert all(any(e["event"] == "pod reviewed" for e in r.log) for r in rotating.replicas)
    after = rotating.admin.get(SECRET)
    assert after["data"]["tls.crt"] != before["tls.crt"]
    assert "podpace.io/rotate" not in after["metadata"].get("annotations", {})


def test_leaves_are_renewed_without_a_failed_request(rotating: Installation) -> None:
    """A leaf so short that every look renews it."""
    # Valid from an hour ago on, so of 66 minutes there is less than a third left at once.
    replica = rotating.add_replica(*OPTIONS, "--leaf-days=0.004")
    mark = len(replica.log)

    with steady_load(rotating.plane, PER_SECOND) as outcome:
        for _ in range(5):
            _wait_certificate(replica, mark)
            mark = len(replica.log)
        time.sleep(0.5)

    _judge(outcome)
    assert len(_certificates(replica)) >= 5
    rotating.remove_replica(replica)


def test_replicas_are_replaced_without_a_failed_request(rotating: Installation) -> None:
    """A rolling update: a new one is ready, then an old one gets SIGTERM, twice."""
    with steady_load(rotating.plane, PER_SECOND) as outcome:
        time.sleep(1)
        for old in list(rotating.replicas):
            rotating.add_replica(*OPTIONS)
            rotating.remove_replica(old)
            assert old.process.returncode == 0
            assert old.errors() == ""
        time.sleep(1)

    _judge(outcome)


def test_a_connection_that_survives_a_replica_is_closed_by_it(rotating: Installation) -> None:
    """While it drains, every answer says ``Connection: close``, and readiness fails."""
    import httpx

    replica = rotating.add_replica(*OPTIONS)
    url = f"https://{replica.address}:{replica.port}/mutate"
    with httpx.Client(verify=False, trust_env=False) as client:
        usual = client.post(url, content=b"{}", headers={"Content-Type": "text/plain"})
        answer = client.post(url, content=REVIEW, headers={"Content-Type": "application/json"})
        assert usual.status_code == 415
        assert "connection" not in answer.headers
        replica.terminate()
        replica.wait_log(lambda e: e["event"] == "draining")

        answer = client.post(url, content=REVIEW, headers={"Content-Type": "application/json"})

    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert not replica.ready()
    rotating.set_endpoint(replica, ready=False)
    replica.join()
    rotating.replicas.remove(replica)


def _garbage() -> dict[str, str]:
    return {key: base64.b64encode(b"garbage").decode() for key in ("ca.crt", "tls.crt", "tls.key")}


def _rsa() -> dict[str, str]:
    return {k: base64.b64encode(v).decode() for k, v in rsa_pair().items()}


@pytest.mark.parametrize("spoilt", [_garbage, _rsa, dict], ids=["garbage", "an RSA pair", "empty"])
def test_a_spoilt_authority_is_restored_without_a_failed_request(
    rotating: Installation, spoilt: Callable[[], dict[str, str]]
) -> None:
    """Each replica knows it; whoever looks first writes it back."""
    before = rotating.admin.get(SECRET)["data"]
    version = rotating.admin.get(SECRET)["metadata"]["resourceVersion"]

    with steady_load(rotating.plane, PER_SECOND) as outcome:
        patch = [{"op": "replace", "path": "/data", "value": spoilt()}]
        rotating.admin.patch(SECRET, patch, "json-patch+json")
        found = until(lambda: rotating.admin.get(SECRET), lambda now: now.get("data") == before)
        time.sleep(2)

    _judge(outcome)
    assert found["metadata"]["resourceVersion"] != version


def test_a_deleted_authority_is_replaced_and_no_longer_trusted(rotating: Installation) -> None:
    """That is how one is revoked: what it signed is refused, and admission is back by itself."""
    before = rotating.admin.get(SECRET)["data"]["tls.crt"]
    marks = [len(r.log) for r in rotating.replicas]

    rotating.admin.delete(SECRET)
    for replica, mark in zip(rotating.replicas, marks, strict=True):
        _wait_certificate(replica, mark)
    rotating.wait_called()

    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podpace"
    [webhook, *_] = rotating.admin.get(path)["webhooks"]
    assert rotating.admin.get(SECRET)["data"]["tls.crt"] != before
    trusted = base64.b64decode(webhook["clientConfig"]["caBundle"])
    assert base64.b64decode(before) not in trusted


REVIEW = b"""{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request":
  {"uid": "u", "operation": "CREATE", "namespace": "default", "object": {"metadata": {}}}}"""
