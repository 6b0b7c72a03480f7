"""Plays the kubelet: runs the pods that are bound to its node and says so in their status."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.cluster.client import Json
from tests.cluster.install import own_address
from tests.cluster.nodes.layout import Layout, qos_class
from tests.cluster.nodes.network import NodeNetwork
from tests.cluster.nodes.sandbox import Sandbox
from tests.cluster.plane import ControlPlane

_STRATEGIC: Final = {"Content-Type": "application/strategic-merge-patch+json"}
_WATCH_SECONDS: Final = 3600
_WORKERS: Final = 4
_POD_SECONDS: Final = 60


@dataclass
class _Worker:
    """What is known of one pod; its lock keeps start, readiness and end in order."""

    sandbox: Sandbox
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: bool = False
    gone: bool = False
    ready: bool | None = None
    restarts: int = 0
    started_at: str = ""


class SimulatedNode:
    """A Node object and its pods. :meth:`start` and :meth:`stop` belong together."""

    def __init__(
        self, plane: ControlPlane, name: str, network: NodeNetwork, root: Path, layout: Layout
    ) -> None:
        """``root`` is the node's part of the cgroup tree: what its daemon takes for the whole."""
        self.name = name
        self.network = network
        self.cgroup_root = root
        self.layout = layout
        self.failures: list[BaseException] = []
        """What went wrong in the threads; :meth:`stop` raises the first."""
        self._http = plane.client().http
        # The API server then takes us for this node's kubelet, guards and authorizers included.
        self._http.headers["Impersonate-User"] = f"system:node:{name}"
        self._http.headers["Impersonate-Group"] = "system:nodes"
        self._admin = plane.client()
        self._workers: dict[str, _Worker] = {}
        self._by_name: dict[str, _Worker] = {}
        self._news = threading.Condition()
        self._pool = ThreadPoolExecutor(_WORKERS, f"kubelet-{name}")
        self._stopping = False
        self._stream: Any = None
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Cgroup, network, Node object; then pods may come."""
        self.cgroup_root.mkdir()
        self.network.make()
        node = {
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "spec": {"podCIDR": ""},
        }
        self._admin.create("/api/v1/nodes", node)
        room = {"cpu": "64", "memory": "256Gi", "pods": "10000"}
        status = {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": own_address()}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Simulated"}],
        }
        self._admin.patch(f"/api/v1/nodes/{self.name}/status", {"status": status})
        # The node lifecycle controller, which does not run here, would take the taint off.
        self._admin.patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": []}})
        self._watcher.start()

    def stop(self) -> None:
        """Everything of the node goes, pods first."""
        self._stopping = True
        self._cut()
        self._watcher.join()
        self._pool.shutdown()
        for worker in list(self._workers.values()):
            if worker.running:
                worker.sandbox.stop()
        self._admin.delete(f"/api/v1/nodes/{self.name}")
        self.network.remove()
        _remove_tree(self.cgroup_root)
        self._http.close()
        self._admin.http.close()
        if self.failures:
            raise self.failures[0]

    def sandbox(self, namespace: str, name: str) -> Sandbox:
        """A pod's, once it runs."""
        return self._wait(lambda: self._running(f"{namespace}/{name}"), f"{name} does not run")

    def wait_pods(self, count: int, seconds: float = _POD_SECONDS) -> None:
        """Returns when exactly this many pods run here."""
        self._wait(
            lambda: sum(w.running for w in list(self._workers.values())) == count or None,
            f"not {count} pods on {self.name}",
            seconds,
        )

    def wait_fewer(self, count: int, seconds: float = _POD_SECONDS) -> None:
        """Returns when less than this many pods are here, running or not yet."""
        self._wait(lambda: len(self._workers) < count, f"{count} pods on {self.name}", seconds)

    def restart_container(self, namespace: str, name: str, container: str = "main") -> None:
        """The container is killed, comes back, and its restart is counted."""
        worker = self._by_name[f"{namespace}/{name}"]
        with worker.lock:
            worker.sandbox.restart_container(container)
            worker.restarts += 1
            self._patch(namespace, name, self._container_statuses(worker))

    def _running(self, key: str) -> Sandbox | None:
        worker = self._by_name.get(key)
        return worker.sandbox if worker is not None and worker.running else None

    def _wait(self, found: Callable[[], Any], why: str, seconds: float = _POD_SECONDS) -> Any:
        until = time.monotonic() + seconds
        with self._news:
            while not (result := found()):
                assert not self.failures, self.failures
                left = until - time.monotonic()
                assert left > 0, why
                self._news.wait(left)
        return result

    def _watch(self) -> None:
        version = ""
        while not self._stopping:
            try:
                version = self._watch_once(version)
            except httpx.HTTPStatusError:
                version = ""
                time.sleep(0.2)
            except (httpx.HTTPError, OSError):
                time.sleep(0.2)  # the API server is away; a kubelet waits too
            except BaseException as error:
                self._fail(error)
                return

    def _watch_once(self, version: str) -> str:
        query = {"fieldSelector": f"spec.nodeName={self.name}"}
        if not version:
            listed = self._http.get("/api/v1/pods", params=query)
            listed.raise_for_status()
            for pod in listed.json()["items"]:
                self._take(pod)
            version = listed.json()["metadata"]["resourceVersion"]
        query |= {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        with self._http.stream("GET", "/api/v1/pods", params=query, timeout=None) as response:
            response.raise_for_status()
            self._stream = response.extensions["network_stream"]
            for line in response.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = event["object"]["metadata"]["resourceVersion"]
                self._take(event["object"], deleted=event["type"] == "DELETED")
        return version

    def _cut(self) -> None:
        """Ends the watch that is waiting for its next line."""
        if self._stream is not None:
            connection = self._stream.get_extra_info("socket")
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self, pod: Json, *, deleted: bool = False) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        worker = self._workers.get(metadata["uid"])
        if worker is None:
            if deleted:
                return
            cgroup = self.cgroup_root / self.layout.pod(metadata["uid"], qos_class(pod))
            commands = {c["name"]: c.get("command", []) for c in spec["containers"]}
            worker = _Worker(
                Sandbox(self.network, cgroup, self.layout, commands, bool(spec.get("hostNetwork")))
            )
            self._workers[metadata["uid"]] = worker
            self._by_name[f"{metadata['namespace']}/{metadata['name']}"] = worker
        self._pool.submit(self._sync, worker, pod, deleted)

    def _sync(self, worker: _Worker, pod: Json, deleted: bool) -> None:
        metadata = pod["metadata"]
        try:
            with worker.lock:
                if deleted or metadata.get("deletionTimestamp"):
                    self._end(worker, pod, deleted)
                elif not worker.running and not worker.gone:
                    worker.sandbox.start()
                    worker.started_at = _now()
                    worker.running = True
                    self._report(worker, pod)
                elif worker.running:
                    self._report_readiness(worker, pod)
        except BaseException as error:
            self._fail(error)
        with self._news:
            self._news.notify_all()

    def _end(self, worker: _Worker, pod: Json, deleted: bool) -> None:
        if worker.running:
            worker.sandbox.stop()
        worker.running, worker.gone = False, True
        metadata = pod["metadata"]
        if not deleted:
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            response = self._http.request("DELETE", path, json=body)
            assert response.status_code in (200, 404, 409), response.text
        self._workers.pop(metadata["uid"], None)
        key = f"{metadata['namespace']}/{metadata['name']}"
        if self._by_name.get(key) is worker:
            del self._by_name[key]

    def _report(self, worker: _Worker, pod: Json) -> None:
        network = worker.sandbox.network
        addresses = list(network.addresses.values()) if network else [own_address()]
        worker.ready = _gates_open(pod)
        status = self._container_statuses(worker) | {
            "phase": "Running",
            "hostIP": own_address(),
            "hostIPs": [{"ip": own_address()}],
            "podIP": addresses[0],
            "podIPs": [{"ip": address} for address in addresses],
            "startTime": worker.started_at,
            "conditions": [
                *(
                    {"type": kind, "status": "True", "lastTransitionTime": _now()}
                    for kind in ("PodReadyToStartContainers", "Initialized", "ContainersReady")
                ),
                _ready(worker.ready),
            ],
        }
        self._patch(pod["metadata"]["namespace"], pod["metadata"]["name"], status)

    def _report_readiness(self, worker: _Worker, pod: Json) -> None:
        ready = _gates_open(pod)
        if ready != worker.ready:
            worker.ready = ready
            metadata = pod["metadata"]
            self._patch(metadata["namespace"], metadata["name"], {"conditions": [_ready(ready)]})

    def _container_statuses(self, worker: _Worker) -> Json:
        return {
            "containerStatuses": [
                {
                    "name": name,
                    "ready": True,
                    "started": True,
                    "restartCount": worker.restarts,
                    "image": name,
                    "imageID": f"sha256:{name}",
                    "containerID": f"containerd://{cgroup.name}",
                    "state": {"running": {"startedAt": worker.started_at}},
                }
                for name, cgroup in worker.sandbox.containers.items()
            ]
        }

    def _patch(self, namespace: str, name: str, status: Json) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        response = self._http.patch(path, json={"status": status}, headers=_STRATEGIC)
        # Deleted at once, without waiting for us.
        assert response.is_success or response.status_code == 404, response.text

    def _fail(self, error: BaseException) -> None:
        with self._news:
            self.failures.append(error)
            self._news.notify_all()


def _gates_open(pod: Json) -> bool:
    status = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    gates = [g["conditionType"] for g in pod["spec"].get("readinessGates", [])]
    return all(status.get(gate) == "True" for gate in gates)


def _ready(ready: bool) -> Json:
    reason = {} if ready else {"reason": "ReadinessGatesNotReady"}
    return {"type": "Ready", "status": str(ready), "lastTransitionTime": _now(), **reason}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _remove_tree(path: Path) -> None:
    for child in path.iterdir():
        if child.is_dir():
            _remove_tree(child)
    path.rmdir()
