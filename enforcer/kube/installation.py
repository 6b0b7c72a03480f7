"""Whether Podpace is being removed from the cluster, or this daemon only replaced.

A daemon that ends leaves its limits in force, since the next one goes on. Where the installation is
deleted there is no next one: whoever deletes manifests or the namespace runs none of Helm's hooks.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from enforcer.ports import Log
from kube.errors import ApiError, NotFoundError
from kube.listwatch import ListWatch
from kube.ports import Api

_DELETED: Final = "deletionTimestamp"


class Installation:
    """Follows the ConfigMap that stands for the installation; :meth:`step` is one watch of it.

    Rights go with the rest when manifests are deleted, often before this daemon is told to end. So
    it has to be known already by then, and only what was seen counts: that something cannot be read
    says nothing.
    """

    def __init__(self, api: Api, namespace: str, name: str, log: Log) -> None:
        self._api = api
        self._namespace = f"/api/v1/namespaces/{namespace}"
        self._object = f"{self._namespace}/configmaps/{name}"
        self._log = log
        self._seen = False
        self._gone = threading.Event()
        query = {"fieldSelector": f"metadata.name={name}"}
        path = f"{self._namespace}/configmaps"
        decode: Callable[[bytes], Any] = msgspec.json.decode
        self._watch = ListWatch(api, path, query, decode, self, from_cache=True, metadata_only=True)

    def step(self) -> None:
        """Returns when the watch is over. Raises ``ApiError``."""
        self._watch.step()

    def replace(self, objects: Iterable[Any]) -> None:
        """See ``kube.listwatch.Sink``."""
        found = tuple(objects)
        for one in found:
            self.put(one)
        if not found and self._seen:
            self._gone.set()

    def put(self, changed: Any) -> None:
        """See ``kube.listwatch.Sink``."""
        self._seen = True
        if changed["metadata"].get(_DELETED):
            self._gone.set()
        else:
            self._gone.clear()

    def remove(self, removed: Any) -> None:  # noqa: ARG002 - the Protocol's
        """See ``kube.listwatch.Sink``."""
        self._gone.set()

    def removed(self, wait_seconds: float = 2.0) -> bool:
        """Asked when the daemon is told to end; false whenever that is not certain.

        A namespace is emptied pods first, so it says so itself. The watch may tell a moment later
        than the kubelet.
        """
        if self._terminating(self._namespace):
            return True
        try:
            here = not self._api.get(self._object)["metadata"].get(_DELETED)
        except NotFoundError:
            return self._seen
        except ApiError as error:
            gone = self._gone.wait(wait_seconds)
            self._log.info("cannot see the installation", reason=str(error)[:300], deleted=gone)
            return gone
        return not here

    def _terminating(self, path: str) -> bool:
        try:
            return bool(self._api.get(path)["metadata"].get(_DELETED))
        except ApiError:
            return False
