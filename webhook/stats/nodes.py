"""A namespace's counters, asked of the enforcers of its pods' nodes."""

import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import msgspec

from contract.names import LABEL_LIMITED
from contract.stats import PodStats, PodStatsList
from kube.api import KubeApi
from kube.errors import ApiError
from webhook.stats.page import read_nodes, read_page

READ_SECONDS: Final = 4.0
"""For all nodes together; those that have not answered by then are named."""
_NODE_SECONDS: Final = 2.0
_AT_ONCE: Final = 16
_PAGE_BYTES: Final = 8 * 1024 * 1024
"""A node of 250 limited pods has 1.2 MB."""
_MOST_PAGES: Final = 20
"""Of 500 pods each."""
_KNOWN_SECONDS: Final = 60.0
_TABLE: Final = "application/json;as=Table;g=meta.k8s.io;v=v1"
_SELECTOR: Final = "app.kubernetes.io/part-of=podpace,app.kubernetes.io/component=enforcer"
_CONTAINER: Final = "podpace-enforcer"

Address = tuple[str, int]


def fetch(address: Address, seconds: float = _NODE_SECONDS) -> bytes:
    """An enforcer's page. Raises OSError and http.client.HTTPException."""
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    try:
        connection.request("GET", "/metrics/pods")
        response = connection.getresponse()
        body = response.read(_PAGE_BYTES)
    finally:
        connection.close()
    if response.status != http.client.OK:
        message = f"HTTP status {response.status}"
        raise OSError(message)
    return body


@dataclass
class Nodes:
    """:meth:`read` makes a namespace's list; safe for use by several threads."""

    api: KubeApi
    release_namespace: str
    fetch: Callable[[Address], bytes] = fetch
    monotonic: Callable[[], float] = time.monotonic
    seconds: float = READ_SECONDS
    _known: dict[str, tuple[float, Address]] = field(default_factory=dict)
    """Where a node's enforcer is, and since when that is known."""
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="stats-node")
    )

    def read(self, namespace: str) -> bytes:
        """A ``PodStatsList`` as JSON. Raises ApiError: the API server does not tell the pods."""
        until = self.monotonic() + self.seconds
        asked = {
            self._threads.submit(self._node, namespace, node, until): node
            for node in sorted(self._nodes(namespace))
        }
        done, late = wait(asked, timeout=max(0.0, until - self.monotonic()))
        for future in late:
            future.cancel()
        items: list[PodStats] = []
        problems = [f"node {asked[future]} has not answered in time" for future in late]
        for future in done:
            try:
                items += future.result()
            except (ApiError, OSError, http.client.HTTPException) as error:
                problems.append(f"node {asked[future]} cannot be read: {error}"[:300])
        items.sort(key=lambda pod: pod.metadata["name"])
        found = PodStatsList(tuple(items), tuple(sorted(problems)), metadata={})
        return msgspec.json.encode(found)

    def _nodes(self, namespace: str) -> set[str]:
        """Where its limited pods are."""
        nodes: set[str] = set()
        query = {
            "labelSelector": f"{LABEL_LIMITED}=true",
            "includeObject": "None",
            "limit": "500",
        }
        for _ in range(_MOST_PAGES):
            path = f"/api/v1/namespaces/{namespace}/pods?{urlencode(query)}"
            more, query["continue"] = read_nodes(msgspec.json.decode(self.api.text(path, _TABLE)))
            nodes |= more
            if not query["continue"]:
                break
        return nodes

    def _node(self, namespace: str, node: str, until: float) -> tuple[PodStats, ...]:
        if self.monotonic() >= until:
            message = "its turn did not come in time"
            raise OSError(message)
        try:
            page = self.fetch(self._address(node))
        except OSError:
            # It may be elsewhere by now.
            self._known.pop(node, None)
            raise
        return read_page(page, namespace, node)

    def _address(self, node: str) -> Address:
        """Only pods of the release namespace are believed to be enforcers."""
        known = self._known.get(node)
        if known is not None and self.monotonic() - known[0] < _KNOWN_SECONDS:
            return known[1]
        query = {"labelSelector": _SELECTOR, "fieldSelector": f"spec.nodeName={node}"}
        for pod in self.api.list(f"/api/v1/namespaces/{self.release_namespace}/pods", query):
            address = pod.get("status", {}).get("podIP")
            ports = (
                port["containerPort"]
                for container in pod["spec"]["containers"]
                if container["name"] == _CONTAINER
                for port in container.get("ports") or ()
                if port.get("name") == "metrics"
            )
            if address and (port := next(ports, None)) is not None:
                self._known[node] = (self.monotonic(), (address, port))
                return address, port
        message = "no enforcer runs there"
        raise OSError(message)
