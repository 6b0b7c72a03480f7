"""Everything that the API server tells of Nodes and pods while something else is done."""

import json
import threading
import time
from dataclasses import dataclass
from typing import Final

import httpx

from tests.cluster.client import Json
from tests.node.cluster import Cluster

EGRESS: Final = "podpace.io/egress"


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch."""

    at: float
    """By ``time.monotonic``."""
    kind: str
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    object: Json

    @property
    def name(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        """The object's."""
        found: dict[str, str] = self.object["metadata"].get("labels", {})
        return found

    @property
    def egress(self) -> str | None:
        """Of a Node: what it has to give to the scheduler; None: nothing is said."""
        if self.kind == "DELETED":
            return None
        found: str | None = self.object["status"].get("capacity", {}).get(EGRESS)
        return found


class Recorder:
    """Watches one kind from now on, until :meth:`stop`."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        self._http = cluster.admin.http
        self._path = path
        self._seen: list[Seen] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._version = cluster.admin.get(path)["metadata"]["resourceVersion"]
        threading.Thread(target=self._run, daemon=True).start()

    def since(self, at: float) -> list[Seen]:
        """In their order."""
        with self._lock:
            return [seen for seen in self._seen if seen.at >= at]

    def stop(self) -> None:
        """Nothing more is recorded."""
        self._stopping = True

    def _run(self) -> None:
        while not self._stopping:
            query = {"watch": "1", "resourceVersion": self._version, "timeoutSeconds": "600"}
            try:
                with self._http.stream("GET", self._path, params=query, timeout=700) as answer:
                    for line in answer.iter_lines():
                        self._take(json.loads(line))
            except httpx.HTTPError:
                time.sleep(0.2)

    def _take(self, event: Json) -> None:
        found = event["object"]
        self._version = found["metadata"]["resourceVersion"]
        with self._lock:
            self._seen.append(Seen(time.monotonic(), event["type"], found))


def gaps(seen: list[Seen], until: float) -> list[tuple[float, float]]:
    """From when to when a Node, whose events these are, had no capacity."""
    found: list[tuple[float, float]] = []
    since = None
    for event in seen:
        if event.egress is None and since is None:
            since = event.at
        elif event.egress is not None and since is not None:
            found.append((since, event.at))
            since = None
    return found if since is None else [*found, (since, until)]
