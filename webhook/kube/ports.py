"""What the loops need from the API server; ``api.KubeApi`` is the real one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

Json = dict[str, Any]

METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""An Accept header for lists: no specs, no statuses."""


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

    def json_patch(self, path: str, operations: Sequence[Json]) -> Json:
        """Apply a JSON Patch."""
        ...

    def list(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> tuple[list[Json], str]:
        """All items, page by page, and the resource version to watch from."""
        ...

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        """Events until the server ends the watch; a watch that is silent too long is an error."""
        ...
