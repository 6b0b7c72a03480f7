"""The TLS context, loaded anew while it serves."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from certs.authority import KeyPair, expiry
from webhook.errors import CertificateError

log = structlog.stdlib.get_logger()


class LiveContext:
    """New handshakes get the newest certificate; open connections stay as they are."""

    def __init__(
        self, minimum: ssl.TLSVersion, on_expiry: Callable[[float], None] = lambda _: None
    ) -> None:
        self._minimum = minimum
        self.context = self._new_context()
        self.pair: KeyPair | None = None
        """What it serves with."""
        self.trust: bytes | None = None
        """What callers are to trust, PEM; None where somebody else tells them."""
        self._on_expiry = on_expiry

    def load(self, pair: KeyPair) -> None:
        """Serve with ``pair`` from the next handshake on.

        Raises:
            CertificateError: it cannot be used; the one before stays in use.
        """
        try:
            # A failed load ruins a context, so the first try is on one that nobody uses.
            _load(self._new_context(), pair)
            expires = expiry(pair.certificate)
        except (ssl.SSLError, ValueError, OSError) as e:
            message = f"certificate and key cannot be used: {e}; check that they belong together"
            raise CertificateError(message) from e
        _load(self.context, pair)
        self.pair = pair
        self._on_expiry(expires.timestamp())
        log.info("certificate loaded", expires=expires.isoformat())

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve with."""
        return self.pair is not None

    @staticmethod
    def load_into(context: ssl.SSLContext, pair: KeyPair) -> None:
        """Serve with a pair that was loaded here in another context, too."""
        _load(context, pair)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    # OpenSSL reads files only; this one is in memory, so the key never touches a disk.
    descriptor = os.memfd_create("podpace-leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pair.pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class CertificateFiles:
    """A certificate and key in files, as a Secret is mounted; loaded again when they change."""

    def __init__(self, live: LiveContext, certificate: Path, key: Path) -> None:
        self._live = live
        self._certificate = certificate
        self._key = key
        self._in_use: KeyPair | None = None

    def step(self) -> float:
        """Load when changed; returns the pause until the next look, in seconds.

        Raises:
            CertificateError: the files cannot be read or used; what was loaded stays in use.
        """
        try:
            # A certificate and a key of different age do not load, and are read again.
            pair = KeyPair(self._certificate.read_bytes(), self._key.read_bytes())
        except OSError as e:
            message = f"{e.filename}: {e.strerror}; give readable --tls-cert and --tls-key"
            raise CertificateError(message) from e
        if pair != self._in_use:
            self._live.load(pair)
            self._in_use = pair
        return 1.0
