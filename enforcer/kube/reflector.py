"""Keeps a node's pods known: list, then watch from there; list again when that is too old."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from contract.names import LABEL_LIMITED
from enforcer.errors import ApiError, ExpiredError
from enforcer.pods.news import News, PodChanged, PodGone, PodsListed
from enforcer.pods.pod import Pod, read_pod
from enforcer.ports import Api, Log, WatchEvent

PATH: Final = "/api/v1/pods"
_WATCH_SECONDS: Final = 300
_SHORTEST_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner without an event is a fault: client-go's rule against hot loops."""


def pods_query(node_name: str) -> dict[str, str]:
    """Selects what this node's enforcer acts on; the API server's cache is indexed by node."""
    return {
        "fieldSelector": f"spec.nodeName={node_name}",
        "labelSelector": f"{LABEL_LIMITED}=true",
    }


class PodReflector:
    """:meth:`step` is one list or one watch; run it in a loop (see ``enforcer.loops``)."""

    def __init__(
        self,
        api: Api,
        query: Mapping[str, str],
        tell: Callable[[News], None],
        log: Log,
        on_restart: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._query = dict(query)
        self._tell = tell
        self._log = log
        self._on_restart = on_restart
        self._version: str | None = None

    def step(self) -> None:
        """One list, when none holds any more, and one watch.

        Raises ApiError: the next step goes on from the last version seen, or lists again.
        """
        if self._version is None:
            # From the API server's cache (version 0): 5,000 nodes must not all read from etcd.
            found, version = self._api.list(PATH, self._query | {"resourceVersion": "0"})
            self._tell(PodsListed(tuple(p for p in map(self._read, found) if p is not None)))
            self._version = version
            self._log.info("listed", pods=len(found), version=version)
        # Spread, so that nodes do not come back all at once.
        seconds = _WATCH_SECONDS + random.randrange(_WATCH_SECONDS)  # noqa: S311
        query = self._query | {"resourceVersion": self._version, "timeoutSeconds": str(seconds)}
        started, empty = time.monotonic(), True
        try:
            for event in self._api.watch(PATH, query):
                empty = False
                self._take(event)
        except ExpiredError:
            self._version = None
            self._on_restart("expired")
        except ApiError:
            self._on_restart("error")
            raise
        else:
            self._on_restart("ended")
            if empty and time.monotonic() - started < _SHORTEST_WATCH_SECONDS:
                raise ApiError("the watch ended at once, without an event")

    def _take(self, event: WatchEvent) -> None:
        if event.version:
            self._version = event.version
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return
        pod = self._read(event.body)
        if pod is not None:
            self._tell(PodGone(pod) if event.type == "DELETED" else PodChanged(pod))

    def _read(self, body: bytes) -> Pod | None:
        try:
            return read_pod(body)
        except msgspec.MsgspecError as error:
            # What is known of it stays in force.
            self._log.warning("failed", operation="read pod", reason=str(error))
            return None
