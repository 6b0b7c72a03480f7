"""Where an API server is and who we are: a kubeconfig's context, or the pod we run in."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kube.errors import NoClusterError

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS: Final = 60.0
"""The kubelet renews a token's file long before the old one expires."""

Token = Callable[[], str | None]
"""The bearer token of now. Raises NoClusterError."""


@dataclass(frozen=True)
class Credentials:
    """One user of one API server."""

    server: str
    """``https://host:port``, without a slash at its end."""
    tls: ssl.SSLContext | None = None
    """None for plain HTTP."""
    token: Token = lambda: None
    basic: str | None = None
    """``Authorization`` of a user with a password."""
    impersonate: Mapping[str, str] = field(default_factory=dict)
    """``Impersonate-*`` headers."""
    tls_server_name: str | None = None
    """The name in the server's certificate, where it is not the host's."""
    proxy: str | None = None
    namespace: str = "default"
    """The context's."""
    impersonate_groups: tuple[str, ...] = ()
    """A header for each."""

    def headers(self) -> dict[str, str]:
        """What identifies us, for one request. Raises NoClusterError."""
        token = self.token()
        if token:
            return {"Authorization": f"Bearer {token}", **self.impersonate}
        if self.basic:
            return {"Authorization": self.basic, **self.impersonate}
        return dict(self.impersonate)


def load(kubeconfig: str | None = None) -> Credentials:
    """From a kubeconfig file, or from the service account of the pod we run in.

    Raises:
        NoClusterError: it is not usable.
    """
    if kubeconfig is None:
        return in_pod()
    # Imported only where it is wanted: a pod needs no YAML.
    from kube.kubeconfig import read

    return read((Path(kubeconfig),), None)


def in_pod(account: Path = _SERVICE_ACCOUNT) -> Credentials:
    """The service account of the pod we run in.

    Raises:
        NoClusterError: this is no pod, or one without a service account.
    """
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{k}") for k in ("HOST", "PORT"))
    if not host or not port:
        message = "no Kubernetes API: KUBERNETES_SERVICE_HOST is not set, so this is no pod"
        raise NoClusterError(message)
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    token = TokenFile(account / "token")
    token()
    return Credentials(
        server,
        tls_context(account / "ca.crt"),
        token,
        proxy=proxy_for(server),
        namespace=own_namespace(account) or "default",
    )


def own_namespace(account: Path = _SERVICE_ACCOUNT) -> str | None:
    """The namespace of the pod we run in; None outside a cluster."""
    try:
        return (account / "namespace").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


class TokenFile:
    """A token that is renewed in its file."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token = ""
        self._read_at = float("-inf")

    def __call__(self) -> str:
        """The token, read again once a minute. Raises NoClusterError when there never was one."""
        with self._lock:
            now = self._monotonic()
            if now - self._read_at >= _TOKEN_SECONDS:
                try:
                    self._token = self._path.read_text(encoding="utf-8").strip()
                    self._read_at = now
                except (OSError, ValueError) as error:
                    if not self._token:
                        message = f"no Kubernetes API: the token cannot be read: {error}"
                        raise NoClusterError(message) from error
            return self._token


def tls_context(
    ca_file: Path | None = None,
    *,
    ca_data: bytes | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """What the server's certificate is checked against; without any, the system's authorities.

    Raises:
        NoClusterError: the authorities cannot be read.
    """
    try:
        context = ssl.create_default_context(
            cafile=str(ca_file) if ca_file else None,
            cadata=ca_data.decode("ascii") if ca_data else None,
        )
    except (OSError, ValueError) as error:
        where = f" {ca_file}" if ca_file else ""
        message = f"no Kubernetes API: the certificate authority{where} cannot be read: {error}"
        raise NoClusterError(message) from error
    # Python 3.13 asks for extensions that clusters' authorities need not have; Go does not.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def proxy_for(server: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The proxy that the environment names for this server, read as Go's clients read it."""
    scheme, _, rest = server.partition("://")
    proxy = _variable(environment, f"{scheme}_proxy")
    if not proxy:
        return None
    from kube.proxies import bypasses

    if bypasses(rest.partition("/")[0], _variable(environment, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""
