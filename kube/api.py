"""One API server's objects, as JSON: no typed models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from kube.credentials import Credentials
from kube.errors import ApiError, GoneError
from kube.http import Http
from kube.ports import JSON, MERGE_PATCH, Event, Json, Page

PAGE: Final = 500
"""Objects in one answer to a list; client-go's pagers ask for as many."""
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 15.0
WATCH_READ_SECONDS: Final = 90.0
"""Bookmarks come about once a minute; a watch without any is taken for dead."""
_GONE: Final = 410
_COMPLETE: Final = "k8s.io/initial-events-end"
T = TypeVar("T")


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Version(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Annotated(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct):
    metadata: _Annotated = msgspec.field(default_factory=_Annotated)


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class KubeApi:
    """Implements ``ports.Api``; safe for use by several threads."""

    def __init__(
        self,
        load: Callable[[], Credentials],
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        watch_read_seconds: float = WATCH_READ_SECONDS,
    ) -> None:
        """``load`` is called again when the credentials have expired. Raises what it raises."""
        self._http = Http(load, connect_seconds)
        self._read_seconds = read_seconds
        self._watch_read_seconds = watch_read_seconds

    def get(self, path: str) -> Json:
        """See ``ports.Api``."""
        return self._object("GET", path)

    def create(self, path: str, body: Json) -> Json:
        """See ``ports.Api``."""
        return self._object("POST", path, body)

    def replace(self, path: str, body: Json) -> Json:
        """See ``ports.Api``."""
        return self._object("PUT", path, body)

    def delete(self, path: str) -> None:
        """See ``ports.Api``."""
        self._request("DELETE", path)

    def patch(self, path: str, body: Json, content_type: str) -> None:
        """See ``ports.Api``."""
        self._request("PATCH", path, body, content_type=content_type)

    def merge(self, path: str, body: Json) -> Json:
        """A merge patch; the object as it is then."""
        return _decode(
            f"PATCH {path}",
            self._request("PATCH", path, body, content_type=MERGE_PATCH),
            dict[str, Any],
        )

    def json_patch(self, path: str, operations: Sequence[Json]) -> None:
        """See ``ports.Api``."""
        self._request("PATCH", path, operations, content_type="application/json-patch+json")

    def text(self, path: str, accept: str = "*/*") -> str:
        """What is no object: a pod's answer, through the proxy, or a table."""
        return self._request("GET", path, accept=accept).decode(errors="replace")

    def pages(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> Iterator[Page]:
        """See ``ports.Api``."""
        parameters = dict(query or {}) | {"limit": str(PAGE)}
        while True:
            url = f"{path}?{urlencode(parameters)}"
            page = _decode(f"GET {path}", self._request("GET", url, accept=accept), _List)
            # Copied out: a Raw would keep the whole answer in memory.
            items = tuple(bytes(item) for item in page.items or ())
            following = page.metadata.continue_
            yield Page(items, page.metadata.resource_version)
            if not following:
                return
            # A version belongs to the first page only; the others are of the same list.
            parameters.pop("resourceVersion", None)
            parameters["continue"] = following

    def list(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> list[Json]:
        """See ``ports.Api``."""
        pages = self.pages(path, query, accept)
        return [
            _decode(f"GET {path}", item, dict[str, Any]) for page in pages for item in page.items
        ]

    def watch(self, path: str, query: Mapping[str, str], accept: str = JSON) -> Iterator[Event]:
        """See ``ports.Api``."""
        url = f"{path}?{urlencode({**query, 'watch': 'true', 'allowWatchBookmarks': 'true'})}"
        headers = {"Accept": accept}
        for line in self._http.lines(url, headers, self._watch_read_seconds):
            yield _event(f"watch of {path}", line)

    def _object(self, method: str, path: str, body: object = None) -> Json:
        return _decode(f"{method} {path}", self._request(method, path, body), dict[str, Any])

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        headers = {"Accept": accept}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = msgspec.json.encode(body)
        return self._http.read(method, path, data, headers, self._read_seconds)


def _event(request: str, line: bytes) -> Event:
    found = _decode(request, line, _Line)
    if found.type == "ERROR":
        status = _decode(request, found.object, _Status)
        kind = GoneError if status.code == _GONE else ApiError
        raise kind(status.message[:300], status.code, request=request)
    version = _decode(request, found.object, _Version).metadata.resource_version
    complete = False
    if found.type == "BOOKMARK":
        annotations = _decode(request, found.object, _Bookmark).metadata.annotations
        complete = (annotations or {}).get(_COMPLETE) == "true"
    return Event(found.type, bytes(found.object), version, complete)


def _decode(request: str, data: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ApiError(f"the answer cannot be read: {error}", request=request) from error
