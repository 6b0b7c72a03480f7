"""Reads from the API server as the user; the Kubernetes client's exceptions stop here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes.config
import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException

from client.errors import ClientError, UnreachableError, UsageError

Json = dict[str, Any]
_TIMEOUTS: Final = (5.0, 30.0)
"""Seconds to connect and between bytes."""
_PAGE: Final = 500
_FORBIDDEN: Final = 403
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404


class NotFoundError(ClientError):
    """There is no such object."""


class Cluster:
    """One cluster, with one user's credentials. Methods raise ``ClientError``."""

    def __init__(self, configuration: Configuration, namespace: str = "default") -> None:
        configuration.retries = 1
        self._client: Any = ApiClient(configuration)
        self._host = configuration.host
        self.namespace = namespace
        """The context's."""

    def get(self, path: str) -> Json:
        """One object."""
        content: Json = json.loads(self._read(path))
        return content

    def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """All items, page by page."""
        items: list[Json] = []
        parameters = dict(query or {}) | {"limit": str(_PAGE)}
        while True:
            page = json.loads(self._read(f"{path}?{urlencode(parameters)}"))
            items += page.get("items") or []
            if not page["metadata"].get("continue"):
                return items
            parameters["continue"] = page["metadata"]["continue"]

    def text(self, path: str) -> str:
        """What is not JSON: a pod's answer, through the proxy."""
        return self._read(path, "*/*").decode(errors="replace")

    def _read(self, path: str, accept: str = "application/json") -> bytes:
        try:
            request = self._client.param_serialize(
                "GET", path, header_params={"Accept": accept}, auth_settings=["BearerToken"]
            )
            response = self._client.call_api(*request, _request_timeout=_TIMEOUTS).response
            data: bytes = response.data
            status: int = response.status
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise UnreachableError(
                f"the API server at {self._host} does not answer ({_innermost(error)}); "
                "see whether kubectl get pods works"
            ) from error
        if status < 400:
            return data
        raise _refusal(status, path, data)


def _refusal(status: int, path: str, data: bytes) -> ClientError:
    text = _message(data)
    if status == _NOT_FOUND:
        return NotFoundError(text)
    if status == _UNAUTHORIZED:
        return ClientError("the API server does not know you; see: kubectl auth whoami")
    if status == _FORBIDDEN:
        return ClientError(f"{text}; docs/user/kubectl.md lists the rights that are needed")
    return ClientError(f"{path.partition('?')[0]}: HTTP status {status}: {text}")


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace").strip()


def _innermost(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return _innermost(reason) if isinstance(reason, BaseException) else str(error)


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """As kubectl finds its cluster: the file, ``KUBECONFIG``, ``~/.kube/config``, or a pod's own.

    Raises:
        UsageError: nothing of that is usable.
    """
    configuration = Configuration()
    file = None if kubeconfig is None else str(kubeconfig)
    try:
        kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
            file, context=context, client_configuration=configuration
        )
        contexts, active = kubernetes.config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        if file is None and context is None and _in_pod(configuration):
            return Cluster(configuration)
        raise UsageError(f"no cluster: {error}; give --kubeconfig or --context") from error
    chosen = active if context is None else next(c for c in contexts if c["name"] == context)
    return Cluster(configuration, chosen["context"].get("namespace") or "default")


def _in_pod(configuration: Configuration) -> bool:
    try:
        kubernetes.config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    except ConfigException:
        return False
    return True
