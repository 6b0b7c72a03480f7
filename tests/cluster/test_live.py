"""What happens to pods after they are made: edits, server-side apply, policies that change."""

import json
import time
from collections.abc import Iterator

import kubernetes.client
import kubernetes.config
import pytest
import yaml

from tests.cluster.cases import Json, limits
from tests.cluster.install import CHART, KUBELET_USER, Installation, pod, put_policy, render
from tests.cluster.plane import Client, warnings

PODS = "/api/v1/namespaces/default/pods"
EGRESS = "podpace.io/egress-bandwidth"
EGRESS_LABEL = "podpace.io/egress-bits-per-second"
_names = iter(range(10**6))


@pytest.fixture
def admin(installation: Installation) -> Client:
    """An administrator."""
    return installation.admin


@pytest.fixture
def namespace(installation: Installation) -> Iterator[str]:
    """A namespace of its own; its policy goes with it."""
    name = f"live-{next(_names)}"
    installation.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    installation.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def limited(admin: Client) -> Iterator[str]:
    """The path of a pod with 10 Mbit/s of egress."""
    made = admin.create(PODS, pod({EGRESS: "10M"}))
    path = f"{PODS}/{made['metadata']['name']}"
    yield path
    admin.delete(path)


def _ours(found: Json, what: str = "labels") -> dict[str, str]:
    items = found["metadata"].get(what, {}).items()
    return {k.removeprefix("podpace.io/"): v for k, v in items if k.startswith("podpace.io/")}


def test_annotating_a_running_pod_changes_its_limit(
    installation: Installation, limited: str
) -> None:
    """``kubectl annotate`` is a live change."""
    name = limited.rpartition("/")[2]

    done = installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}=20M", "--overwrite")

    assert done.returncode == 0, done.stderr
    assert _ours(installation.admin.get(limited)) == limits(egress=20_000_000)


def test_removing_the_annotation_removes_the_limit(
    installation: Installation, limited: str
) -> None:
    """Labels follow the annotations, to nothing as well."""
    name = limited.rpartition("/")[2]

    installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}-")

    assert _ours(installation.admin.get(limited)) == {}


def test_a_bad_live_change_is_refused_and_the_limit_stays(
    installation: Installation, limited: str
) -> None:
    """What kubectl prints says what to write instead."""
    name = limited.rpartition("/")[2]

    done = installation.plane.kubectl("annotate", "pod", name, f"{EGRESS}=20Mbps", "--overwrite")

    assert done.returncode == 1
    assert 'podpace.io/egress-bandwidth: "20Mbps" has a unit in it' in done.stderr
    assert _ours(installation.admin.get(limited)) == limits(egress=10_000_000)


@pytest.mark.parametrize("value", ["99", None])
def test_a_label_edited_by_hand_is_undone_in_the_same_request(
    admin: Client, limited: str, value: str | None
) -> None:
    """Changed or removed: the answer to the edit already carries the old label."""
    edited = admin.patch(limited, {"metadata": {"labels": {EGRESS_LABEL: value}}})

    assert _ours(edited) == limits(egress=10_000_000)


def test_an_exemption_written_by_hand_is_undone(admin: Client, limited: str) -> None:
    """Only the policy exempts networks."""
    edit = {"metadata": {"annotations": {"podpace.io/exempt-cidrs": "0.0.0.0/0"}}}

    assert "exempt-cidrs" not in _ours(admin.patch(limited, edit), "annotations")


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
    assert _ours(response.json()) == limits(ingress=5_000_000, egress=50_000_000)
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

    assert _ours(made) == {}
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
    pods = _until(
        lambda: installation.admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"],
        lambda found: len(found) == 3,
    )
    assert {json.dumps(_ours(p), sort_keys=True) for p in pods} == {
        json.dumps(limits(ingress=5_000_000, egress=10_000_000), sort_keys=True)
    }


