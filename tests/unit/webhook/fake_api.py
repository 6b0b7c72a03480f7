"""An API server in memory, as far as the webhook's loops use one."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from kube.errors import ApiError, ConflictError, NotFoundError
from kube.ports import JSON, Event, Json, Page
from tests.unit.webhook.patching import apply_patch


class FakeApi:
    """Objects by path; resource versions are a counter; ``fail`` makes the next calls fail."""

    def __init__(self, version: int = 0) -> None:
        self.objects: dict[str, Json] = {}
        self.posted: list[tuple[str, Json]] = []
        self.watches: list[list[Json | ApiError]] = []
        self.watched_from: list[str] = []
        self.fail: ApiError | None = None
        self._version = version

    def put(self, path: str, body: Json) -> Json:
        """Write without asking."""
        self._version += 1
        stored = copy.deepcopy(body)
        stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.objects[path] = stored
        return copy.deepcopy(stored)

    def get(self, path: str) -> Json:
        """See the Protocol."""
        self._maybe_fail()
        if path not in self.objects:
            raise NotFoundError(path, 404)
        return copy.deepcopy(self.objects[path])

    def create(self, path: str, body: Json) -> Json:
        """See the Protocol."""
        self._maybe_fail()
        self.posted.append((path, body))
        item = f"{path}/{body['metadata'].get('name', len(self.posted))}"
        if item in self.objects:
            raise ConflictError(item, 409)
        return self.put(item, body)

    def replace(self, path: str, body: Json) -> Json:
        """See the Protocol."""
        self._maybe_fail()
        wanted = body["metadata"]["resourceVersion"]
        if self.get(path)["metadata"]["resourceVersion"] != wanted:
            raise ConflictError(path, 409)
        return self.put(path, body)

    def delete(self, path: str) -> None:
        """See the Protocol."""
        self.get(path)
        del self.objects[path]

    def patch(self, path: str, body: Json, content_type: str) -> None:
        """See the Protocol; a merge patch."""
        self.put(path, self.get(path) | body)

    def json_patch(self, path: str, operations: Sequence[Json]) -> None:
        """See the Protocol; a status is part of its object."""
        path = path.removesuffix("/status")
        try:
            patched = apply_patch(self.get(path), list(operations))
        except AssertionError as e:
            raise ApiError(str(e), 422) from e
        self.put(path, patched)

    def list(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> list[Json]:
        """See the Protocol; every object below ``path``, in any namespace."""
        self._maybe_fail()
        kind = path.rpartition("/")[2]
        key, _, value = (query or {}).get("labelSelector", "").partition("=")
        return [
            copy.deepcopy(o)
            for p, o in self.objects.items()
            if p.split("/")[-2] == kind
            and (not key or (o["metadata"].get("labels") or {}).get(key) == value)
        ]

    def pages(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> Iterator[Page]:
        """See the Protocol; one."""
        found = self.list(path, query, accept)
        yield Page(tuple(msgspec.json.encode(o) for o in found), str(self._version))

    def watch(self, path: str, query: Mapping[str, str], accept: str = JSON) -> Iterator[Event]:
        """See the Protocol; plays the next of ``watches``, after what there is if so asked."""
        self._maybe_fail()
        if "sendInitialEvents" in query:
            for found in self.list(path, query):
                yield _event("ADDED", found)
            end = {"metadata": {"resourceVersion": str(self._version)}}
            yield replace(_event("BOOKMARK", end), complete=True)
        self.watched_from.append(query.get("resourceVersion", str(self._version)))
        for event in self.watches.pop(0) if self.watches else []:
            if isinstance(event, ApiError):
                raise event
            yield _event(event["type"], event["object"])

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


def _event(kind: str, body: Json) -> Event:
    version = body["metadata"]["resourceVersion"]
    return Event(kind, msgspec.json.encode(body), version)
