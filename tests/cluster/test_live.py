"""What happens to pods after they are made, and to pods that controllers make."""

import json

import kubernetes.client
import kubernetes.config
import pytest
import yaml

from tests.cluster.cases import Json, limits
from tests.cluster.client import Client
from tests.cluster.helpers import EGRESS, EGRESS_LABEL, ours, until
from tests.cluster.install import (
    KUBELET_USER,
    Installation,
    pod,
)


def test_annotating_a_running_pod_changes_its_limit(
    installation: Installation, limited: str
) -> None:
    """``kubectl annotate`` is a live change."""
    name = limited.rpartition("/")[2]

    done = installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}=20M", "--overwrite")

    assert done.returncode == 0, done.stderr
    assert ours(installation.admin.get(limited)) == limits(egress=20_000_000)


def test_removing_the_annotation_removes_the_limit(
    installation: Installation, limited: str
) -> None:
    """Labels follow the annotations, to nothing as well."""
    name = limited.rpartition("/")[2]

    installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}-")

    assert ours(installation.admin.get(limited)) == {}


def test_a_bad_live_change_is_refused_and_the_limit_stays(
    installation: Installation, limited: str
) -> None:
    """What kubectl prints says what to write instead."""
    name = limited.rpartition("/")[2]

    done = installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}=20Mbps", "--overwrite")

    assert done.returncode == 1
    assert 'podpace.io/egress-bandwidth: "20Mbps" has a unit in it' in done.stderr
    assert ours(installation.admin.get(limited)) == limits(egress=10_000_000)


@pytest.mark.parametrize("value", ["99", None])
def test_a_label_edited_by_hand_is_undone_in_the_same_request(
    admin: Client, limited: str, value: str | None
) -> None:
    """Changed or removed: the answer to the edit already carries the old label."""
    edited = admin.patch(limited, {"metadata": {"labels": {EGRESS_LABEL: value}}})

    assert ours(edited) == limits(egress=10_000_000)


def test_a_pod_full_of_annotations_is_guarded_like_any_other(admin: Client, namespace: str) -> None:
    """Its size neither takes it past us nor holds up the kubelet's status for seconds."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    # As many as fit in the 256 KiB that a pod's annotations may have.
    many = {f"a{n:05}": "x" for n in range(37_000)}
    admin.create(path, pod(many | {EGRESS: "10M"}, name="full"))

    edited = admin.patch(f"{path}/full", {"metadata": {"labels": {EGRESS_LABEL: "1"}}})
    running = admin.patch(f"{path}/full/status", {"status": {"phase": "Running"}})

    assert ours(edited) == limits(egress=10_000_000)
    assert running["status"]["phase"] == "Running"


def test_an_exemption_written_by_hand_is_undone(admin: Client, limited: str) -> None:
    """Only the policy exempts networks."""
    edit = {"metadata": {"annotations": {"podpace.io/exempt-cidrs": "0.0.0.0/0"}}}

    assert "exempt-cidrs" not in ours(admin.patch(limited, edit), "annotations")


def test_updates_of_other_keys_never_reach_the_webhook(
    installation: Installation, limited: str
) -> None:
    """The API server's own conditions keep them away."""
    replica = installation.replicas[0]
    series = 'podpace_admission_requests_total{operation="UPDATE",result="allowed",route="mutate"}'
    before = replica.metric(series)

    installation.admin.patch(limited, {"metadata": {"labels": {"app": "x"}}})
    installation.admin.patch(f"{limited}/status", {"status": {"phase": "Running"}})
    untouched = replica.metric(series)
    installation.admin.patch(limited, {"metadata": {"labels": {EGRESS_LABEL: "1"}}})

    assert untouched == before
    assert replica.metric(series) == before + 1


def test_mirror_pods_are_left_alone(installation: Installation, namespace: str) -> None:
    """They are images of files on a node, and nobody could change them."""
    installation.set_policy(namespace, {"require": "both"})
    mirror = pod({"kubernetes.io/config.mirror": "x", EGRESS: "10M"}, name="etcd-node-1")
    mirror["spec"]["nodeName"] = "node-1"
    mirror["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "x", "controller": True}
    ]
    node = installation.admin.create("/api/v1/nodes", {"metadata": {"name": "node-1"}})
    mirror["metadata"]["ownerReferences"][0]["uid"] = node["metadata"]["uid"]

    with installation.plane.client(KUBELET_USER) as kubelet:
        made = kubelet.create(f"/api/v1/namespaces/{namespace}/pods", mirror)

    assert ours(made) == {}
    installation.admin.delete("/api/v1/nodes/node-1")


def _deployment(annotations: dict[str, str]) -> Json:
    template = pod(annotations)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": annotations},
                "spec": template["spec"],
            },
        },
    }


def test_pods_of_a_real_deployment_are_limited(installation: Installation, namespace: str) -> None:
    """Deployment, ReplicaSet controller, generateName and a namespace default together."""
    installation.set_policy(namespace, {"ingress.default": "5M"})
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    installation.admin.create(path, _deployment({EGRESS: "10M"}))

    for _ in range(3):
        installation.replicas[0].wait_log(
            lambda e: e["event"] == "pod reviewed" and e["namespace"] == namespace
        )
    pods = until(
        lambda: installation.admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"],
        lambda found: len(found) == 3,
    )
    assert {json.dumps(ours(p), sort_keys=True) for p in pods} == {
        json.dumps(limits(ingress=5_000_000, egress=10_000_000), sort_keys=True)
    }


def test_a_refused_template_is_told_in_the_events_of_its_replicaset(
    installation: Installation, namespace: str
) -> None:
    """The author of a Deployment reads the reason where they look for it."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    installation.admin.create(path, _deployment({EGRESS: "10Mbps"}))

    events = until(
        lambda: installation.admin.get(f"/api/v1/namespaces/{namespace}/events")["items"],
        lambda found: any(e["reason"] == "FailedCreate" for e in found),
    )
    failed = next(e for e in events if e["reason"] == "FailedCreate")
    assert 'podpace.io/egress-bandwidth: "10Mbps" has a unit in it' in failed["message"]


def test_a_dry_run_shows_the_labels_and_counts_nothing(
    installation: Installation, namespace: str
) -> None:
    """``kubectl create --dry-run=server``."""
    series = 'podpace_admission_limits_total{source="pod"}'
    before = installation.replicas[0].metric(series)
    manifest = yaml.safe_dump(pod({EGRESS: "10M"}, name="dry"))

    done = installation.plane.kubectl(
        *("create", "-n", namespace, "-f", "-", "--dry-run=server", "-o", "json"), stdin=manifest
    )

    assert ours(json.loads(done.stdout)) == limits(egress=10_000_000)
    assert installation.admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
    assert installation.replicas[0].metric(series) == before


def test_the_typed_python_client_sees_the_same(installation: Installation, namespace: str) -> None:
    """A second caller that people use."""
    kubeconfig = str(installation.plane.kubeconfig("dev"))
    with kubernetes.config.new_client_from_config(kubeconfig) as client:
        api = kubernetes.client.CoreV1Api(client)

        made = api.create_namespaced_pod(namespace, pod({EGRESS: "10M"}, name="typed"))

    assert made.metadata.labels[EGRESS_LABEL] == "10000000"
