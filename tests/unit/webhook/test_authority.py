"""The authority that replicas share in a Secret, and where its bundle is published."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from certs.rotation import AuthorityState, first_state, from_secret_data, to_secret_data
from contract import names
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
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


PATH = f"/api/v1/namespaces/{RELEASE}/secrets/{SECRET}"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def rsa_pair() -> dict[str, bytes]:
    """What a company's own authority may look like."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "company")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {"tls.crt": certificate, "tls.key": pem, "ca.crt": certificate}


def good() -> dict[str, bytes]:
    """What is there usually."""
    return to_secret_data(first_state(NOW))


SPOILT = {
    "garbage": {"a": b"b"},
    "a bundle that is none": good() | {"ca.crt": b"garbage"},
    "no bundle": {k: v for k, v in good().items() if k != "ca.crt"},
    "another bundle": good() | {"ca.crt": good()["ca.crt"]},
    "half a key": good() | {"tls.key": good()["tls.key"][:100]},
    "another key": good() | {"tls.key": good()["tls.key"]},
    "an RSA pair": rsa_pair(),
    "a successor that is none": good() | {"next.json": b"{}"},
    "nothing": {},
}


def write(api: FakeApi, data: dict[str, bytes], uid: str = "1") -> None:
    """As somebody with kubectl."""
    body: Json = {"metadata": {"uid": uid}}
    if data:
        body["data"] = {k: base64.b64encode(v).decode() for k, v in data.items()}
    api.put(PATH, body)


def stored(api: FakeApi) -> AuthorityState:
    """What the Secret holds now."""
    data = api.get(PATH)["data"]
    return from_secret_data({k: base64.b64decode(v) for k, v in data.items()})


def shared(api: FakeApi) -> SharedAuthority:
    """A replica's."""
    return SharedAuthority(api, RELEASE, now=lambda: NOW)


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT)
def test_a_spoilt_secret_is_restored_from_memory(api: FakeApi, data: dict[str, bytes]) -> None:
    """Whoever trusted the authority goes on to."""
    write(api, {})
    replica = shared(api)
    before = replica.current()
    write(api, data)

    assert replica.current() == before
    assert stored(api) == before


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT)
def test_a_replica_that_starts_with_a_spoilt_secret_makes_a_new_one(
    api: FakeApi, data: dict[str, bytes]
) -> None:
    """It knows nothing better, and without one it would never be ready."""
    write(api, data)

    assert shared(api).current() == stored(api)


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_deleted_secret_is_never_restored(api: FakeApi, made_anew: bool) -> None:
    """That is how a stolen authority is revoked, also where somebody makes the object anew."""
    write(api, {})
    first, second = shared(api), shared(api)
    before = first.current()
    assert second.current() == before
    api.delete(PATH)
    if made_anew:
        write(api, {}, uid="2")

    after = first.current()

    assert after.signer != before.signer
    assert before.signer.certificate not in after.bundle
    assert second.current() == after


def test_a_secret_that_was_restored_is_not_taken_for_another(api: FakeApi) -> None:
    """A second accident is repaired like the first."""
    write(api, {})
    replica = shared(api)
    before = replica.current()
    for _ in range(2):
        write(api, {"a": b"b"})
        assert replica.current() == before


def test_the_bundle_is_published_in_every_webhook_and_then_left_alone(api: FakeApi) -> None:
    """A second time nothing is written; a missing configuration is no error."""
    path = f"/apis/admissionregistration.k8s.io/v1/{KINDS[0]}/podpace"
    webhooks = [{"clientConfig": {}}, {"clientConfig": {"caBundle": "b2xk"}}]
    api.put(path, {"metadata": {}, "webhooks": webhooks})

    changed = publish_bundle(api, "podpace", b"new"), publish_bundle(api, "podpace", b"new")

    assert changed == (1, 0)
    assert [w["clientConfig"]["caBundle"] for w in api.get(path)["webhooks"]] == ["bmV3"] * 2
