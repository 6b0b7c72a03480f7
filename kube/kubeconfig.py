"""kubeconfig files, read as kubectl reads them."""

import base64
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from kube.credentials import Credentials, Token, TokenFile, proxy_for, tls_context
from kube.errors import NoClusterError

_LISTS: Final = ("clusters", "contexts", "users")
_DEFAULT: Final = Path("~/.kube/config")
_PATHS: Final = frozenset(
    ("certificate-authority", "client-certificate", "client-key", "tokenFile")
)
"""Relative to the file they are written in."""

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """What kubectl's flags put in place of what the files say; None leaves it."""

    server: str | None = None
    cluster: str | None = None
    """The name of another cluster of the files."""
    user: str | None = None
    """The name of another user of the files."""
    token: str | None = None
    username: str | None = None
    password: str | None = None
    impersonate_user: str | None = None
    impersonate_uid: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    certificate_authority: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    tls_server_name: str | None = None
    insecure: bool | None = None

    def of_cluster(self) -> Entry:
        """In the words of a kubeconfig."""
        found = {
            "server": self.server,
            "certificate-authority": self.certificate_authority and str(self.certificate_authority),
            "tls-server-name": self.tls_server_name,
            "insecure-skip-tls-verify": self.insecure,
        }
        # A file in place of what is written out.
        without = {"certificate-authority-data": None} if self.certificate_authority else {}
        return without | {k: v for k, v in found.items() if v is not None}

    def of_user(self) -> Entry:
        """In the words of a kubeconfig. Who names himself is not whom the file names."""
        found = {
            "token": self.token,
            "username": self.username,
            "password": self.password,
            "as": self.impersonate_user,
            "as-uid": self.impersonate_uid,
            "as-groups": list(self.impersonate_groups) or None,
            "client-certificate": self.client_certificate and str(self.client_certificate),
            "client-key": self.client_key and str(self.client_key),
        }
        without: Entry = {}
        if self.token or self.username:
            without = dict.fromkeys(("exec", "token", "tokenFile", "username", "password"))
        if self.client_certificate:
            without |= {"client-certificate-data": None, "client-key-data": None}
        return without | {k: v for k, v in found.items() if v is not None}


