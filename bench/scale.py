"""What many enforcers cost one API server: ``python -m bench.scale`` prints the table of
``docs/operator/scale.md``.

Each enforcer is its Kubernetes side, whole: reflector, backoff, condition writer, on a connection
of its own. There is no kernel behind it, and no traffic. Every node has ten limited pods; every
minute one pod of each node is given another limit, and its condition follows.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench.scale_table import Cost, table
from contract import names
from contract.names import CONDITION_BANDWIDTH_ENFORCED, Reason
from enforcer.kube.reflector import pod_watch
from enforcer.loops import start_loop
from enforcer.pods.condition import Condition
from enforcer.pods.events import EventBook
from enforcer.pods.news import News, PodChanged, PodsListed
from enforcer.pods.pod import Pod
from enforcer.pods.reports import Reports
from kube.api import KubeApi
from kube.credentials import load
from tests.cluster.client import Client
from tests.cluster.install import RELEASE_NAMESPACE, pod, render
from tests.cluster.nodes.relay import Relay
from tests.cluster.plane import ControlPlane, free_port

PODS_PER_NODE: Final = 10
CHANGES_PER_MINUTE: Final = 1
START_SECONDS: Final = 30
_USER: Final = f"system:serviceaccount:{RELEASE_NAMESPACE}:podpace-enforcer-bench"
_NAMESPACE: Final = "default"


class _Quiet:
    """A log that keeps only what went wrong."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def warning(self, event: str, **fields: Any) -> None:
        """Kept."""
        self.failures.append(f"{event} {fields}")

    error = warning


class Enforcers:
    """``count`` of them, in threads; :meth:`stop` ends all."""

    def __init__(self, kubeconfig: Path, count: int, splay_seconds: float) -> None:
        self.log = _Quiet()
        self.reports_written = 0
        self._stopping = threading.Event()
        self._listed = threading.Semaphore(0)
        self._count = count
        for number in range(count):
            self._start(f"node-{number}", str(kubeconfig), splay_seconds)

    def wait_listed(self) -> None:
        """Every one has listed its pods."""
        for _ in range(self._count):
            assert self._listed.acquire(timeout=120), self.log.failures[-3:]

    def stop(self) -> None:
        """They end with the process's end at the latest: some are waiting for an event."""
        self._stopping.set()

    def _start(self, name: str, kubeconfig: str, splay_seconds: float) -> None:
        api = KubeApi(lambda: load(kubeconfig))
        reports = Reports(api, EventBook(name), self.log, lambda _: None, lambda _: None)

        def tell(news: News) -> None:
            match news:
                case PodsListed(pods):
                    for found in pods:
                        reports.want(found, _true(found))
                    self._listed.release()
                case PodChanged(found):
                    reports.want(found, _true(found))

        watch = pod_watch(api, name, tell, self.log)
        for what, step, splay in (
            ("watch", watch.step, splay_seconds),
            ("report", reports.step, 0.0),
        ):
            start_loop(what, step, self._stopping, self.log, lambda _: None, splay_seconds=splay)


def _true(found: Pod) -> Condition:
    limit = found.asked.limits.egress if found.asked.limits else None
    bits = 0 if limit is None else limit.bits_per_second
    return Condition("True", Reason.ENFORCED, f"egress {bits} bit/s (paced); from the pod")


@dataclass(frozen=True)
class _Reading:
    requests: float
    received: int
    sent: int
    cpu_seconds: float
    at: float


def measure(count: int, seconds: float, say: Any) -> Cost:
    """A control plane of its own for each number, so that none inherits from another."""
    with _plane() as (plane, admin, relay, kubeconfig):
        nodes = [f"node-{n}" for n in range(count)]
        say(f"{count} enforcers: creating {count * PODS_PER_NODE} pods")
        _create_pods(admin, nodes)

        def read() -> _Reading:
            return _Reading(
                _requests(admin),
                relay.received_bytes,
                relay.sent_bytes,
                plane.cpu_seconds("kube-apiserver"),
                time.monotonic(),
            )

        before = read()
        enforcers = Enforcers(kubeconfig, count, START_SECONDS)
        enforcers.wait_listed()
        _wait_conditions(admin, count * PODS_PER_NODE)
        started = read()
        say(f"{count} enforcers: idle for {seconds:.0f} s")
        time.sleep(seconds)
        idle = read()
        say(f"{count} enforcers: {CHANGES_PER_MINUTE} change a minute and node, {seconds:.0f} s")
        _change(admin, nodes, seconds)
        busy = read()
        memory = plane.rss_bytes("kube-apiserver")
        enforcers.stop()
        assert not enforcers.log.failures, enforcers.log.failures[:3]
    minutes = count * (idle.at - started.at) / 60
    busy_minutes = count * (busy.at - idle.at) / 60
    return Cost(
        count,
        (started.requests - before.requests) / count,
        (started.received - before.received) / count,
        (started.sent - before.sent) / count,
        (idle.requests - started.requests) / minutes,
        (idle.sent - started.sent) / minutes,
        (busy.requests - idle.requests) / busy_minutes,
        (busy.received - idle.received) / busy_minutes,
        (busy.sent - idle.sent) / busy_minutes,
        (busy.cpu_seconds - idle.cpu_seconds) / (busy.at - idle.at),
        memory,
    )


