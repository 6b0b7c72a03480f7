"""Policies that change, go, or are bad, seen from pods."""

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count

import pytest

from tests.cluster.cases import limits
from tests.cluster.client import warnings
from tests.cluster.helpers import EGRESS, ours, until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, pod, put_policy


def test_problems_older_than_an_update_do_not_refuse_it(
    installation: Installation, namespace: str
) -> None:
    """A policy that came later brings a pod within bounds at its next edit, with a warning."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    admin = installation.admin
    admin.create(path, pod({EGRESS: "100M"}, name="a"))
    installation.set_policy(namespace, {"egress.max": "50M"})

    response = admin.try_patch(
        f"{path}/a", {"metadata": {"annotations": {"podpace.io/ingress-bandwidth": "5M"}}}
    )

    assert response.status_code == 200, response.text
    assert "is above the namespace's maximum" in warnings(response)[0]
    assert ours(response.json()) == limits(ingress=5_000_000, egress=50_000_000)
    refused = admin.try_patch(f"{path}/a", {"metadata": {"annotations": {EGRESS: "90M"}}})
    assert refused.status_code == 403


def test_a_required_limit_cannot_be_taken_away(installation: Installation, namespace: str) -> None:
    """Removing an annotation is judged like writing one."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    installation.set_policy(namespace, {"require": "any"})
    installation.admin.create(path, pod({EGRESS: "10M"}, name="a"))

    refused = installation.admin.try_patch(
        f"{path}/a", {"metadata": {"annotations": {EGRESS: None}}}
    )

    assert refused.status_code == 403
    assert "the policy requires a limit" in refused.json()["message"]


def test_a_policy_goes_with_its_namespace(installation: Installation) -> None:
    """A deleted namespace's policy does not wait for the next of that name."""
    admin, name = installation.admin, "short-lived"
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    installation.set_policy(name, {"require": "both"})
    mark = len(installation.replicas[0].log)

    admin.delete(f"/api/v1/namespaces/{name}")

    installation.replicas[0].wait_log(
        lambda e: e["event"] == "policy removed" and e["namespace"] == name, start=mark
    )
    until(
        lambda: admin.http.get(f"/api/v1/namespaces/{name}").status_code,
        lambda status: status == 404,
    )
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    assert ours(admin.create(f"/api/v1/namespaces/{name}/pods", pod(name="a"))) == {}
    admin.delete(f"/api/v1/namespaces/{name}")


