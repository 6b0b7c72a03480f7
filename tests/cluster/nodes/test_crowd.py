"""A node with as many limited pods as kubelets take: how soon limits hold, and what it costs."""

import random
import time
from collections.abc import Iterator

import pytest

from bench.rig.probes import percentile
from tests.cluster.helpers import EGRESS
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import on, wait_enforced

PODS = 110
ANNOTATED = 30
IDLE_SECONDS = 20
NAMESPACE = "crowd"


@pytest.fixture(scope="module")
def crowd(installation: Installation, enforcers: list[Enforcer]) -> Iterator[Enforcer]:
    """All on the first node; its enforcer."""
    admin, enforcer = installation.admin, enforcers[0]
    admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    for n in range(PODS):
        both = {EGRESS: "10M", "podpace.io/ingress-bandwidth": "10M"}
        admin.create(path, on(enforcer.node, pod(both, name=f"p{n}")))
        # One after the other: a stampede measures this machine's two cores.
        enforcer.node.sandbox(NAMESPACE, f"p{n}")
    wait_enforced(admin, NAMESPACE, PODS)
    yield enforcer
    admin.delete(f"/api/v1/namespaces/{NAMESPACE}")


def test_limits_are_in_force_milliseconds_after_a_pods_cgroup_is_there(crowd: Enforcer) -> None:
    """Before its containers start, which takes a real kubelet hundreds of milliseconds."""
    attached = crowd.said_at("attached")
    delays_ms = [
        (attached[f"pod:{NAMESPACE}/p{n}"] - crowd.node.sandbox(NAMESPACE, f"p{n}").cgroup_made_at)
        * 1e3
        for n in range(PODS)
    ]

    print(
        f"cgroup to limit: p50 {percentile(delays_ms, 50):.1f} ms, "
        f"p99 {percentile(delays_ms, 99):.1f} ms, max {max(delays_ms):.1f} ms"
    )
    assert min(delays_ms) > 0
    assert percentile(delays_ms, 50) < 200  # a sign of life; docs hold the figures


def test_kubectl_annotate_changes_the_rate_in_force(
    installation: Installation, crowd: Enforcer
) -> None:
    """Through kubectl, API server, webhook, watch and enforcer into the kernel."""
    delays_ms, after_kubectl_ms = [], []
    for n in random.Random(1).sample(range(PODS), ANNOTATED):
        mark, begin = len(crowd.log), time.time()
        done = installation.plane.kubectl(
            "annotate", "pod", "-n", NAMESPACE, f"p{n}", f"{EGRESS}=7M", "--overwrite"
        )
        end = time.time()
        assert done.returncode == 0, done.stderr
        line = crowd.wait_said("changed", f"pod:{NAMESPACE}/p{n}", mark)
        assert line["egress_bits_per_second"] == 7_000_000
        at = crowd.said_at("changed", mark)[f"pod:{NAMESPACE}/p{n}"]
        delays_ms.append((at - begin) * 1e3)
        after_kubectl_ms.append((at - end) * 1e3)
        crowd.wait_said("reported", f"pod:{NAMESPACE}/p{n}", mark)

    print(
        f"annotate to limit: p50 {percentile(delays_ms, 50):.0f} ms, "
        f"p99 {percentile(delays_ms, 99):.0f} ms from kubectl's start; "
        f"p50 {percentile(after_kubectl_ms, 50):.0f} ms, p99 "
        f"{percentile(after_kubectl_ms, 99):.0f} ms from its end"
    )
    assert percentile(delays_ms, 50) < 3000  # a sign of life; docs hold the figures


def test_a_daemon_with_idle_pods_uses_little(crowd: Enforcer) -> None:
    """Memory and processor time."""
    cpu_before, begin = crowd.cpu_seconds(), time.monotonic()
    mark = len(crowd.log)
    time.sleep(IDLE_SECONDS)

    used = (crowd.cpu_seconds() - cpu_before) / (time.monotonic() - begin)
    print(f"idle with {PODS} pods: {crowd.rss_bytes() / 1e6:.0f} MB, {used:.2%} of a core")
    assert crowd.rss_bytes() < 90e6
    assert used < 0.05
    assert crowd.log[mark:] == []
