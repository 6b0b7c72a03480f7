"""The TLS context while it serves: real handshakes."""

import ssl
from pathlib import Path

import pytest

from certs.authority import KeyPair, issue_leaf, make_authority, utc_now
from webhook.errors import CertificateError
from webhook.tls import CertificateFiles, LiveContext


def presented(live: LiveContext, trusted: bytes) -> str:
    """Serial number of the certificate that a new client is shown, in memory."""
    client = ssl.create_default_context(cadata=trusted.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = client.wrap_bio(to_client, to_server, server_hostname="w")
    serving = live.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (calling, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = calling.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    """A CA."""
    return make_authority(utc_now())


def leaf(authority: KeyPair) -> KeyPair:
    """A fresh leaf."""
    return issue_leaf(authority, ["w"], utc_now())


def test_a_new_certificate_is_shown_to_new_handshakes(authority: KeyPair) -> None:
    """Without a new context."""
    expiries: list[float] = []
    live = LiveContext(ssl.TLSVersion.TLSv1_3, expiries.append)
    live.load(leaf(authority))
    before = presented(live, authority.certificate)

    live.load(leaf(authority))

    assert presented(live, authority.certificate) != before
    assert len(expiries) == 2


@pytest.mark.parametrize("what", ["mismatch", "rubbish", "empty"])
def test_a_bad_certificate_leaves_the_good_one_in_use(authority: KeyPair, what: str) -> None:
    """A failed load must not ruin the context that serves."""
    live = LiveContext(ssl.TLSVersion.TLSv1_3)
    live.load(leaf(authority))
    before = presented(live, authority.certificate)
    bad = {
        "mismatch": KeyPair(leaf(authority).certificate, leaf(authority).key),
        "rubbish": KeyPair(b"x", b"y"),
        "empty": KeyPair(b"", b""),
    }[what]

    with pytest.raises(CertificateError, match="cannot be used"):
        live.load(bad)

    assert presented(live, authority.certificate) == before


def test_a_client_below_the_minimum_is_refused(authority: KeyPair) -> None:
    """TLS 1.3 is the default."""
    live = LiveContext(ssl.TLSVersion.TLSv1_3)
    live.load(leaf(authority))

    assert live.context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_files_are_loaded_again_when_they_change(authority: KeyPair, tmp_path: Path) -> None:
    """As a mounted Secret changes; a half-changed pair is told and read again."""
    live = LiveContext(ssl.TLSVersion.TLSv1_3)
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    files = CertificateFiles(live, certificate, key)
    first, second = leaf(authority), leaf(authority)
    certificate.write_bytes(first.certificate)
    key.write_bytes(first.key)
    files.step()
    before = presented(live, authority.certificate)

    certificate.write_bytes(second.certificate)
    with pytest.raises(CertificateError):
        files.step()
    between = presented(live, authority.certificate)
    key.write_bytes(second.key)
    files.step()

    assert between == before
    assert presented(live, authority.certificate) != before


def test_missing_files_are_named(tmp_path: Path) -> None:
    """With the option to give."""
    files = CertificateFiles(LiveContext(ssl.TLSVersion.TLSv1_3), tmp_path / "c", tmp_path / "k")

    with pytest.raises(CertificateError, match="--tls-cert"):
        files.step()
