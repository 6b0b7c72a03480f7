"""Requests to the API server through the official client's transport and credentials.

Bytes both ways: the client's typed models cost 20 times the processor time, and 23 MB of memory.
The exceptions of that client and of what is below it stop here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes.config
import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException

__all__ = ["Configuration", "NoClusterError", "Transport", "load_configuration"]

JSON: Final = "application/json"
_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 15.0
WATCH_READ_SECONDS: Final = 90.0
"""Bookmarks come about once a minute; a watch without any is taken for dead."""
_CHUNK_BYTES: Final = 65536
_UNAUTHORIZED: Final = 401
_TEXT_BYTES: Final = 300
_BROKEN: Final = (urllib3.exceptions.HTTPError, OSError)


class NoClusterError(Exception):
    """Neither address nor credentials of an API server."""


Fail = Callable[[str, int, float], Exception]
"""Makes the caller's exception of a message, the HTTP status (0 when there was no answer), and the
seconds that the server asks to wait at least."""


class Transport:
    """One API server; safe for use by several threads.

    ``load`` gives address and credentials. It is called again when the API server takes the
    credentials for expired; a service account's token is read again once a minute anyway.
    ``fail`` makes every exception that a request raises.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        fail: Fail,
        watch_read_seconds: float = WATCH_READ_SECONDS,
    ) -> None:
        """Raises what ``load`` raises."""
        self._load = load
        self._fail = fail
        self._watch_read_seconds = watch_read_seconds
        self._client: Any = _connect(load())

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        """The answer's body."""
        headers = {"Accept": accept, "Content-Type": content_type}
        response = self._open(method, path, body, headers, _READ_SECONDS)
        try:
            data: bytes = response.data
        except _BROKEN as error:
            raise self._fail(f"{method} {path}: {error}", 0, 0.0) from error
        return data

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Events, one JSON text each, until the server ends the watch."""
        parameters = dict(query) | {"watch": "1", "allowWatchBookmarks": "true"}
        headers = {"Accept": JSON}
        url = f"{path}?{urlencode(parameters)}"
        response = self._open("GET", url, None, headers, self._watch_read_seconds)
        try:
            rest = b""
            for chunk in response.stream(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except _BROKEN as error:
            raise self._fail(f"watch of {path}: {error}", 0, 0.0) from error
        finally:
            # Not released to the pool: there is a half-read answer on the connection.
            response.close()

    def _open(
        self, method: str, path: str, body: object, headers: dict[str, str], read_seconds: float
    ) -> Any:
        """An answer whose body is not read yet."""
        response = self._send(method, path, body, headers, read_seconds)
        if response.status == _UNAUTHORIZED:
            # Also read by other threads: a new client takes the old one's place in one assignment.
            self._client = _connect(self._load())
            response = self._send(method, path, body, headers, read_seconds)
        if response.status < 400:
            return response
        raise self._refusal(f"{method} {path}", response)

    def _send(
        self, method: str, path: str, body: object, headers: dict[str, str], read_seconds: float
    ) -> Any:
        client = self._client
        timeouts = (_CONNECT_SECONDS, read_seconds)
        try:
            request = client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            return client.call_api(*request, _request_timeout=timeouts).response
        except (*_BROKEN, ApiException, ConfigException) as error:
            raise self._fail(f"{method} {path}: {error}", 0, 0.0) from error

    def _refusal(self, request: str, response: Any) -> Exception:
        try:
            text = response.data[:_TEXT_BYTES].decode(errors="replace")
        except _BROKEN as error:
            text = str(error)
        after = response.headers.get("Retry-After") or ""
        seconds = float(after) if after.isdigit() else 0.0
        return self._fail(f"{request}: {response.status} {text}", response.status, seconds)


def _connect(configuration: Configuration) -> Any:
    configuration.keep_alive = True
    # The callers' loops do the retrying; a hidden retry would repeat a write.
    configuration.retries = False
    return ApiClient(configuration)


def load_configuration(kubeconfig: str | None) -> Configuration:
    """From a kubeconfig file, or from the service account of the pod we run in.

    Raises:
        NoClusterError: neither is usable.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
                kubeconfig, client_configuration=configuration
            )
        else:
            kubernetes.config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration
            )
    except (ConfigException, OSError) as error:
        raise NoClusterError(f"no Kubernetes API: {error}") from error
    return configuration
