"""What loops need from the API server; ``api.KubeApi`` is the real one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

Json = dict[str, Any]

JSON: Final = "application/json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""An Accept header for lists: no specs, no statuses."""
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""The same for watches."""
MERGE_PATCH: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch."""

    type: str
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``."""
    body: bytes
    """The object, as JSON."""
    version: str
    """To go on from after this event."""
    complete: bool = False
    """A bookmark that says: everything that there was has been sent."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    items: tuple[bytes, ...]
    """Objects, as JSON."""
    version: str
    """To watch from, when this is the last page."""


class Api(Protocol):
    """Raises ``errors.ApiError`` and its children, nothing else. Paths are URL paths."""

    def get(self, path: str) -> Json:
        """Read one object."""
        ...

    def create(self, path: str, body: Json) -> Json:
        """Create an object in the collection ``path``."""
        ...

    def replace(self, path: str, body: Json) -> Json:
        """Write an object; its resourceVersion is the precondition."""
        ...

    def delete(self, path: str) -> None:
        """Delete one object."""
        ...

    def patch(self, path: str, body: Json, content_type: str) -> None:
        """Change one object."""
        ...

    def json_patch(self, path: str, operations: Sequence[Json]) -> None:
        """Apply a JSON Patch."""
        ...

    def pages(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> Iterator[Page]:
        """A list, read as it is asked for."""
        ...

    def list(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> list[Json]:
        """All items."""
        ...

    def watch(self, path: str, query: Mapping[str, str], accept: str = JSON) -> Iterator[Event]:
        """Events until the server ends the watch; a watch that is silent too long is an error."""
        ...
