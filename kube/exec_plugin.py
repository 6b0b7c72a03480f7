"""Credentials from a command, as cloud providers' kubeconfigs have it (client.authentication).

The official client speaks that protocol. It costs 18 MB, so it is imported here alone, for a user
who logs in by a command: ``docs/design/0006-kubernetes.md``.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kube.errors import NoClusterError

_EARLY: Final = timedelta(seconds=30)
"""A token that is about to expire is fetched anew."""


class ExecPlugin:
    """Runs the command when its last answer has expired."""

    def __init__(self, config: dict[str, Any], cluster: dict[str, Any]) -> None:
        self._config = config
        self._cluster = cluster
        self._lock = threading.Lock()
        self._status: dict[str, Any] | None = None

    def token(self) -> str | None:
        """The bearer token. Raises NoClusterError."""
        return self._current().get("token")

    def certificate(self) -> bytes | None:
        """Certificate and key, PEM, where the command gives such. Raises NoClusterError."""
        status = self._current()
        parts = [status.get("clientCertificateData"), status.get("clientKeyData")]
        return "\n".join(map(str, parts)).encode() if all(parts) else None

    def _current(self) -> dict[str, Any]:
        with self._lock:
            if self._status is None or _expired(self._status):
                self._status = self._run()
            return self._status

    def _run(self) -> dict[str, Any]:
        try:
            from kubernetes.config import ConfigException
            from kubernetes.config.exec_provider import ExecProvider
            from kubernetes.config.kube_config import ConfigNode
        except ImportError as error:
            message = "a kubeconfig whose user logs in by a command needs: pip install kubernetes"
            raise NoClusterError(message) from error
        user, cluster = ConfigNode("exec", self._config), ConfigNode("cluster", self._cluster)
        try:
            status = ExecProvider(user, None, cluster).run()
        except FileNotFoundError as error:
            hint = self._config.get("installHint") or "install it, or use another user"
            raise NoClusterError(f"the kubeconfig needs {self._name!r}: {hint}") from error
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            message = f"the kubeconfig's {self._name!r} gave no credentials: {error}"
            raise NoClusterError(message) from error
        if not isinstance(status, dict):
            raise NoClusterError(f"the kubeconfig's {self._name!r} gave no credentials")
        return status

    @property
    def _name(self) -> str:
        return str(self._config.get("command"))


def _expired(status: dict[str, Any]) -> bool:
    until = status.get("expirationTimestamp")
    return until is not None and datetime.fromisoformat(until) - _EARLY <= datetime.now(UTC)
