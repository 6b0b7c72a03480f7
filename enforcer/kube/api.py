"""Requests to the API server through the official client's transport and credentials.

Raw JSON both ways: its typed models cost 20 times the processor time, and 23 MB on every node.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes.config
import msgspec
import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException

from enforcer.errors import ApiError, EnforcerError, ExpiredError
from enforcer.ports import JsonBody, WatchEvent

_CONNECT_SECONDS: Final = 3.0
_READ_SECONDS: Final = 15.0
WATCH_READ_SECONDS: Final = 90.0
"""Bookmarks come about once a minute; a watch without any is taken for dead."""
_CHUNK_BYTES: Final = 65536
_UNAUTHORIZED: Final = 401
_GONE: Final = 410


class _Metadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - the API's spelling


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Meta(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class KubeApi:
    """Implements ``ports.Api``; safe for use by several threads.

    ``load`` gives address and credentials. It is called again when the API server takes the
    credentials for expired; the service account's token is read again once a minute anyway.
    """

    def __init__(
        self, load: Callable[[], Configuration], watch_read_seconds: float = WATCH_READ_SECONDS
    ) -> None:
        """Raises what ``load`` raises."""
        self._load = load
        self._watch_read_seconds = watch_read_seconds
        self._client: Any = _connect(load())

    def list(self, path: str, query: Mapping[str, str]) -> tuple[list[bytes], str]:
        """See ``ports.Api``."""
        response = self._open("GET", f"{path}?{urlencode(query)}")
        try:
            found = msgspec.json.decode(response.data, type=_List)
        except (urllib3.exceptions.HTTPError, OSError, msgspec.MsgspecError) as error:
            raise ApiError(f"list of {path}: {error}") from error
        # Copied out: a Raw would keep the whole answer in memory.
        return [bytes(item) for item in found.items or ()], found.metadata.resourceVersion

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[WatchEvent]:
        """See ``ports.Api``."""
        parameters = dict(query) | {"watch": "1", "allowWatchBookmarks": "true"}
        response = self._open(
            "GET", f"{path}?{urlencode(parameters)}", read_seconds=self._watch_read_seconds
        )
        try:
            rest = b""
            for chunk in response.stream(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield _read_event(line)
        except (urllib3.exceptions.HTTPError, OSError, msgspec.MsgspecError) as error:
            raise ApiError(f"watch of {path}: {error}") from error
        finally:
            # Not released to the pool: there is a half-read answer on the connection.
            response.close()

    def create(self, path: str, body: JsonBody) -> None:
        """See ``ports.Api``."""
        self._send("POST", path, body, "application/json")

    def patch(self, path: str, body: JsonBody, content_type: str) -> None:
        """See ``ports.Api``."""
        self._send("PATCH", path, body, content_type)

    def _send(self, method: str, path: str, body: JsonBody, content_type: str) -> None:
        response = self._open(method, path, body, content_type)
        try:
            response.drain_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(f"{method} {path}: {error}") from error

    def _open(
        self,
        method: str,
        path: str,
        body: JsonBody | None = None,
        content_type: str = "application/json",
        read_seconds: float = _READ_SECONDS,
    ) -> Any:
        try:
            return self._open_once(method, path, body, content_type, read_seconds)
        except ApiError as error:
            if error.status != _UNAUTHORIZED:
                raise
        # Also read by other threads: a new client takes the old one's place in one assignment.
        self._client = _connect(self._load())
        return self._open_once(method, path, body, content_type, read_seconds)

    def _open_once(
        self, method: str, path: str, body: JsonBody | None, content_type: str, read_seconds: float
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        client = self._client
        try:
            request = client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            timeouts = (_CONNECT_SECONDS, read_seconds)
            response = client.call_api(*request, _request_timeout=timeouts).response
            if response.status < 400:
                return response
            text = response.data[:300].decode(errors="replace")
        except (urllib3.exceptions.HTTPError, ApiException, ConfigException, OSError) as error:
            raise ApiError(f"{method} {path}: {error}") from error
        message = f"{method} {path}: {response.status} {text}"
        raise _error(response.status, message, response.headers.get("Retry-After"))


def _read_event(line: bytes) -> WatchEvent:
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "ERROR":
        status = msgspec.json.decode(event.object, type=_Status)
        raise _error(status.code, f"watch: {status.code} {status.message}", None)
    version = msgspec.json.decode(event.object, type=_Meta).metadata.resourceVersion
    return WatchEvent(event.type, version, bytes(event.object))


def _error(status: int, message: str, retry_after: str | None) -> ApiError:
    if status == _GONE:
        return ExpiredError(message, status)
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    return ApiError(message, status, seconds)


def _connect(configuration: Configuration) -> Any:
    configuration.keep_alive = True
    # Our loops do the retrying; a hidden retry would repeat a write.
    configuration.retries = False
    return ApiClient(configuration)


def load_configuration(kubeconfig: str | None) -> Configuration:
    """From a kubeconfig file, or from the service account of the pod we run in.

    Raises EnforcerError when neither is usable.
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
        raise EnforcerError(
            f"no Kubernetes API: {error}; give --kubeconfig, or leave out --node-name"
        ) from error
    return configuration
