"""What Grafana's own schema has against a dashboard; the SDK is made from that schema."""

import enum
import json
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import panelcfg_config
from grafana_foundation_sdk.models.dashboard import Dashboard


def faults(document: dict[str, Any]) -> list[str]:
    """Fields that Grafana does not know, and values that a field cannot have, each with its path.

    Options of kinds of panels and of queries are looked at too. Not looked at are overrides, whose
    values the schema leaves open.
    """
    register_default_plugins()
    read = Dashboard.from_json(document)
    kept = json.loads(JSONEncoder().encode(read))
    return [
        *_unknown(document, kept, "$"),
        *_impossible(read, type(read), "$"),
        *_strange(document["panels"]),
    ]


def _strange(panels: list[dict[str, Any]]) -> Iterator[str]:
    """Of a kind that it does not know the SDK takes anything."""
    for panel in panels:
        if panel["type"] != "row" and panelcfg_config(panel["type"]) is None:
            yield f"{panel['title']}: there is no panel of kind {panel['type']!r}"


def _unknown(given: object, kept: object, path: str) -> Iterator[str]:
    """The SDK leaves out what it does not know."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from _unknown(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: no such field"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _unknown(one, other, f"{path}[{index}]")
    elif given != kept:
        yield f"{path}: {given!r} is read as {kept!r}"


def _impossible(value: object, hint: object, path: str) -> Iterator[str]:
    """The SDK takes any value; its annotations say which there are."""
    if isinstance(value, list):
        (of,) = get_args(_only(hint, list)) or (object,)
        for index, item in enumerate(value):
            yield from _impossible(item, of, f"{path}[{index}]")
    elif hasattr(value, "from_json"):
        for name, of in get_type_hints(type(value)).items():
            yield from _impossible(getattr(value, name), of, f"{path}.{name}")
    elif value is not None and not _fits(value, hint):
        yield f"{path}: {value!r} is not one of {hint}"


def _only(hint: object, kind: type) -> object:
    """Of a union, the part that is a ``kind``."""
    return next(
        (h for h in (hint, *get_args(hint)) if getattr(h, "__origin__", None) is kind), None
    )


def _fits(value: object, hint: object) -> bool:
    parts = get_args(hint) or (hint,)
    kinds = [part for part in parts if isinstance(part, type)]
    if len(kinds) < len(parts) or object in kinds:
        return True
    return any(
        value in {member.value for member in kind}
        if issubclass(kind, enum.Enum)
        else isinstance(value, (int, float) if kind is float else kind)
        for kind in kinds
        if kind is not type(None)
    )
