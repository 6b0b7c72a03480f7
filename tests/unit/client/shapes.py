"""``python -m tests.unit.client.shapes`` writes what ``kubectl podpace … -o json`` prints."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from client.kube.explain import Explanation
from client.kube.nodes import Group
from client.kube.pods import PodLimits
from client.kube.refusals import Refusal
from client.top import Row

SCHEMA: Final = Path(__file__).parents[3] / "docs" / "user" / "kubectl.schema.json"
SHAPES: Final[dict[str, Any]] = {
    "list": tuple[PodLimits, ...],
    "show": PodLimits,
    "explain": Explanation | tuple[Refusal, ...],
    "set": tuple[PodLimits, ...],
    "top": tuple[Row, ...],
    "nodes": tuple[Group, ...],
}
"""By the command; msgspec makes the output of these classes, and the schema."""


def make() -> dict[str, Any]:
    """One schema, with the commands and all they share under ``$defs``."""
    found, shared = msgspec.json.schema_components(SHAPES.values(), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What kubectl podpace COMMAND -o json prints, by the command",
        "type": "object",
        "properties": dict(zip(SHAPES, found, strict=True)),
        "$defs": shared,
    }


def conforms(command: str, output: str) -> bool:
    """Whether a command's output has its shape: every field, of its type, and no other."""
    try:
        data = json.loads(output)
        read = msgspec.convert(data, SHAPES[command])
    except (ValueError, msgspec.ValidationError):
        return False
    return bool(json.loads(msgspec.json.encode(read)) == data)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(make(), indent=2) + "\n")
    print(f"wrote {SCHEMA}")
