"""What ``podpace-webhook uninstall`` does, against an API server in memory."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract import names
from kube.errors import ApiError
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from tests.unit.webhook.limited import limited_pod
from webhook.kube.cleaning import judge, make_cleanup, never_started
from webhook.kube.uninstall import Uninstall
from webhook.kube.withdraw import withdraw_capacity

NAMESPACE = "podpace-system"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMPONENT = "app.kubernetes.io/component"
DAEMON_SET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/podpace-enforcer"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/podpace-webhook"
CONFIGURATIONS = [
    f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/podpace"
    for kind in ("mutating", "validating")
]


def daemon_set() -> Json:
    """As the chart makes it, where it matters."""
    container = {
        "name": "podpace-enforcer",
        "image": "podpace-enforcer:1",
        "args": ["--node-name=$(NODE_NAME)", "--socket=/run/podpace/enforcer.sock"],
        "ports": [{"containerPort": 9464}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9464}},
        "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
        "volumeMounts": [{"name": "run", "mountPath": "/run/podpace"}],
    }
    volume = {"name": "run", "hostPath": {"path": "/run/podpace", "type": "DirectoryOrCreate"}}
    return {
        "metadata": {
            "name": "podpace-enforcer",
            "uid": "u1",
            "generation": 1,
            "annotations": {"meta.helm.sh/release-name": "podpace"},
        },
        "spec": {"template": {"spec": {"containers": [container], "volumes": [volume]}}},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 2},
    }


def pod(node: str, *, cleaning: bool = True, ready: bool = False, **init: Any) -> Json:
    """One of the DaemonSet's pods."""
    return {
        "metadata": {"name": f"pod-{node}", "ownerReferences": [{"uid": "u1"}]},
        "spec": {"nodeName": node, "initContainers": [{"name": "cleanup"}] if cleaning else []},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [init] if init else [],
        },
    }


def after(updated: int, ready: int, nodes: int = 2) -> Json:
    """The DaemonSet once the controller has seen the change."""
    return make_cleanup(daemon_set()) | {
        "status": {
            "observedGeneration": 1,
            "desiredNumberScheduled": nodes,
            "updatedNumberScheduled": updated,
            "numberReady": ready,
        }
    }


def test_the_cleanup_has_the_rights_and_options_of_the_daemon_it_replaces() -> None:
    """Only ``--cleanup`` is added; probes, which would find nobody, are left out."""
    spec = make_cleanup(daemon_set())["spec"]["template"]["spec"]

    (cleanup,) = spec["initContainers"]
    daemon = daemon_set()["spec"]["template"]["spec"]["containers"][0]
    assert cleanup["args"] == [*daemon["args"], "--cleanup"]
    assert cleanup["securityContext"] == daemon["securityContext"]
    assert "readinessProbe" not in cleanup
    assert "readinessProbe" not in spec["containers"][0]


def test_the_cleanup_can_remove_the_runtime_folder_itself() -> None:
    """A mount point cannot be removed, so its parent is mounted, and no token in it."""
    spec = make_cleanup(daemon_set())["spec"]["template"]["spec"]

    assert spec["volumes"][0]["hostPath"]["path"] == "/run"
    assert spec["initContainers"][0]["volumeMounts"] == [{"name": "run", "mountPath": "/run"}]
    assert spec["automountServiceAccountToken"] is False


def test_cleaning_a_daemon_set_that_cleans_already_changes_nothing() -> None:
    """A second ``helm uninstall`` goes on where the first one stopped."""
    once = make_cleanup(daemon_set())

    assert make_cleanup(once) is once


def test_enforcers_that_are_ready_prove_nothing_before_the_change_is_seen() -> None:
    """Old pods are ready, too."""
    changed = make_cleanup(daemon_set())
    changed["metadata"]["generation"] = 2

    assert not judge(changed, []).done


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([pod("a", ready=True), pod("b", cleaning=False)], "b: the enforcer is still there"),
        ([pod("a", ready=True), pod("b")], "b: Pending"),
        ([pod("a", ready=True)], "1 nodes have no pod of the cleanup yet"),
        (
            [
                pod("a", ready=True),
                pod("b", lastState={"terminated": {"exitCode": 1, "message": "left: /x\n"}}),
            ],
            "b: cleanup failed: left: /x",
        ),
    ],
)
def test_each_node_that_is_not_clean_is_named_with_the_reason(pods: list[Json], said: str) -> None:
    """What the operator has to look at."""
    progress = judge(after(updated=2, ready=1), pods)

    assert not progress.done
    assert progress.waiting == (said,)