def test_a_refused_template_is_told_in_the_events_of_its_replicaset(
    installation: Installation, namespace: str
) -> None:
    """The author of a Deployment reads the reason where they look for it."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"

    installation.admin.create(path, _deployment({EGRESS: "10Mbps"}))

    events = _until(
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

    assert _ours(json.loads(done.stdout)) == limits(egress=10_000_000)
    assert installation.admin.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
    assert installation.replicas[0].metric(series) == before


def test_the_typed_python_client_sees_the_same(installation: Installation, namespace: str) -> None:
    """A second caller that people use."""
    kubeconfig = str(installation.plane.kubeconfig("dev"))
    with kubernetes.config.new_client_from_config(kubeconfig) as client:
        api = kubernetes.client.CoreV1Api(client)

        made = api.create_namespaced_pod(namespace, pod({EGRESS: "10M"}, name="typed"))

    assert made.metadata.labels[EGRESS_LABEL] == "10000000"


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
    _until(
        lambda: admin.http.get(f"/api/v1/namespaces/{name}").status_code,
        lambda status: status == 404,
    )
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    assert _ours(admin.create(f"/api/v1/namespaces/{name}/pods", pod(name="a"))) == {}
    admin.delete(f"/api/v1/namespaces/{name}")


def test_a_policy_is_in_force_at_once(installation: Installation, namespace: str) -> None:
    """No restart and no waiting: the time it takes is printed, and bounded by the helper."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    put_policy(installation.admin, namespace, {"egress.default": "7M"})
    begin = time.monotonic()

    made = _until(
        lambda: installation.admin.http.post(path, params={"dryRun": "All"}, json=pod()).json(),
        lambda found: _ours(found) == limits("namespace", egress=7_000_000),
    )

    print(f"policy in force after {time.monotonic() - begin:.3f} s")
    assert _ours(made)


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

    _until(
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
    assert replica.metric(f'podpace_policy_bad{{namespace="{namespace}"}}') == 1
    events = _until(
        lambda: admin.get(f"/api/v1/namespaces/{namespace}/events")["items"],
        lambda found: any(e["reason"] == "BadPolicy" for e in found),
    )
    assert "last good policy stays in force" in events[-1]["message"]
    del removed["metadata"]["resourceVersion"], removed["metadata"]["uid"]
    admin.create(configuration, removed)
    installation.set_policy(namespace, {"egress.max": "70M"})
    assert replica.metric(f'podpace_policy_bad{{namespace="{namespace}"}}') == 0


def test_an_ignored_namespace_is_left_alone(installation: Installation) -> None:
    """The label that takes a namespace out."""
    admin, name = installation.admin, "ignored"
    admin.create(
        "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"podpace.io/ignore": "true"}}}
    )

    made = admin.create(f"/api/v1/namespaces/{name}/pods", pod({EGRESS: "10M"}, name="a"))

    assert _ours(made) == {}
    admin.delete(f"/api/v1/namespaces/{name}")


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
    assert _ours(response.json()) == limits(ingress=5_000_000, egress=10_000_000)


def test_a_manager_that_applies_a_label_of_ours_is_overruled_without_endless_rewriting(
    admin: Client, namespace: str
) -> None:
    """Its apply succeeds, the label follows the annotation, and the version comes to rest."""
    path = f"/api/v1/namespaces/{namespace}/pods/stubborn"
    body = pod({EGRESS: "10M"}, name="stubborn", labels={EGRESS_LABEL: "1"})

    responses = [admin.apply(path, body, "stubborn") for _ in range(5)]

    assert all(r.is_success for r in responses)
    assert {_ours(r.json())["egress-bits-per-second"] for r in responses} == {"10000000"}
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

    assert _ours(response.json()) == limits(egress=20_000_000)
    assert response.json()["metadata"]["annotations"] == {EGRESS: "20M"}
    assert (
        again.json()["metadata"]["resourceVersion"]
        == (response.json()["metadata"]["resourceVersion"])
    )


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
    assert "follow from the annotations" in _until(refused, bool)
    by_hand = admin.try_patch(
        status, {"status": {"conditions": [condition]}}, "strategic-merge-patch+json"
    )
    assert "only the enforcer says" in by_hand.text
    assert admin.patch(status, {"status": {"phase": "Running"}})["status"]["phase"] == "Running"


def test_the_webhooks_account_reads_policies_and_no_other_config_map(
    installation: Installation,
) -> None:
    """What the chart's roles allow is what the webhook needs."""
    from tests.cluster.install import WEBHOOK_USER

    with installation.plane.client(WEBHOOK_USER) as webhook:
        allowed = webhook.http.get(
            "/api/v1/configmaps", params={"fieldSelector": "metadata.name=podpace-policy"}
        )
        refused = webhook.http.get("/api/v1/configmaps")

    assert (allowed.status_code, refused.status_code) == (200, 403)


def test_every_manifest_is_rendered_by_these_tests() -> None:
    """A template that is never applied is never tested."""
    for template in sorted(p.name for p in CHART.glob("webhook-*.yaml")):
        assert all(document["kind"] for document in render(template))


def _until(read, good, seconds=30.0):  # type: ignore[no-untyped-def]
    """Polls an API that has no event for it."""
    until = time.monotonic() + seconds
    while True:
        found = read()
        if good(found):
            return found
        assert time.monotonic() < until, f"still {found}"
        time.sleep(0.02)
