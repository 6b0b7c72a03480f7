"""Keeps what people wrote on this node's Node known."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from contract.names import CAPACITY_KEYS
from kube.listwatch import ListWatch
from kube.ports import Api

PATH: Final = "/api/v1/nodes"
_OURS: Final = frozenset(CAPACITY_KEYS.values())


class _Metadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata


_decoder: Final = msgspec.json.Decoder(_Node)


def node_query(node_name: str) -> dict[str, str]:
    """Selects one Node."""
    return {"fieldSelector": f"metadata.name={node_name}"}


def read_annotations(body: bytes) -> Mapping[str, str]:
    """Of a Node's JSON, those of ours. Raises msgspec.MsgspecError where that is not a Node's."""
    found = _decoder.decode(body).metadata.annotations or {}
    return {key: text for key, text in found.items() if key in _OURS}


def node_watch(
    api: Api, node_name: str, tell: Callable[[Mapping[str, str]], None]
) -> ListWatch[Mapping[str, str]]:
    """Tells what our annotations of ``node_name`` say, from the first list on."""
    return ListWatch(
        api,
        PATH,
        node_query(node_name),
        read_annotations,
        _Teller(tell),
        from_cache=True,
        metadata_only=True,
    )


class _Teller:
    """Implements ``kube.listwatch.Sink``. A Node that is gone says nothing: what it said holds."""

    def __init__(self, tell: Callable[[Mapping[str, str]], None]) -> None:
        self._tell = tell

    def replace(self, objects: Iterable[Mapping[str, str]]) -> None:
        for found in objects:
            self._tell(found)

    def put(self, changed: Mapping[str, str]) -> None:
        self._tell(changed)

    def remove(self, removed: Mapping[str, str]) -> None:
        del removed
