"""Objects that are very large or very crowded: none is admitted unjudged, whatever fails open."""

import pytest

from tests.cluster.cases import limits
from tests.cluster.client import Client, warnings
from tests.cluster.helpers import EGRESS, EGRESS_LABEL, ours
from tests.cluster.install import Installation, pod

CROWD = {f"podpace.io/{n:05d}gress-bandwidt": "" for n in range(8700)}
GATE = {"conditionType": "podpace.io/BandwidthEnforced"}


@pytest.mark.parametrize("dry_run", ["", "?dryRun=All"])
def test_a_crowd_of_near_misses_is_refused_at_creation(
    admin: Client, namespace: str, dry_run: str
) -> None:
    """As many as fit into a valid pod."""
    path = f"/api/v1/namespaces/{namespace}/pods{dry_run}"

    answer = admin.http.post(path, json=pod(CROWD, name="crowd"))

    assert answer.status_code == 403
    assert "are more than 16 keys that podpace does not know" in answer.json()["message"]


def test_a_crowd_of_near_misses_is_refused_on_an_update(admin: Client, limited: str) -> None:
    """And the limit stays."""
    answer = admin.try_patch(limited, {"metadata": {"annotations": CROWD}})

    assert answer.status_code == 403
    assert ours(admin.get(limited)) == limits(egress=10_000_000)


def test_more_annotations_than_fit_are_refused_by_us_already(admin: Client, namespace: str) -> None:
    """Admission comes before the API server's own check."""
    many = {f"podpace.io/{n:06d}gress-bandwidt": "" for n in range(60_000)}

    answer = admin.http.post(f"/api/v1/namespaces/{namespace}/pods", json=pod(many, name="many"))

    assert answer.status_code == 403
    assert "has more labels or annotations than the API server takes" in answer.text


def test_a_pod_that_json_makes_six_times_as_long_is_judged(admin: Client, namespace: str) -> None:
    """Created, and edited: the review of the edit has both objects, and takes 3.4 MB and more."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    big = pod({EGRESS: "10M"}, name="big")
    big["spec"]["containers"][0]["env"] = [{"name": "X", "value": "<" * 800_000}]

    made = admin.create(path, big)
    edit = {"metadata": {"labels": {EGRESS_LABEL: None, "podpace.io/limited": None}}}
    edited = admin.patch(f"{path}/big", edit)

    assert ours(made) == limits(egress=10_000_000)
    assert ours(edited) == limits(egress=10_000_000)


def test_a_policy_of_very_many_keys_is_refused(admin: Client, namespace: str) -> None:
    """It would be read by every replica. Of many more the API server itself is busy for long."""
    data = {f"k{n:06d}": "" for n in range(14_000)}
    policy = {"metadata": {"name": "podpace-policy"}, "data": data}

    answer = admin.http.post(f"/api/v1/namespaces/{namespace}/configmaps", json=policy)

    assert answer.status_code == 403
    assert "is larger than 64 KiB" in answer.text


def test_a_newer_versions_policy_is_admitted_with_a_warning_and_its_known_part_is_in_force(
    installation: Installation, namespace: str
) -> None:
    """Helm writes it before the newer webhook runs, and a rollback leaves it behind."""
    data = {"egress.max": "5M", "egress.quota": "1G"}
    path = f"/api/v1/namespaces/{namespace}"
    policy = {"metadata": {"name": "podpace-policy"}, "data": data}

    answer = installation.admin.http.post(f"{path}/configmaps?dryRun=All", json=policy)
    installation.set_policy(namespace, data)
    newer = pod({"podpace.io/egress-quota": "1G"}, name="newer")
    made = installation.admin.http.post(f"{path}/pods", json=newer)

    assert "egress.quota is a key that this version of podpace does not know" in str(
        warnings(answer)
    )
    assert ours(made.json()) == limits(egress=5_000_000, source="namespace")
    assert "podpace.io/egress-quota is a key that podpace does not know" in str(warnings(made))


def test_the_author_of_a_deployment_is_warned_by_the_api_server(
    admin: Client, namespace: str
) -> None:
    """And the Deployment is there."""
    template = {"metadata": {"labels": {"a": "b"}, "annotations": {EGRESS: "10Mbps"}}}
    template["spec"] = pod()["spec"]
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployment = {"metadata": {"name": "web"}, "spec": spec}

    answer = admin.http.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", json=deployment)

    assert answer.status_code == 201
    assert "its pods will be refused" in str(warnings(answer))


def test_a_vain_gate_is_taken_off_and_in_a_namespace_that_is_left_out_it_is_warned_of(
    admin: Client, namespace: str
) -> None:
    """Nobody would open it in either."""
    ignored = {"metadata": {"name": f"{namespace}-free", "labels": {"podpace.io/ignore": "true"}}}
    admin.create("/api/v1/namespaces", ignored)
    gated = pod(name="gated")
    gated["spec"]["readinessGates"] = [GATE]

    judged = admin.http.post(f"/api/v1/namespaces/{namespace}/pods", json=gated)
    free = admin.http.post(f"/api/v1/namespaces/{namespace}-free/pods", json=gated)
    admin.delete(f"/api/v1/namespaces/{namespace}-free")

    assert not judged.json()["spec"].get("readinessGates")
    assert "the pod has no limit" in str(warnings(judged))
    assert free.json()["spec"]["readinessGates"] == [GATE]
    assert "this namespace is left out of podpace" in str(warnings(free))
