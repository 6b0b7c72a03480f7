"""The life of a release on real nodes: upgrade, test, uninstall. The last: they take it off."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.names import Direction
from tests.chart.helm import CHART, NAMESPACE, RELEASE
from tests.node.cluster import Cluster
from tests.node.network import PLACES
from tests.node.pods import (
    IPERF_SERVER,
    LEAST,
    Pod,
    Received,
    assert_limited,
    deployment,
    iperf,
    pod,
    wait_condition,
    wait_ready,
)
from tests.node.product import PINS, enforcer_pods, helm
from tests.node.test_limits import EGRESS_BITS_PER_SEC, LIMITS

RUN_SECONDS = 15


@pytest.fixture(scope="module")
def ends(podpace: Cluster) -> tuple[Pod, Pod]:
    """A limited pod and, on the other node, one without limits that it sends to."""
    server = pod("sink", PLACES[1].name, {}, *IPERF_SERVER)
    podpace.apply(deployment("limited", LIMITS), server)
    sender = wait_ready(podpace, "limited", 2)[0]
    (sink,) = wait_ready(podpace, "sink")
    wait_condition(podpace, sender.name, "Enforced")
    return sender, sink


def test_an_upgrade_under_traffic_has_no_gap(podpace: Cluster, ends: tuple[Pod, Pod]) -> None:
    """``helm upgrade`` replaces every enforcer while a limited pod sends: no second is above the
    limit, none stops the traffic, and afterwards the limit is used."""
    sender, sink = ends
    before = {item["metadata"]["uid"] for item in enforcer_pods(podpace).values()}
    upgraded = threading.Event()

    def send() -> list[Received]:
        runs = []
        while not upgraded.is_set():
            runs.append(iperf(podpace, sender, sink, Direction.EGRESS, RUN_SECONDS))
        return runs

    with ThreadPoolExecutor() as meanwhile:
        load = meanwhile.submit(send)
        try:
            helm(
                podpace,
                *("upgrade", RELEASE, str(CHART), "--reuse-values", "--wait", "--timeout=10m"),
                *("--set=enforcer.logLevel=debug", "--set=enforcer.maxUnavailable=100%"),
            )
        finally:
            upgraded.set()
        podpace.say("upgraded")
        runs = load.result()
    after = {item["metadata"]["uid"] for item in enforcer_pods(podpace).values()}
    assert not before & after
    used = [run.utilisation(EGRESS_BITS_PER_SEC) for run in runs]
    podpace.say(f"egress across the upgrade: {[round(part, 3) for part in used]} of the limit")
    assert not any(run.above(EGRESS_BITS_PER_SEC) for run in runs)
    assert min(used) >= LEAST
    assert_limited(podpace, sender, sink, Direction.EGRESS, EGRESS_BITS_PER_SEC)


def test_helm_test_is_green(podpace: Cluster) -> None:
    """``helm test``: admission labels a pod, every node is ready, a pod's condition comes."""
    assert "Succeeded" in helm(podpace, "test", RELEASE, "--timeout=10m")


def test_uninstall_leaves_nothing(podpace: Cluster, ends: tuple[Pod, Pod]) -> None:
    """``helm uninstall`` with limited pods running: no API object but the cluster's policy, no
    program, no pin, no file and no queue of ours is left, and the pods' next packets are not
    limited."""
    sender, sink = ends
    helm(podpace, "uninstall", RELEASE, "--wait", "--timeout=10m")
    # Pods of the DaemonSet are still ending when Helm has finished.
    podpace.until("no object is left", lambda: _objects(podpace), lambda found: found == [])
    for name, machine in podpace.machines.items():
        left = machine.ok(
            "bpftool prog show | grep podpace_;"
            f"ls -d {PINS} /run/podpace 2>/dev/null;"
            "for pid in 1 $(lsns --noheadings --type net --output PID); do"
            "  nsenter --net=/proc/$pid/ns/net tc qdisc show | grep -E 'qdisc [a-z]+ 7bd|clsact';"
            "done; true"
        )
        assert left == "", f"{name}: {left}"
    received = iperf(podpace, sender, sink, Direction.EGRESS, 3)
    assert received.utilisation(EGRESS_BITS_PER_SEC) > 2


def _objects(cluster: Cluster) -> list[str]:
    """Objects of the release, of every kind that can be listed, and what it made by itself."""
    listable = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = ",".join(kind for kind in listable if not kind.startswith("events"))
    labelled = cluster.kubectl(
        *("get", kinds, "--all-namespaces", "--output=name", "--ignore-not-found"),
        "--selector=app.kubernetes.io/name=podpace",
    )
    in_namespace = cluster.kubectl(
        *("get", "configmaps,secrets,leases,pods", f"--namespace={NAMESPACE}", "--output=name")
    )
    known = {"configmap/kube-root-ca.crt", "configmap/podpace-policy"}
    return sorted((set(labelled.split()) | set(in_namespace.split())) - known)
