"""Pods that slipped past the webhook get their labels."""

from collections.abc import Iterator

import pytest

from tests.cluster.cases import limits
from tests.cluster.helpers import EGRESS, ours, until
from tests.cluster.install import Installation, pod


@pytest.fixture
def slipped(installation: Installation) -> Iterator[str]:
    """Pods made while their namespace was taken out, as if no webhook had answered."""
    admin, name = installation.admin, "slipped"
    labels = {"podpace.io/ignore": "true"}
    admin.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    path = f"/api/v1/namespaces/{name}/pods"
    admin.create(path, pod({EGRESS: "10M"}, name="good"))
    admin.create(path, pod({EGRESS: "1G"}, name="above"))
    admin.create(path, pod({EGRESS: "10Mbps"}, name="unreadable"))
    admin.create(
        path,
        pod({EGRESS: "10M"}, name="forged", labels={"podpace.io/egress-bits-per-second": "99"}),
    )
    installation.set_policy(name, {"egress.max": "50M"})
    admin.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": {"podpace.io/ignore": None}}})
    yield name
    admin.delete(f"/api/v1/namespaces/{name}")


def test_the_leader_alone_gives_slipped_pods_their_labels(
    installation: Installation, slipped: str
) -> None:
    """Within the policy, whatever the pod says, and with a metric; the next leader follows."""
    replicas = [
        installation.add_replica("--audit-seconds=0.5", "--drain-seconds=0") for _ in range(2)
    ]
    path = f"/api/v1/namespaces/{slipped}/pods"

    found = until(
        lambda: {p["metadata"]["name"]: ours(p) for p in installation.admin.get(path)["items"]},
        lambda pods: all(pods.values()) and pods["forged"] != {"egress-bits-per-second": "99"},
    )

    assert found == {
        "good": limits(egress=10_000_000),
        "above": limits(egress=50_000_000),
        "unreadable": limits("namespace", egress=50_000_000),
        "forged": limits(egress=10_000_000),
    }
    told = installation.admin.get(f"/api/v1/namespaces/{slipped}/events")["items"]
    by_pod = {
        e["involvedObject"]["name"]: e["reason"]
        for e in told
        if e["source"].get("component") == "podpace.io/webhook"
    }
    assert by_pod == {"above": "BandwidthLimitClamped", "unreadable": "BandwidthLimitAdded"}
    leaders = [r for r in replicas if r.metric("podpace_audit_leader")]
    assert len(leaders) == 1
    [follower] = [r for r in replicas if r not in leaders]
    # Of other tests' namespaces there may be more.
    labelled = 'podpace_audit_pods_total{result="labelled"}'
    assert leaders[0].metric(labelled) >= 4
    assert follower.metric(labelled) == 0
    installation.remove_replica(leaders[0])
    follower.wait_log(lambda e: e["event"] == "pods listed")
    installation.remove_replica(follower)
