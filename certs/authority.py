"""Certificate authorities and the leaves they sign. Pure, except for the random numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME: Final = timedelta(days=365)
LEAF_LIFETIME: Final = timedelta(days=7)
_CLOCK_SKEW: Final = timedelta(hours=1)
"""Clocks of nodes differ; a certificate is valid this much before it is made."""
_RENEW_BELOW: Final = 1 / 3


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes

    @property
    def pem(self) -> bytes:
        """Both in one, so that they cannot be mixed up."""
        return self.certificate + self.key


def make_authority(now: datetime, lifetime: timedelta = AUTHORITY_LIFETIME) -> KeyPair:
    """A new self-signed CA (ECDSA P-256) that can sign leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podpace webhook CA")])
    certificate = (
        _builder(name, name, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pair(certificate, key)


def issue_leaf(
    authority: KeyPair,
    hosts: Sequence[str],
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
) -> KeyPair:
    """A serving certificate for ``hosts`` (names or addresses); never outlives its authority."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        message = "the authority's key is not ECDSA; make the authority with make_authority"
        raise TypeError(message)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    until = min(lifetime, issuer.not_valid_after_utc - now)
    certificate = (
        _builder(name, issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return _key_pair(certificate, key)


def check_authority(authority: KeyPair, bundle: bytes) -> None:
    """Whether it can sign leaves that whoever trusts ``bundle`` accepts.

    Raises:
        ValueError: it cannot; the message says why.
    """
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key, None)
        trusted = x509.load_pem_x509_certificates(bundle)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as e:
        message = f"its certificate, key or bundle cannot be read: {e}"
        raise ValueError(message) from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        message = "its key is not ECDSA"
        raise ValueError(message)
    if key.public_key() != certificate.public_key():
        message = "its key is not the certificate's"
        raise ValueError(message)
    if not constraints.ca:
        message = "its certificate is no authority's"
        raise ValueError(message)
    if certificate not in trusted:
        message = "its certificate is not in the bundle"
        raise ValueError(message)


def expiry(certificate: bytes) -> datetime:
    """When the first certificate of a PEM expires.

    Raises:
        ValueError: it is not a certificate.
    """
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def needs_renewal(certificate: bytes, now: datetime) -> bool:
    """Whether less than a third of its life is left. Compares wall clocks, so suspend is seen."""
    parsed = x509.load_pem_x509_certificate(certificate)
    begin, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return (end - now) < (end - begin) * _RENEW_BELOW


def merge_bundles(now: datetime, *bundles: bytes) -> bytes:
    """All certificates of all bundles, each once, without the expired."""
    merged: dict[bytes, None] = {}
    for bundle in bundles:
        for certificate in x509.load_pem_x509_certificates(bundle) if bundle.strip() else ():
            if certificate.not_valid_after_utc > now:
                merged[certificate.public_bytes(serialization.Encoding.PEM)] = None
    return b"".join(merged)


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
