"""Keeps a set of objects known: all there is, then each change; all again when that is too old."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Generic, Protocol, TypeVar

from kube.errors import ApiError, GoneError
from kube.ports import JSON, METADATA, METADATA_LIST, Api, Event

_WATCH_SECONDS: Final = 300
_SHORTEST_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner without an event is a fault: client-go's rule against hot loops."""
_NOT_STREAMED: Final = frozenset({400, 422})
"""What an API server answers that has no streaming lists (KEP-3157)."""

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """What is told. It runs in the list-watch's thread."""

    def replace(self, objects: Iterable[T_contra]) -> None:
        """All there is, read while it is iterated over; that raises ApiError when it breaks off."""
        ...

    def put(self, changed: T_contra) -> None:
        """One object is new or changed."""
        ...

    def remove(self, removed: T_contra) -> None:
        """One object is gone."""
        ...


class Observer:
    """What may be of interest beside the objects; nothing is, by default."""

    def progress(self) -> None:
        """Something came, if only a bookmark."""

    def restarted(self, reason: str) -> None:
        """A watch is over: ``ended``, ``expired`` or ``error``."""

    def unreadable(self, reason: str) -> None:
        """An object cannot be read and is left out: what is known of it stays."""


class ListWatch(Generic[T]):
    """:meth:`step` is one watch, with a list before it when none holds any more; run it in a loop.

    ``decode`` makes an object of JSON, or raises ValueError (msgspec's errors are).

    The first state is streamed where the API server can do that, so that neither side holds it as
    one. Elsewhere it is listed: with ``from_cache`` whatever the API server's cache holds, as one
    answer, for few objects and many clients; otherwise from etcd, page by page.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        query: Mapping[str, str],
        decode: Callable[[bytes], T],
        sink: Sink[T],
        *,
        observer: Observer | None = None,
        from_cache: bool = False,
        metadata_only: bool = False,
    ) -> None:
        self._api = api
        self._path = path
        self._query = dict(query)
        self._decode = decode
        self._sink = sink
        self._observer = observer or Observer()
        self._from_cache = {"resourceVersion": "0"} if from_cache else {}
        self._accept, self._accept_list = (
            (METADATA, METADATA_LIST) if metadata_only else (JSON, JSON)
        )
        self._streamed = True
        self._version: str | None = None
        self._came = False

    def step(self) -> None:
        """Returns when the watch is over.

        Raises:
            ApiError: the next step goes on from the last version seen, or begins anew.
        """
        started, self._came = time.monotonic(), False
        try:
            for event in self._begin() if self._version is None else self._from(self._version):
                self._take(event)
        except GoneError:
            self._version = None
            self._observer.restarted("expired")
        except ApiError:
            self._observer.restarted("error")
            raise
        else:
            self._observer.restarted("ended")
            if not self._came and time.monotonic() - started < _SHORTEST_WATCH_SECONDS:
                message = f"the watch of {self._path} ended at once, without an event"
                raise ApiError(message)

    def _begin(self) -> Iterator[Event]:
        """Tells the sink what there is; returns what comes after it."""
        if self._streamed:
            query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            events = self._watch(query | self._from_cache)
            try:
                self._sink.replace(self._initial(events))
            except ApiError as error:
                if error.status not in _NOT_STREAMED:
                    raise
                self._streamed = False
            else:
                return events
        self._sink.replace(self._listed())
        return self._from(self._version or "")

    def _from(self, version: str) -> Iterator[Event]:
        return self._watch({"resourceVersion": version})

    def _initial(self, events: Iterator[Event]) -> Iterator[T]:
        """The objects up to the bookmark that ends them."""
        for event in events:
            if event.complete:
                self._version = event.version
                return
            if event.type == "ADDED":
                yield from self._read(event.body)
        message = f"the watch of {self._path} ended before it had told everything"
        raise ApiError(message)

    def _listed(self) -> Iterator[T]:
        version = ""
        query = self._query | self._from_cache
        for page in self._api.pages(self._path, query, self._accept_list):
            self._observer.progress()
            version = page.version
            for item in page.items:
                yield from self._read(item)
        self._version = version

    def _watch(self, query: Mapping[str, str]) -> Iterator[Event]:
        # Spread, so that clients do not come back all at once.
        seconds = _WATCH_SECONDS + random.randrange(_WATCH_SECONDS)  # noqa: S311
        parameters = {**self._query, **query, "timeoutSeconds": str(seconds)}
        for event in self._api.watch(self._path, parameters, self._accept):
            self._came = True
            self._observer.progress()
            yield event

    def _take(self, event: Event) -> None:
        if event.version:
            self._version = event.version
        if event.type in ("ADDED", "MODIFIED", "DELETED"):
            tell = self._sink.remove if event.type == "DELETED" else self._sink.put
            for found in self._read(event.body):
                tell(found)

    def _read(self, body: bytes) -> Iterator[T]:
        """One object, or none when it cannot be read."""
        try:
            yield self._decode(body)
        except ValueError as error:
            self._observer.unreadable(str(error)[:300])
