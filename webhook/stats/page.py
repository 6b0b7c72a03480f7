"""Pure: what an enforcer's page of metrics says of one namespace, and what the API server reads."""

import re
from collections.abc import Iterable
from typing import Any, Final

from contract.names import Direction
from contract.stats import GROUP, READ_AT, RESOURCE, VERSION, PodStats

Json = dict[str, Any]

_SERIES: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_LIST: Final = re.compile(
    rf"/apis/{re.escape(GROUP)}/{VERSION}/namespaces/([a-z0-9-]{{1,63}})/{RESOURCE}"
)


def namespace_of(path: str) -> str | None:
    """Whose list that is; None: it is no list.

    The API server has decided by the path whether its sender may read it. So nothing that could be
    read in two ways is understood here: no escapes, no empty parts, no dots.
    """
    found = _LIST.fullmatch(path)
    return found[1] if found else None


def read_page(page: bytes, namespace: str, node: str) -> tuple[PodStats, ...]:
    """The counters of its pods; lines of others, and what cannot be read, are passed over."""
    # Most lines are of other namespaces: they are not taken apart. In a label's text a quote has a
    # backslash before it, so nobody's name can hold this.
    mark = f'target="pod:{namespace}/'.encode()
    read_at = re.search(rb"^%s (\S+)$" % READ_AT.encode(), page, re.MULTILINE)
    common = {} if read_at is None else {READ_AT: _number(read_at[1].decode())}
    found: dict[str, dict[Direction, dict[str, float]]] = {}
    for line in page.splitlines():
        if mark not in line:
            continue
        series = _SERIES.fullmatch(line.decode(errors="replace"))
        if series is None:
            continue
        labels = dict(_LABEL.findall(series[2]))
        direction = labels.get("direction", "")
        if direction not in tuple(Direction):
            continue
        name = labels["target"].partition("/")[2]
        pod = found.setdefault(name, {way: {} for way in Direction})
        counters = pod[Direction(direction)]
        counters |= common
        counters[series[1]] = _number(series[3])
    return tuple(
        PodStats(
            {"namespace": namespace, "name": name},
            node,
            counters[Direction.INGRESS],
            counters[Direction.EGRESS],
        )
        for name, counters in sorted(found.items())
    )


def _number(text: str) -> float:
    """Of Prometheus' text format, which has no other numbers than these."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def read_nodes(table: Json) -> tuple[set[str], str]:
    """The nodes of a page of pods that was asked for as a table, and how to go on (empty: the end).

    A row is a few hundred bytes, whatever its pod is; whole pods can be a thousand times that.
    """
    titles = [column["name"] for column in table.get("columnDefinitions") or ()]
    if "Node" not in titles:
        return set(), ""
    at = titles.index("Node")
    rows: Iterable[Json] = table.get("rows") or ()
    nodes = {row["cells"][at] for row in rows}
    return nodes - {"<none>", ""}, (table.get("metadata") or {}).get("continue", "")


def discovery(path: str) -> Json | None:
    """What the API server learns the API from; None: there is no such page."""
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    if path == f"/apis/{GROUP}":
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": GROUP,
            "versions": [version],
            "preferredVersion": version,
        }
    if path == f"/apis/{GROUP}/{VERSION}":
        resource = {
            "name": RESOURCE,
            "singularName": "",
            "namespaced": True,
            "kind": "PodStats",
            "verbs": ["list"],
        }
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": version["groupVersion"],
            "resources": [resource],
        }
    return None


def status(code: int, reason: str, message: str) -> Json:
    """How Kubernetes says no."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
