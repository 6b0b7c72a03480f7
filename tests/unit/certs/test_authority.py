"""Authorities and leaves, judged by OpenSSL where it matters."""

import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import (
    KeyPair,
    expiry,
    issue_leaf,
    make_authority,
    merge_bundles,
    needs_renewal,
    utc_now,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def handshake(folder: Path, server: KeyPair, trusted: bytes, host: str) -> str:
    """A real TLS handshake; the protocol's version, or why not."""
    pem = folder / "server.pem"
    pem.write_bytes(server.pem)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    calling = ssl.create_default_context(cadata=trusted.decode())
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with calling.wrap_socket(ours, server_hostname=host) as connection:
            return connection.version() or ""
    except ssl.SSLError as e:
        return str(e)
    finally:
        ours.close()
        thread.join()


def test_a_leaf_is_trusted_for_its_hosts_by_those_who_trust_its_authority(tmp_path: Path) -> None:
    """Names and addresses."""
    authority = make_authority(utc_now())
    leaf = issue_leaf(authority, ["podpace-webhook.x.svc", "127.0.0.1"], utc_now())

    for host in ("podpace-webhook.x.svc", "127.0.0.1"):
        assert handshake(tmp_path, leaf, authority.certificate, host) == "TLSv1.3"


@pytest.mark.parametrize("host", ["other.x.svc", "127.0.0.2"])
def test_a_leaf_is_refused_for_another_host(tmp_path: Path, host: str) -> None:
    """Only what it was issued for."""
    authority = make_authority(utc_now())
    leaf = issue_leaf(authority, ["podpace-webhook.x.svc", "127.0.0.1"], utc_now())

    assert "verify failed" in handshake(tmp_path, leaf, authority.certificate, host)


def test_a_leaf_is_refused_by_those_who_trust_another_authority(tmp_path: Path) -> None:
    """The same name does not help."""
    leaf = issue_leaf(make_authority(utc_now()), ["a"], utc_now())
    other = make_authority(utc_now())

    assert "verify failed" in handshake(tmp_path, leaf, other.certificate, "a")


def test_an_authority_can_sign_leaves_only() -> None:
    """A stolen leaf key signs nothing."""
    authority = x509.load_pem_x509_certificate(make_authority(NOW).certificate)
    leaf = x509.load_pem_x509_certificate(issue_leaf(make_authority(NOW), ["a"], NOW).certificate)

    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_leaf_never_outlives_its_authority() -> None:
    """Whatever life is asked for."""
    authority = make_authority(NOW, timedelta(days=2))

    leaf = issue_leaf(authority, ["a"], NOW, timedelta(days=30))

    assert expiry(leaf.certificate) == expiry(authority.certificate)


def test_renewal_is_due_when_less_than_a_third_of_its_life_is_left() -> None:
    """Not a moment earlier."""
    certificate = make_authority(NOW, timedelta(days=90)).certificate

    assert not needs_renewal(certificate, NOW + timedelta(days=59))
    assert needs_renewal(certificate, NOW + timedelta(days=61))


def test_a_bundle_holds_each_living_certificate_once() -> None:
    """Repeats and expired ones go."""
    first, second = make_authority(NOW), make_authority(NOW)
    expired = make_authority(NOW - timedelta(days=9), timedelta(days=1))

    bundle = merge_bundles(
        NOW, first.certificate, first.certificate + expired.certificate + second.certificate, b""
    )

    assert bundle == first.certificate + second.certificate


def test_the_command_makes_a_pair_that_works(tmp_path: Path) -> None:
    """``python -m certs``; the key is for its owner only."""
    subprocess.run([sys.executable, "-m", "certs", str(tmp_path / "d"), "dev.example"], check=True)
    folder = tmp_path / "d"
    pair = KeyPair((folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes())

    assert handshake(tmp_path, pair, (folder / "ca.crt").read_bytes(), "dev.example") == "TLSv1.3"
    assert (folder / "tls.key").stat().st_mode & 0o077 == 0
