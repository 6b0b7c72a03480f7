"""Certificates that an API server shows to aggregated APIs, and one that it would not."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import make_authority, utc_now

NAME: Final = "front-proxy-client"
"""The only one that is allowed."""


def write(folder: Path) -> None:
    """``ca.crt``; ``tls.crt`` and ``tls.key``; the same with another name: ``other.crt``."""
    folder.mkdir()
    authority = make_authority(utc_now())
    (folder / "ca.crt").write_bytes(authority.certificate)
    for file, name in (("tls", NAME), ("other", "somebody")):
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(authority.certificate)
        signer = serialization.load_pem_private_key(authority.key, None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(utc_now() - timedelta(hours=1))
            .not_valid_after(utc_now() + timedelta(days=2))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .sign(signer, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / f"{file}.crt").write_bytes(certificate.public_bytes(pem))
        (folder / f"{file}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