def default_files() -> tuple[Path, ...]:
    """``KUBECONFIG``, or ``~/.kube/config``."""
    listed = [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    return tuple(Path(p) for p in listed) or (_DEFAULT.expanduser(),)


def read(
    files: Sequence[Path],
    context: str | None,
    *,
    may_be_missing: bool = False,
    changes: Changes | None = None,
) -> Credentials:
    """The user and cluster of ``context``, or of the current one.

    Of several files the first that says something is right; with ``may_be_missing`` those that do
    not exist are passed over.

    Raises:
        NoClusterError: a file, the context, or something in it cannot be used.
    """
    merged = _merge([(f, c) for f in files if (c := _load(f, may_be_missing)) is not None])
    names = ", ".join(map(str, files))
    name = context or merged["current-context"]
    changes = changes or Changes()
    if not name and changes.server:
        merged["contexts"][name] = {}
    elif not name:
        raise NoClusterError(f"no current-context in {names}")
    if name not in merged["contexts"]:
        known = ", ".join(sorted(merged["contexts"])) or "none"
        raise NoClusterError(f"no context {name!r} in {names}; it has: {known}")
    chosen = merged["contexts"][name]
    for kind, named in (("clusters", changes.cluster), ("users", changes.user)):
        if named and named not in merged[kind]:
            known = ", ".join(sorted(merged[kind])) or "none"
            raise NoClusterError(f"no {kind[:-1]} {named!r} in {names}; it has: {known}")
    cluster = merged["clusters"].get(changes.cluster or chosen.get("cluster"), {})
    cluster = cluster | changes.of_cluster()
    if not cluster.get("server"):
        message = f"context {name!r} in {names} names no cluster with a server"
        raise NoClusterError(message)
    user = merged["users"].get(changes.user or chosen.get("user"), {}) | changes.of_user()
    try:
        return _credentials(cluster, user, str(chosen.get("namespace") or "default"))
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise NoClusterError(f"context {name!r} in {names}: {error}") from error


def _load(path: Path, may_be_missing: bool) -> Entry | None:
    try:
        content = yaml.safe_load(path.read_bytes())
    except FileNotFoundError as error:
        if may_be_missing:
            return None
        raise NoClusterError(f"no kubeconfig {path}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise NoClusterError(f"kubeconfig {path} cannot be read: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise NoClusterError(f"kubeconfig {path} cannot be read: it is not a mapping")
    return content


def _merge(files: Sequence[tuple[Path, Entry]]) -> dict[str, Any]:
    merged: dict[str, Any] = {key: {} for key in _LISTS} | {"current-context": ""}
    for path, content in files:
        merged["current-context"] = merged["current-context"] or content.get("current-context")
        for key in _LISTS:
            for entry in content.get(key) or ():
                inner = entry.get(key[:-1]) if isinstance(entry, dict) else None
                if isinstance(inner, dict):
                    merged[key].setdefault(entry.get("name"), _absolute(inner, path.parent))
    return merged


def _absolute(entry: Entry, folder: Path) -> Entry:
    changed: Entry = {k: str(folder / v) for k, v in entry.items() if k in _PATHS and v}
    plugin = entry.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command")):
        changed["exec"] = plugin | {"command": str(folder / plugin["command"])}
    return entry | changed


def _credentials(cluster: Entry, user: Entry, namespace: str) -> Credentials:
    if "auth-provider" in user:
        message = "auth-provider is no longer known; use an exec plugin"
        raise ValueError(message)
    server = str(cluster["server"]).rstrip("/")
    server = server if "://" in server else f"http://{server}"
    tls = _tls(cluster) if server.startswith("https:") else None
    plugin = None
    if user.get("exec"):
        from kube.exec_plugin import ExecPlugin

        plugin = ExecPlugin(user["exec"], cluster)
    if tls is not None:
        _load_client_certificate(tls, _pair(user) or (plugin.certificate() if plugin else None))
    return Credentials(
        server,
        tls,
        _token(user) or (plugin.token if plugin else lambda: None),
        _basic(user),
        _impersonation(user),
        cluster.get("tls-server-name") or None,
        cluster.get("proxy-url") or proxy_for(server),
        namespace,
        tuple(map(str, user.get("as-groups") or ())),
    )


def _tls(cluster: Entry) -> ssl.SSLContext:
    data = cluster.get("certificate-authority-data")
    file = cluster.get("certificate-authority")
    return tls_context(
        Path(file) if file and not data else None,
        ca_data=base64.b64decode(data) if data else None,
        verify=not cluster.get("insecure-skip-tls-verify"),
    )


def _pair(user: Entry) -> bytes | None:
    """Certificate and key, PEM."""
    parts = []
    for key in ("client-certificate", "client-key"):
        if user.get(f"{key}-data"):
            parts.append(base64.b64decode(user[f"{key}-data"]))
        elif user.get(key):
            parts.append(Path(user[key]).read_bytes())
    return b"\n".join(parts) if len(parts) == 2 else None


def _load_client_certificate(context: ssl.SSLContext, pair: bytes | None) -> None:
    """OpenSSL reads files only; this one is never on a disk where that can be helped."""
    if pair is None:
        return
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="podpace-", delete=False) as file:
        try:
            file.write(pair)
            file.close()
            context.load_cert_chain(file.name)
        finally:
            Path(file.name).unlink()


def _token(user: Entry) -> Token | None:
    if user.get("token"):
        token = str(user["token"])
        return lambda: token
    return TokenFile(Path(user["tokenFile"])) if user.get("tokenFile") else None


def _basic(user: Entry) -> str | None:
    if not user.get("username"):
        return None
    pair = f"{user['username']}:{user.get('password') or ''}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _impersonation(user: Entry) -> Mapping[str, str]:
    headers = {"Impersonate-User": user.get("as"), "Impersonate-Uid": user.get("as-uid")}
    if user.get("as-user-extra"):
        message = "as-user-extra is not supported; use as and as-groups"
        raise ValueError(message)
    return {key: str(value) for key, value in headers.items() if value}
