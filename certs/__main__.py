"""``python -m certs DIR HOST…``: a development authority and a leaf signed by it."""

from pathlib import Path
from typing import Annotated

import typer

from certs.authority import AUTHORITY_LIFETIME, issue_leaf, make_authority, utc_now


def make(
    directory: Annotated[Path, typer.Argument(help="Where the files go; made when absent.")],
    hosts: Annotated[
        list[str] | None, typer.Argument(help="Names and addresses of the server [localhost].")
    ] = None,
) -> None:
    """Write ca.crt, tls.crt and tls.key; for development only."""
    now = utc_now()
    authority = make_authority(now)
    leaf = issue_leaf(
        authority, hosts or ["localhost", "127.0.0.1", "::1"], now, AUTHORITY_LIFETIME
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.crt").write_bytes(authority.certificate)
    (directory / "tls.crt").write_bytes(leaf.certificate)
    key = directory / "tls.key"
    key.touch(mode=0o600)
    key.write_bytes(leaf.key)
    print(f"wrote ca.crt, tls.crt and tls.key to {directory}")


if __name__ == "__main__":
    typer.run(make)
