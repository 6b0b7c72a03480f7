"""JSON Patch (RFC 6902): the smallest list of operations between two maps of strings."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

Value = str | Mapping[str, Any] | list[Mapping[str, str]]


class Operation(Struct, omit_defaults=True):
    """One operation; ``add`` on a key of a map also replaces."""

    op: str
    path: str
    value: Value | UnsetType = UNSET


def escape(token: str) -> str:
    """One reference token of a JSON Pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def change_map(
    path: str,
    present: Mapping[str, str] | None,
    put: Mapping[str, str],
    drop: frozenset[str] = frozenset(),
) -> list[Operation]:
    """Operations after which ``put`` is in the map at ``path`` and none of ``drop`` is.

    All other keys stay untouched; a map that is absent is added only when there is something to
    put in.
    """
    if present is None:
        return [Operation("add", path, dict(put))] if put else []
    added = [
        Operation("add", f"{path}/{escape(key)}", value)
        for key, value in put.items()
        if present.get(key) != value
    ]
    removed = [
        Operation("remove", f"{path}/{escape(key)}")
        for key in present
        if key in drop and key not in put
    ]
    return removed + added
