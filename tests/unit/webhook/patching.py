"""JSON Patch applied the strict way: what the API server would refuse fails here, too."""

import copy
from typing import Any


def apply_patch(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """``add``, ``remove`` and ``test`` of RFC 6902, as far as the webhook uses them."""
    result = copy.deepcopy(document)
    for operation in patch:
        *parents, last = [
            t.replace("~1", "/").replace("~0", "~") for t in operation["path"].split("/")[1:]
        ]
        target: Any = result
        for token in parents:
            target = target[int(token) if isinstance(target, list) else token]
        match operation["op"]:
            case "add" if isinstance(target, list):
                assert last == "-"
                target.append(operation["value"])
            case "add":
                assert isinstance(target, dict)
                target[last] = operation["value"]
            case "remove":
                del target[int(last) if isinstance(target, list) else last]
            case "test":
                assert target[last] == operation["value"]
            case other:
                raise AssertionError(other)
    return result
