"""The API server for the enforcer: of each answer only what is needed is kept in memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

import kube.transport
from enforcer.errors import ApiError, EnforcerError, ExpiredError
from enforcer.ports import JsonBody, WatchEvent
from kube.transport import WATCH_READ_SECONDS, Configuration, NoClusterError, Transport

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
    """Implements ``ports.Api``; safe for use by several threads."""

    def __init__(
        self, load: Callable[[], Configuration], watch_read_seconds: float = WATCH_READ_SECONDS
    ) -> None:
        """Raises what ``load`` raises."""
        self._transport = Transport(load, _error, watch_read_seconds)

    def list(self, path: str, query: Mapping[str, str]) -> tuple[list[bytes], str]:
        """See ``ports.Api``."""
        content = self._transport.request("GET", f"{path}?{urlencode(query)}")
        try:
            found = msgspec.json.decode(content, type=_List)
        except msgspec.MsgspecError as error:
            raise ApiError(f"list of {path}: {error}") from error
        # Copied out: a Raw would keep the whole answer in memory.
        return [bytes(item) for item in found.items or ()], found.metadata.resourceVersion

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[WatchEvent]:
        """See ``ports.Api``."""
        try:
            yield from map(_read_event, self._transport.watch(path, query))
        except msgspec.MsgspecError as error:
            raise ApiError(f"watch of {path}: {error}") from error

    def create(self, path: str, body: JsonBody) -> None:
        """See ``ports.Api``."""
        self._transport.request("POST", path, body)

    def patch(self, path: str, body: JsonBody, content_type: str) -> None:
        """See ``ports.Api``."""
        self._transport.request("PATCH", path, body, content_type=content_type)


def _read_event(line: bytes) -> WatchEvent:
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "ERROR":
        status = msgspec.json.decode(event.object, type=_Status)
        raise _error(f"watch: {status.code} {status.message}", status.code)
    version = msgspec.json.decode(event.object, type=_Meta).metadata.resourceVersion
    return WatchEvent(event.type, version, bytes(event.object))


def _error(message: str, status: int, retry_after_seconds: float = 0.0) -> ApiError:
    kind = ExpiredError if status == _GONE else ApiError
    return kind(message, status, retry_after_seconds)


def load_configuration(kubeconfig: str | None) -> Configuration:
    """See ``kube.transport``. Raises EnforcerError with what to do."""
    try:
        return kube.transport.load_configuration(kubeconfig)
    except NoClusterError as error:
        raise EnforcerError(f"{error}; give --kubeconfig, or leave out --node-name") from error
