"""Credentials from a command, as cloud providers' kubeconfigs have it (client.authentication)."""

import json
import os
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kube.errors import NoClusterError

_SECONDS: Final = 60
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
        command = [self._config["command"], *(self._config.get("args") or ())]
        extra = {e["name"]: e["value"] for e in self._config.get("env") or ()}
        spec: dict[str, Any] = {"interactive": False}
        if self._config.get("provideClusterInfo"):
            known = ("server", "tls-server-name", "certificate-authority-data")
            spec["cluster"] = {key: v for key in known if (v := self._cluster.get(key))}
        asked = {
            "apiVersion": self._config.get("apiVersion"),
            "kind": "ExecCredential",
            "spec": spec,
        }
        environment = os.environ | extra | {"KUBERNETES_EXEC_INFO": json.dumps(asked)}
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_SECONDS,
                check=True,
            )
            status: dict[str, Any] = json.loads(done.stdout)["status"]
        except FileNotFoundError as error:
            hint = self._config.get("installHint") or "install it, or use another user"
            raise NoClusterError(f"the kubeconfig needs {command[0]!r}: {hint}") from error
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            message = f"the kubeconfig's {command[0]!r} gave no credentials: {error}"
            raise NoClusterError(message) from error
        return status


def _expired(status: dict[str, Any]) -> bool:
    until = status.get("expirationTimestamp")
    return until is not None and datetime.fromisoformat(until) - _EARLY <= datetime.now(UTC)
