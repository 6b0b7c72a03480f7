"""kubectl's connection flags, wherever they stand in the command line."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.errors import UsageError
from contract.arguments import as_kubectl
from kube.kubeconfig import Changes

HELP = (
    "As kubectl's, anywhere: --server, --cluster, --user, --token, --as, --as-group, --as-uid, "
    "--certificate-authority, --client-certificate, --client-key, --tls-server-name, "
    "--insecure-skip-tls-verify, --username, --password, --request-timeout."
)
_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Flags:
    """What of the command line is about the connection."""

    changes: Changes
    timeout_seconds: float | None = None
    """For one request; None is the default."""


def take(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """The flags, and the arguments that are left.

    Raises:
        UsageError: one of them has no value, or a wrong one.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("server", "cluster", "user", "token", "as", "as-uid", "username", "password"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--as-group", action="append", default=[])
    for name in ("certificate-authority", "client-certificate", "client-key"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--tls-server-name")
    parser.add_argument("--insecure-skip-tls-verify", nargs="?", const="true", default="false")
    parser.add_argument("--request-timeout", default="0")
    try:
        found, left = parser.parse_known_args(as_kubectl(arguments))
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    given = vars(found)
    changes = Changes(
        server=given["server"],
        cluster=given["cluster"],
        user=given["user"],
        token=given["token"],
        username=given["username"],
        password=given["password"],
        impersonate_user=given["as"],
        impersonate_uid=given["as_uid"],
        impersonate_groups=tuple(given["as_group"]),
        certificate_authority=given["certificate_authority"],
        client_certificate=given["client_certificate"],
        client_key=given["client_key"],
        tls_server_name=given["tls_server_name"],
        insecure=given["insecure_skip_tls_verify"] == "true" or None,
    )
    return Flags(changes, _seconds(given["request_timeout"])), left


def _seconds(text: str) -> float | None:
    """``5``, ``5s``, ``1m``; 0 is no timeout of one's own, as kubectl has it."""
    number = text.rstrip("hms")
    try:
        seconds = float(number) * _UNITS[text.removeprefix(number) or "s"]
    except (ValueError, KeyError):
        seconds = -1.0
    if seconds < 0:
        message = f'--request-timeout: "{text}" is no time; write one such as 5s'
        raise UsageError(message)
    return seconds or None