@contextmanager
def _plane() -> Iterator[tuple[ControlPlane, Client, Relay, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder), {_USER: ("system:serviceaccounts",)})
        try:
            plane.start(controllers=False)
            admin = plane.client()
            _grant(admin)
            port = free_port()
            relay = Relay(("127.0.0.1", port), ("127.0.0.1", plane.port))
            kubeconfig = plane.kubeconfig(_USER)
            content = yaml.safe_load(kubeconfig.read_text())
            content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
            kubeconfig.write_text(yaml.safe_dump(content))
            yield plane, admin, relay, kubeconfig
            relay.close()
        finally:
            plane.stop()


def _grant(admin: Client) -> None:
    """The chart's own role, for a user whose token is bound to no pod: no guard is installed."""
    role = next(d for d in render("enforcer-rbac.yaml") if d["kind"] == "ClusterRole")
    group = "rbac.authorization.k8s.io"
    admin.create(f"/apis/{group}/v1/clusterroles", role)
    binding = {
        "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role["metadata"]["name"]},
        "subjects": [{"apiGroup": group, "kind": "User", "name": _USER}],
    }
    admin.create(f"/apis/{group}/v1/clusterrolebindings", binding)


def _labels(rate: int) -> dict[str, str]:
    return {
        names.LABEL_LIMITED: "true",
        names.LABEL_EGRESS_BITS_PER_SECOND: str(rate),
        names.LABEL_SOURCE: names.Source.POD,
    }


def _create_pods(admin: Client, nodes: list[str]) -> None:
    path = f"/api/v1/namespaces/{_NAMESPACE}/pods"

    def create(numbers: tuple[str, int]) -> None:
        node, number = numbers
        body = pod(name=f"{node}-{number}", labels=_labels(10**7), nodeName=node)
        admin.create(path, body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, [(node, n) for node in nodes for n in range(PODS_PER_NODE)]))


def _wait_conditions(admin: Client, count: int) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        items = admin.get(f"/api/v1/namespaces/{_NAMESPACE}/pods?resourceVersion=0")["items"]
        if sum(_has_condition(item) for item in items) == count:
            return
        time.sleep(1)
    raise AssertionError("not every pod got its condition")


def _has_condition(item: dict[str, Any]) -> bool:
    conditions = item["status"].get("conditions", [])
    return any(c["type"] == CONDITION_BANDWIDTH_ENFORCED for c in conditions)


def _change(admin: Client, nodes: list[str], seconds: float) -> None:
    """Evenly over the time, so that it is the rate that is measured and not a burst."""
    begin, changes = time.monotonic(), int(len(nodes) * CHANGES_PER_MINUTE * seconds / 60)
    for number in range(changes):
        time.sleep(max(0.0, begin + number * seconds / changes - time.monotonic()))
        name = f"{nodes[number % len(nodes)]}-{number // len(nodes) % PODS_PER_NODE}"
        body = {"metadata": {"labels": _labels(2 * 10**7 + number)}}
        admin.patch(f"/api/v1/namespaces/{_NAMESPACE}/pods/{name}", body)
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def _requests(admin: Client) -> float:
    """Lists and watches of all namespaces' pods, and patches of status: nobody else makes them."""
    total = 0.0
    for line in admin.http.get("/metrics").text.splitlines():
        if line.startswith("apiserver_request_total{") and 'resource="pods"' in line:
            listed = 'scope="cluster"' in line and ('verb="LIST"' in line or 'verb="WATCH"' in line)
            if listed or ('subresource="status"' in line and 'verb="PATCH"' in line):
                total += float(line.rpartition(" ")[2])
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--sizes", default="20,100,200", help="numbers of enforcers")
    parser.add_argument("--seconds", type=float, default=120, help="for each of the two phases")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    sizes = [int(size) for size in options.sizes.split(",")]
    print(table([measure(size, options.seconds, say) for size in sizes]), flush=True)
    # Watches are waiting for their next event, in threads that nobody waits for.
    os._exit(0)


if __name__ == "__main__":
    main()