def test_a_policy_is_in_force_at_once(installation: Installation, namespace: str) -> None:
    """No restart and no waiting: the time it takes is printed, and bounded by the helper."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    put_policy(installation.admin, namespace, {"egress.default": "7M"})
    begin = time.monotonic()

    made = until(
        lambda: installation.admin.http.post(path, params={"dryRun": "All"}, json=pod()).json(),
        lambda found: ours(found) == limits("namespace", egress=7_000_000),
    )

    print(f"policy in force after {time.monotonic() - begin:.3f} s")
    assert ours(made)


def test_a_policy_that_got_bad_anyway_leaves_the_last_good_one_in_force(
    installation: Installation, namespace: str
) -> None:
    """With a metric and an Event that say so."""
    admin, replica = installation.admin, installation.replicas[0]
    installation.set_policy(namespace, {"egress.max": "50M"})
    configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    removed = admin.get(f"{configuration}/podpace")
    admin.delete(f"{configuration}/podpace")
    bad = {"metadata": {"name": "podpace-policy"}, "data": {"egress.max": "a lot"}}
    mark = len(replica.log)

    until(
        lambda: (
            admin.http.put(
                f"/api/v1/namespaces/{namespace}/configmaps/podpace-policy", json=bad
            ).status_code
        ),
        lambda status: status == 200,
    )

    replica.wait_log(lambda e: e["event"] == "policy seen" and e["problems"], start=mark)
    refused = admin.http.post(f"/api/v1/namespaces/{namespace}/pods", json=pod({EGRESS: "60M"}))
    assert refused.status_code == 403
    bad = f'podpace_policy_bad{{namespace="{namespace}",policy="podpace-policy"}}'
    assert replica.metric(bad) == 1
    events = until(
        lambda: admin.get(f"/api/v1/namespaces/{namespace}/events")["items"],
        lambda found: any(e["reason"] == "BadPolicy" for e in found),
    )
    assert "last good policy stays in force" in events[-1]["message"]
    del removed["metadata"]["resourceVersion"], removed["metadata"]["uid"]
    admin.create(configuration, removed)
    installation.set_policy(namespace, {"egress.max": "70M"})
    assert replica.metric(bad) == 0


def test_an_ignored_namespace_is_left_alone(installation: Installation) -> None:
    """The label that takes a namespace out."""
    admin, name = installation.admin, "ignored"
    admin.create(
        "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"podpace.io/ignore": "true"}}}
    )

    made = admin.create(f"/api/v1/namespaces/{name}/pods", pod({EGRESS: "10M"}, name="a"))

    assert ours(made) == {}
    admin.delete(f"/api/v1/namespaces/{name}")


_paying = count()


@pytest.fixture
def tiers(installation: Installation) -> Iterator[str]:
    """Free and trial namespaces have 10 Mbit/s; this one pays."""
    admin, name = installation.admin, f"paying-{next(_paying)}"
    metadata = {"name": name, "labels": {"tier": "paid"}}
    admin.create("/api/v1/namespaces", {"metadata": metadata})
    free = {
        "namespace-selector": "tier in (free,trial)",
        "priority": "10",
        "egress.max": "10M",
        "on-violation": "clamp",
    }
    installation.set_policy(RELEASE_NAMESPACE, free, "free-tier")
    yield name
    admin.delete(f"/api/v1/namespaces/{name}")
    installation.set_policy(RELEASE_NAMESPACE, None, "free-tier")


def _relabel(installation: Installation, namespace: str, tier: str) -> None:
    body = {"metadata": {"labels": {"tier": tier}}}
    installation.admin.patch(f"/api/v1/namespaces/{namespace}", body)


def _explain(installation: Installation, namespace: str, name: str) -> str:
    kubeconfig = installation.plane.kubeconfig("admin")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "client.kube", "explain", name, f"--namespace={namespace}"),
            f"--kubeconfig={kubeconfig}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"},
    )
    return done.stdout


def test_a_namespace_that_gets_another_label_gets_other_bounds(
    installation: Installation, tiers: str
) -> None:
    """New pods at once, running ones by the audit; ``explain`` names the ConfigMap."""
    admin, path = installation.admin, f"/api/v1/namespaces/{tiers}/pods"
    until(
        lambda: ours(admin.http.post(path, params={"dryRun": "All"}, json=pod()).json()),
        lambda labels: labels == {},
    )
    running = ours(admin.create(path, pod({EGRESS: "50M"}, name="running")))
    before = _explain(installation, tiers, "running")
    audit = installation.add_replica("--audit-seconds=0.5", "--drain-seconds=0")

    begin = time.monotonic()
    _relabel(installation, tiers, "trial")
    until(
        lambda: ours(admin.http.post(path, params={"dryRun": "All"}, json=pod()).json()),
        lambda labels: labels == limits("cluster", egress=10_000_000),
    )
    print(f"a new label counts for new pods after {time.monotonic() - begin:.3f} s")
    until(
        lambda: ours(admin.get(f"{path}/running")),
        lambda labels: labels == limits(egress=10_000_000),
    )
    print(f"and for running pods after {time.monotonic() - begin:.3f} s")
    after = _explain(installation, tiers, "running")
    _relabel(installation, tiers, "paid")
    until(lambda: ours(admin.get(f"{path}/running")), lambda labels: labels == running)
    installation.remove_replica(audit)

    assert running == limits(egress=50_000_000)
    assert "egress  50 Mbit/s: the pod asks for it" in before
    assert "free-tier" not in before
    why = "is above the cluster's maximum (free-tier in podpace-system), and was brought down to it"
    assert f"egress  10 Mbit/s: {EGRESS} {why}" in after
    assert any(
        line.split() == ["egress.max", "10", "Mbit/s", "free-tier", "in", RELEASE_NAMESPACE]
        for line in after.splitlines()
    )


def test_the_first_pod_of_a_new_namespace_is_not_without_its_bound(
    installation: Installation, tiers: str
) -> None:
    """It may be reviewed before the namespace's labels have come."""
    admin = installation.admin
    for n in range(10):
        name = f"new-{n}"
        metadata = {"name": name, "labels": {"tier": "free"}}
        admin.create("/api/v1/namespaces", {"metadata": metadata})
        made = admin.create(f"/api/v1/namespaces/{name}/pods", pod({EGRESS: "50M"}, name="first"))
        admin.delete(f"/api/v1/namespaces/{name}")

        assert ours(made) == limits(egress=10_000_000)