def test_a_cluster_without_nodes_is_clean() -> None:
    """Nothing was scheduled, nothing is left."""
    assert judge(after(updated=0, ready=0, nodes=0), []).done


class Nodes(FakeApi):
    """A DaemonSet controller: each look at the DaemonSet lets one more node be clean."""

    def __init__(self, clean_at_most: int) -> None:
        super().__init__()
        self.clean_at_most = clean_at_most
        self.put(DAEMON_SET, daemon_set())
        for path in CONFIGURATIONS:
            self.put(path, {})

    def get(self, path: str) -> Json:
        """See the Protocol."""
        found = super().get(path)
        if path == DAEMON_SET and "initContainers" in found["spec"]["template"]["spec"]:
            assert not any(p in self.objects for p in CONFIGURATIONS), "pods could still be gated"
            clean = found["status"].get("updatedNumberScheduled", -1) + 1
            clean = min(clean, self.clean_at_most)
            found["status"] |= {"updatedNumberScheduled": clean, "numberReady": clean}
            self.put(path, found)
        return found


def run(
    cluster: FakeApi, pause: Callable[[float], None] = lambda _: None
) -> tuple[bool, list[str]]:
    """The result and what was said; the clock moves by the pauses."""
    said: list[str] = []
    moments = iter(range(1000))
    uninstall = Uninstall(
        cluster, NAMESPACE, "podpace", 20, said.append, pause, lambda: float(next(moments))
    )
    return uninstall.run(), said


def test_admission_stops_before_the_first_node_is_cleaned_and_all_nodes_are_waited_for() -> None:
    """The order, and the end."""
    done, said = run(Nodes(clean_at_most=2))

    assert done
    assert said[-1] == "2 of 2 nodes are clean"


def test_the_webhook_ends_before_pods_lose_their_labels() -> None:
    """Its audit would put them back."""
    cluster = Nodes(clean_at_most=2)
    scale = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/podpace-webhook/scale"
    webhook = f"/api/v1/namespaces/{NAMESPACE}/pods/podpace-webhook-1"
    limited = "/api/v1/namespaces/shop/pods/web"
    cluster.put(scale, {"spec": {"replicas": 2}})
    cluster.put(webhook, {"metadata": {"name": "1", "labels": {COMPONENT: "webhook"}}})
    cluster.put(limited, limited_pod())
    seen: list[bool] = []

    def end_the_webhook(_seconds: float) -> None:
        seen.append(names.LABEL_LIMITED in cluster.objects[limited]["metadata"]["labels"])
        if cluster.objects[scale]["spec"]["replicas"] == 0:
            cluster.objects.pop(webhook, None)

    done, _ = run(cluster, end_the_webhook)

    assert done
    assert seen[0]
    assert names.LABEL_LIMITED not in cluster.objects[limited]["metadata"]["labels"]


def test_a_condition_that_stays_is_waited_for_but_not_for_ever() -> None:
    """Its node's enforcer may be gone."""
    cluster = Nodes(clean_at_most=2)
    cluster.put("/api/v1/namespaces/shop/pods/web", limited_pod())

    done, said = run(cluster)

    assert done
    assert any("the conditions of 1 pods are still there: shop/web" in line for line in said)


def test_a_node_that_does_not_get_clean_fails_the_uninstall() -> None:
    """Nothing is removed then, and the text says how to go on."""
    done, said = run(Nodes(clean_at_most=1))

    assert not done
    assert "1 of 2 nodes are clean" in said[-2]
    assert "--no-hooks" in said[-1]


def test_an_api_server_that_fails_for_a_while_is_asked_again() -> None:
    """A hiccup does not leave nodes behind."""
    cluster = Nodes(clean_at_most=2)
    cluster.fail = ApiError("GET: refused", 503)

    def recover(_seconds: float) -> None:
        cluster.fail = None

    done, said = run(cluster, recover)

    assert done
    assert "refused" in said[0]


def test_without_enforcers_there_is_nothing_to_wait_for() -> None:
    """Somebody deleted the DaemonSet, or the installation had failed."""
    cluster = FakeApi()
    cluster.put(DEPLOYMENT, {"metadata": {"annotations": {"meta.helm.sh/release-name": "podpace"}}})
    cluster.put(f"{DEPLOYMENT}/scale", {"spec": {"replicas": 0}})

    done, said = run(cluster)

    assert done
    assert "there is no DaemonSet podpace-enforcer: no node to clean" in said


