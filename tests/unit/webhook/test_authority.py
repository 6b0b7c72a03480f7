"""The authority that replicas share in a Secret, and where its bundle is published."""

import base64
from datetime import timedelta

import pytest

from certs.rotation import from_secret_data
from contract import names
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from webhook.errors import CertificateError
from webhook.kube.authority import KINDS, SECRET, SharedAuthority, publish_bundle

RELEASE = "podpace-system"


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
