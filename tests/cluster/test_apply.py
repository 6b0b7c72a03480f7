"""Server-side apply by one and by two managers, and the guard of status."""

from tests.cluster.cases import limits
from tests.cluster.client import Client, Json
from tests.cluster.helpers import EGRESS, EGRESS_LABEL, ours, until
from tests.cluster.install import WEBHOOK_USER, Installation, pod


def test_two_managers_apply_without_conflict_and_without_endless_rewriting(
    admin: Client, namespace: str
) -> None:
    """Server-side apply of the same pod again and again changes nothing, not even its version."""
    path = f"/api/v1/namespaces/{namespace}/pods/ssa"
    first = pod({EGRESS: "10M"}, name="ssa")
    second = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ssa", "annotations": {"podpace.io/ingress-bandwidth": "5M"}},
    }
    assert admin.apply(path, first, "team").status_code == 201
    assert admin.apply(path, second, "platform").status_code == 200

    versions = set()
    for _ in range(5):
        for body, manager in ((first, "team"), (second, "platform")):
            response = admin.apply(path, body, manager)
            assert response.status_code == 200, response.text
            versions.add(response.json()["metadata"]["resourceVersion"])

    assert len(versions) == 1
    assert ours(response.json()) == limits(ingress=5_000_000, egress=10_000_000)


def test_a_manager_that_applies_a_label_of_ours_is_overruled_without_endless_rewriting(
    admin: Client, namespace: str
) -> None:
    """Its apply succeeds, the label follows the annotation, and the version comes to rest."""
    path = f"/api/v1/namespaces/{namespace}/pods/stubborn"
    body = pod({EGRESS: "10M"}, name="stubborn", labels={EGRESS_LABEL: "1"})

    responses = [admin.apply(path, body, "stubborn") for _ in range(5)]

    assert all(r.is_success for r in responses)
    assert {ours(r.json())["egress-bits-per-second"] for r in responses} == {"10000000"}
    assert (
        responses[-1].json()["metadata"]["resourceVersion"]
        == (responses[-2].json()["metadata"]["resourceVersion"])
    )


def test_take_over_follows_a_later_edit_of_the_standard_key(
    installation: Installation, namespace: str
) -> None:
    """Somebody who only knows the standard key still changes the limit, and no plugin sees it."""
    installation.set_policy(namespace, {"take-over": "true"})
    path = f"/api/v1/namespaces/{namespace}/pods/moved"
    standard = "kubernetes.io/egress-bandwidth"
    installation.admin.apply(path, pod({standard: "10M"}, name="moved"), "team")

    response = installation.admin.apply(path, pod({standard: "20M"}, name="moved"), "team")
    again = installation.admin.apply(path, pod({standard: "20M"}, name="moved"), "team")

    assert ours(response.json()) == limits(egress=20_000_000)
    assert response.json()["metadata"]["annotations"] == {EGRESS: "20M"}
    # A second later the API server writes a new time among the managed fields, and the scheduler
    # a condition, and nothing else.
    assert _without_bookkeeping(again.json()) == _without_bookkeeping(response.json())


def _without_bookkeeping(found: Json) -> Json:
    dropped = {"managedFields", "resourceVersion"}
    metadata = {k: v for k, v in found["metadata"].items() if k not in dropped}
    return found | {"metadata": metadata, "status": None}


def test_the_guard_keeps_labels_and_condition_from_writers_of_status(
    installation: Installation, limited: str
) -> None:
    """``pods/status`` could change labels; the ValidatingAdmissionPolicy refuses that."""
    admin, status = installation.admin, f"{limited}/status"
    condition = {"type": "podpace.io/BandwidthEnforced", "status": "True", "reason": "Enforced"}

    def refused() -> str:
        response = admin.try_patch(
            status,
            {"metadata": {"labels": {EGRESS_LABEL: "1"}}, "status": {}},
            "strategic-merge-patch+json",
        )
        return response.text if response.status_code == 422 else ""

    # The API server takes a moment to compile a new policy.
    assert "follow from the annotations" in until(refused, bool)
    by_hand = admin.try_patch(
        status, {"status": {"conditions": [condition]}}, "strategic-merge-patch+json"
    )
    assert "only the enforcer says" in by_hand.text
    assert admin.patch(status, {"status": {"phase": "Running"}})["status"]["phase"] == "Running"


def test_the_webhooks_account_reads_policies_and_no_other_config_map(
    installation: Installation,
) -> None:
    """What the chart's roles allow is what the webhook needs."""
    with installation.plane.client(WEBHOOK_USER) as webhook:
        allowed = webhook.http.get(
            "/api/v1/configmaps", params={"fieldSelector": "metadata.name=podpace-policy"}
        )
        refused = webhook.http.get("/api/v1/configmaps")

    assert (allowed.status_code, refused.status_code) == (200, 403)
