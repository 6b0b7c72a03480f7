"""Before the API server's first start: keys, tokens and kubeconfigs, made once in a volume."""

import os
import secrets
import sys
from pathlib import Path
from typing import Final

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

USERS: Final = {
    "admin": ("admin", "system:masters"),
    "webhook": (
        "system:serviceaccount:podpace-system:podpace-webhook",
        "system:serviceaccounts,system:authenticated",
    ),
}


def kubeconfig(server: str, token: str, certificate: Path) -> str:
    """A kubeconfig for one token."""
    cluster = {"server": server, "certificate-authority": str(certificate)}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "dev",
            "clusters": [{"name": "dev", "cluster": cluster}],
            "users": [{"name": "dev", "user": {"token": token}}],
            "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "dev"}}],
        }
    )


def main(state: Path) -> None:
    """Nothing is made anew where it is already."""
    for folder in ("etcd", "certs"):
        (state / folder).mkdir(exist_ok=True)
    if (state / "tokens.csv").exists():
        return
    os.umask(0o077)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (state / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    lines = []
    for name, (user, groups) in USERS.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{name},"{groups}"\n')
        content = kubeconfig("https://kubernetes:6443", token, state / "certs/apiserver.crt")
        (state / f"{name}.kubeconfig").write_text(content)
    (state / "tokens.csv").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
