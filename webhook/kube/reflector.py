"""Keeps a set of objects known: list, then watch from there, list again when that is too old."""

import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from webhook.errors import ApiError, GoneError
from webhook.kube.ports import Api, Json

_WATCH_SECONDS: Final = 300


class Sink(Protocol):
    """What is told."""

    def replace(self, objects: list[Json]) -> None:
        """All there is."""
        ...

    def put(self, changed: Json) -> None:
        """One object is new or changed."""
        ...

    def remove(self, removed: Json) -> None:
        """One object is gone."""
        ...


class Reflector:
    """:meth:`step` is one list or one watch; run it in a loop (see ``webhook.loops``)."""

    def __init__(
        self,
        api: Api,
        path: str,
        query: Mapping[str, str],
        sink: Sink,
        on_restart: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._path = path
        self._query = dict(query)
        self._sink = sink
        self._on_restart = on_restart
        self._version: str | None = None

    def step(self) -> float:
        """Returns the pause before the next step, in seconds: none.

        Raises:
            ApiError: the next step goes on from the last version seen, or lists again.
        """
        if self._version is None:
            objects, self._version = self._api.list(self._path, self._query)
            self._sink.replace(objects)
        # Spread, so that replicas do not come back all at once.
        seconds = _WATCH_SECONDS + random.randrange(_WATCH_SECONDS)  # noqa: S311
        query = self._query | {"resourceVersion": self._version, "timeoutSeconds": str(seconds)}
        try:
            for event in self._api.watch(self._path, query):
                self._take(event)
        except GoneError:
            self._version = None
            self._on_restart("expired")
        except ApiError:
            self._on_restart("error")
            raise
        return 0

    def _take(self, event: Json) -> None:
        changed = event["object"]
        self._version = changed["metadata"]["resourceVersion"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._sink.put(changed)
            case "DELETED":
                self._sink.remove(changed)