@pytest.mark.parametrize("what", ["the DaemonSet", "the Deployment", "nothing yet"])
def test_nothing_is_done_where_helm_has_not_installed_it(what: str) -> None:
    """Somebody rendered the chart and applied all of it, this Job as well: limits stay."""
    cluster = Nodes(clean_at_most=2)
    cluster.put(DEPLOYMENT, {"metadata": {"annotations": {"meta.helm.sh/release-name": "podpace"}}})
    cluster.put("/api/v1/namespaces/shop/pods/web", limited_pod())
    if what == "the DaemonSet":
        del cluster.objects[DAEMON_SET]["metadata"]["annotations"]
    elif what == "the Deployment":
        cluster.objects[DEPLOYMENT]["metadata"]["annotations"] = {"argocd": "x"}
    else:
        del cluster.objects[DAEMON_SET], cluster.objects[DEPLOYMENT]
    before = dict(cluster.objects)

    done, said = run(cluster)

    assert done
    assert cluster.objects == before
    assert "Helm has not installed this" in said[0]


def enforcer_pod(
    node: str, *, started: bool, age_seconds: float = 3600, bound: bool = True
) -> Json:
    """One of the DaemonSet's pods before the uninstall."""
    made = pod(node, cleaning=False)
    created = NOW - timedelta(seconds=age_seconds)
    made["metadata"]["creationTimestamp"] = created.isoformat().replace("+00:00", "Z")
    if started:
        made["status"]["startTime"] = "2026-01-01T00:00:00Z"
    if not bound:
        del made["spec"]["nodeName"]
        field = {"key": "metadata.name", "operator": "In", "values": [node]}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        made["spec"]["affinity"] = {"nodeAffinity": required}
    return made


def test_nodes_where_no_enforcer_ever_started_are_not_waited_for() -> None:
    """A virtual node takes no such pod, a full one has no room for it: nothing of ours is there."""
    pods = [
        enforcer_pod("real", started=True),
        enforcer_pod("virtual", started=False),
        enforcer_pod("full", started=False, bound=False),
        enforcer_pod("new", started=False, age_seconds=5),
    ]
    assert never_started(daemon_set(), pods, NOW) == ("full", "virtual")
    cleaner = make_cleanup(daemon_set(), ("full", "virtual"))
    cleaner["status"] |= {
        "desiredNumberScheduled": 4,
        "numberReady": 1,
        "updatedNumberScheduled": 4,
    }
    cleaning = [*pods[1:3], pod("real", ready=True), pod("new")]

    progress = judge(cleaner, cleaning)

    assert (progress.clean, progress.nodes) == (1, 2)
    assert progress.waiting == ("new: Pending",)
    cleaner["status"]["numberReady"] = 2
    assert judge(cleaner, cleaning).done


def test_a_node_that_got_room_meanwhile_is_waited_for() -> None:
    """Its kubelet has taken up the cleanup."""
    cleaner = make_cleanup(daemon_set(), ("full",))
    cleaner["status"] |= {"numberReady": 1, "updatedNumberScheduled": 2}
    late = pod("full")
    late["status"]["startTime"] = "2026-01-01T00:00:00Z"

    assert not judge(cleaner, [pod("real", ready=True), late]).done


def test_what_the_scheduler_was_told_is_taken_off_every_node() -> None:
    """And nothing else of a Node; a second run has nothing to say."""
    api, said = FakeApi(), list[str]()
    capacity = {"cpu": "4", "podpace.io/egress": "1G", "podpace.io/ingress": "1G"}
    for name, found in (("a", capacity), ("b", {"cpu": "4"}), ("c", {"podpace.io/egress": "2G"})):
        api.put(
            f"/api/v1/nodes/{name}", {"metadata": {"name": name}, "status": {"capacity": found}}
        )

    for _ in range(2):
        withdraw_capacity(api, said.append)

    left = [api.get(f"/api/v1/nodes/{name}")["status"]["capacity"] for name in "abc"]
    assert left == [{"cpu": "4"}, {"cpu": "4"}, {}]
    assert said == ["the scheduler has no bandwidth of 2 nodes to give any more"]
