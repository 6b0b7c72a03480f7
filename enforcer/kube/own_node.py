"""Keeps this node's Node known, as far as it is about bandwidth."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from contract.names import CAPACITY_KEYS, DIRECTIONS, RESOURCES, Direction
from kube.listwatch import ListWatch
from kube.ports import Api

PATH: Final = "/api/v1/nodes"
_OURS: Final = frozenset(CAPACITY_KEYS.values())


class _Metadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Status(msgspec.Struct):
    capacity: dict[str, str] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


_decoder: Final = msgspec.json.Decoder(_Node)


@dataclass(frozen=True, slots=True)
class OwnNode:
    """What is read of a Node."""

    annotations: Mapping[str, str]
    """Those of ours, which people write."""
    capacity: Mapping[Direction, str | None]
    """Of our extended resources, which this daemon writes."""


def node_query(node_name: str) -> dict[str, str]:
    """Selects one Node."""
    return {"fieldSelector": f"metadata.name={node_name}"}


def read_node(body: bytes) -> OwnNode:
    """Of a Node's JSON. Raises msgspec.MsgspecError where that is not a Node's."""
    found = _decoder.decode(body)
    annotations, capacity = found.metadata.annotations or {}, found.status.capacity or {}
    return OwnNode(
        {key: text for key, text in annotations.items() if key in _OURS},
        {direction: capacity.get(RESOURCES[direction]) for direction in DIRECTIONS},
    )


def node_watch(
    api: Api, node_name: str, tell: Callable[[OwnNode | None], None], *, metadata_only: bool
) -> ListWatch[OwnNode]:
    """Tells what is on the Node ``node_name``, from the first list on; None: there is none.

    ``metadata_only``: its annotations, and nothing of its status.
    """
    return ListWatch(
        api,
        PATH,
        node_query(node_name),
        read_node,
        _Teller(tell),
        from_cache=True,
        metadata_only=metadata_only,
    )


class _Teller:
    """Implements ``kube.listwatch.Sink``."""

    def __init__(self, tell: Callable[[OwnNode | None], None]) -> None:
        self._tell = tell

    def replace(self, objects: Iterable[OwnNode]) -> None:
        found = tuple(objects)
        self._tell(found[-1] if found else None)

    def put(self, changed: OwnNode) -> None:
        self._tell(changed)

    def remove(self, removed: OwnNode) -> None:
        del removed
        self._tell(None)
