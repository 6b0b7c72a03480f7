"""The chart on a real API server: what it renders is taken, installed, upgraded and removed."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import CHART, NAMESPACE, RELEASE, objects, template
from tests.chart.matrix import MATRIX
from tests.cluster.build import HELMS
from tests.cluster.client import Client, Json
from tests.cluster.helpers import PODS, until
from tests.cluster.install import USERS, pod
from tests.cluster.plane import DIES_WITH_US, ControlPlane
from tests.docs.pages import ROOT, Reader

FOREIGN: Final = ("monitoring.coreos.com/", "cert-manager.io/", "security.openshift.io/")
"""Kinds that other projects define."""
NODES: Final = ("node-a", "node-b")
LINUX: Final = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
UNINSTALLER: Final = f"system:serviceaccount:{NAMESPACE}:podpace-uninstall"
_DAEMON_SETS: Final = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
_POLICY: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps/podpace-policy"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane on which nothing is installed, with two nodes that nobody runs."""
    users = USERS | {UNINSTALLER: ("system:serviceaccounts",)}
    plane = ControlPlane(Path(tmp_path_factory.mktemp("bare")), users)
    try:
        plane.start()
        with plane.client() as admin:
            admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            for name in NODES:
                _add_node(admin, name)
        yield plane
    finally:
        plane.stop()


def _add_node(admin: Client, name: str) -> None:
    path = "/api/v1/nodes"
    admin.create(path, {"metadata": {"name": name, "labels": LINUX}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    ready = {"type": "Ready", "status": "True"}
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    admin.patch(f"{path}/{name}/status", {"status": status})
    # New nodes are tainted until a controller, which does not run here, has seen them.
    admin.patch(f"{path}/{name}", {"spec": {"taints": None}})


def helm(
    plane: ControlPlane, *arguments: str, program: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """As an administrator runs it."""
    return subprocess.run(
        [str(plane.bin / program), *arguments, f"--namespace={NAMESPACE}"],
        capture_output=True,
        text=True,
        timeout=180,
        env={
            "HOME": str(plane.folder),
            "KUBECONFIG": str(plane.kubeconfig("admin")),
            "PATH": "/usr/bin:/bin",
        },
        check=False,
    )


@pytest.mark.parametrize("values", [pytest.param(v, id=k) for k, v in MATRIX.items()])
def test_the_api_server_takes_every_object_strictly(
    bare: ControlPlane, values: dict[str, Any]
) -> None:
    """Unknown fields, wrong types and CEL that does not compile are refused by it."""
    rendered = [o for o in objects(values) if not o["apiVersion"].startswith(FOREIGN)]
    namespaces = {o["metadata"].get("namespace", "default") for o in rendered}
    for namespace in namespaces - {"default", NAMESPACE}:
        bare.kubectl("create", "namespace", namespace)

    done = bare.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(rendered),
    )

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert len(done.stdout.splitlines()) == len(rendered)


class Kubelets:
    """Plays the nodes: pods that are bound become ready; those of the chart's Jobs are run here."""

    def __init__(self, plane: ControlPlane, dirty: str = "") -> None:
        """``dirty`` is a node whose cleanup fails."""
        self._plane = plane
        self._dirty = dirty
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._jobs: dict[str, subprocess.Popen[str]] = {}
        self.uninstall = ""
        """What the uninstall Job printed."""
        self.review = ""
        """What the Job printed that judges policies."""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Kubelets":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._failure is None, self._failure

    def _run(self) -> None:
        try:
            with self._plane.client() as admin:
                while not self._stop.wait(0.2):
                    for pod in admin.get(_PODS)["items"]:
                        self._tend(admin, pod)
        except BaseException as failure:
            self._failure = failure

    def _tend(self, admin: Client, pod: Json) -> None:
        path = f"{_PODS}/{pod['metadata']['name']}"
        status = pod["status"]
        if pod["metadata"].get("deletionTimestamp"):
            admin.delete(path)
        elif not pod["spec"].get("nodeName") or status["phase"] in ("Succeeded", "Failed"):
            return
        elif pod["metadata"]["labels"].get("app.kubernetes.io/component") in (
            "uninstall",
            "policy-review",
        ):
            self._tend_job(admin, path, pod)
        elif status["phase"] == "Pending":
            admin.patch(f"{path}/status", {"status": self._started(pod)})

    def _started(self, pod: Json) -> Json:
        if pod["spec"].get("initContainers") and pod["spec"]["nodeName"] == self._dirty:
            ended = {"exitCode": 1, "message": "left: /sys/fs/bpf/podpace", "reason": "Error"}
            failed = {
                "name": "cleanup",
                "ready": False,
                "restartCount": 1,
                "image": "",
                "imageID": "",
            }
            return {
                "phase": "Pending",
                "initContainerStatuses": [failed | {"state": {"terminated": ended}}],
            }
        return {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}

    def _tend_job(self, admin: Client, path: str, pod: Json) -> None:
        """Beside the other pods, which it waits for."""
        process = self._jobs.get(pod["metadata"]["uid"])
        if process is None:
            self._jobs[pod["metadata"]["uid"]] = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, "-m", "webhook", *self._arguments(admin, pod)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        elif process.poll() is not None:
            printed, _ = process.communicate()
            if container_of(pod) == "review":
                self.review = printed
            else:
                self.uninstall = printed
            phase = "Failed" if process.returncode else "Succeeded"
            admin.patch(f"{path}/status", {"status": {"phase": phase}})

    def _arguments(self, admin: Client, pod: Json) -> list[str]:
        """With the folders of its ConfigMaps where they can be read, and its account."""
        (container,) = pod["spec"]["containers"]
        arguments: list[str] = container["args"]
        if container["name"] == "uninstall":
            return [*arguments, f"--kubeconfig={self._plane.kubeconfig(UNINSTALLER)}"]
        for volume in pod["spec"]["volumes"]:
            folder = Path(tempfile.mkdtemp(dir=self._plane.folder))
            path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{volume['configMap']['name']}"
            for name, text in admin.get(path)["data"].items():
                (folder / name).write_text(text)
            (mount,) = (m for m in container["volumeMounts"] if m["name"] == volume["name"])
            mounted = f"{mount['mountPath']}/"
            arguments = [a.replace(mounted, f"{folder}/", 1) for a in arguments]
        return arguments


def container_of(pod: Json) -> str:
    """The name of its only container."""
    (container,) = pod["spec"]["containers"]
    name: str = container["name"]
    return name


def ours(plane: ControlPlane) -> list[str]:
    """Every object of the cluster that has to do with us, by kind and name."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    # Events tell what was; they expire.
    listed = ",".join(kind for kind in kinds if not kind.startswith("events"))
    found = json.loads(plane.kubectl("get", listed, "-A", "-o", "json").stdout)["items"]
    return sorted(
        f"{o['kind']}/{o['metadata']['name']}"
        for o in found
        if "podpace" in o["metadata"]["name"] and o["metadata"]["name"] != NAMESPACE
    )


@pytest.mark.parametrize("program", HELMS)
def test_install_upgrade_and_uninstall_leave_nothing(bare: ControlPlane, program: str) -> None:
    """With the rights that the hooks have, the real controllers, and nodes that are played."""
    run = partial(helm, bare, program=program)
    before = ours(bare)
    with bare.client() as admin, Kubelets(bare) as kubelets:
        installed = run("install", RELEASE, str(CHART), "--wait", "--timeout=120s")
        assert installed.returncode == 0, installed.stderr
        assert "helm test podpace -n podpace-system" in installed.stdout
        assert "pod-security.kubernetes.io/enforce=privileged" in installed.stdout
        daemon_set = admin.get(f"{_DAEMON_SETS}/podpace-enforcer")
        assert daemon_set["status"]["numberReady"] == len(NODES)

        # What the webhook writes at run time must survive the upgrade.
        _write_as_the_webhook_does(admin)
        upgraded = run("upgrade", RELEASE, str(CHART), "--set=webhook.timeoutSeconds=5")
        assert upgraded.returncode == 0, upgraded.stderr
        configuration = admin.get(f"{_CONFIGURATIONS}/mutatingwebhookconfigurations/podpace")
        assert configuration["webhooks"][0]["timeoutSeconds"] == 5
        assert configuration["webhooks"][0]["clientConfig"]["caBundle"] == _BUNDLE
        assert admin.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/podpace-webhook-ca")["data"]

        labels = {"podpace.io/limited": "true", "podpace.io/source": "pod", "app": "web"}
        web = admin.create(PODS, pod(name="web", labels=labels))
        assert web["metadata"]["labels"] == labels
        removed = run("uninstall", RELEASE, "--wait", "--timeout=120s")
        assert removed.returncode == 0, removed.stderr + kubelets.uninstall
        assert "2 of 2 nodes are clean" in kubelets.uninstall
        assert admin.get(f"{PODS}/web")["metadata"]["labels"] == {"app": "web"}
        admin.delete(f"{PODS}/web")
        # Bounds are not lifted by an uninstall: the policy stays until somebody deletes it.
        left = until(lambda: ours(bare), lambda found: len(found) <= len(before) + 1)
        assert set(left) - set(before) == {"ConfigMap/podpace-policy"}
        _delete_policy(admin)


def test_a_wrong_value_is_refused_before_anything_is_made(bare: ControlPlane) -> None:
    """With its path."""
    before = ours(bare)

    done = helm(bare, "install", RELEASE, str(CHART), "--set=webhook.replica=2")

    assert done.returncode != 0
    assert "'/webhook': additional properties 'replica' not allowed" in done.stderr
    assert ours(bare) == before


@pytest.mark.parametrize("program", HELMS)
def test_a_policy_that_is_wrong_is_refused_before_anything_is_made(
    bare: ControlPlane, program: str
) -> None:
    """Its reason is in the Job's log; a failed install that is tried again is judged again."""
    run = partial(helm, bare, program=program)
    wrong = ("--set=policy.egress.min=2G", "--set=policy.egress.max=1G", "--timeout=60s")
    with bare.client() as admin, Kubelets(bare) as kubelets:
        refused = run("install", RELEASE, str(CHART), *wrong)
        reason = kubelets.review
        again = run("upgrade", "--install", RELEASE, str(CHART), *wrong)

        assert refused.returncode != 0
        assert again.returncode != 0
        assert "podpace-policy-review" in refused.stderr
        assert 'egress.min: "2G" is above egress.max, 1 Gbit/s' in reason
        assert admin.http.get(_POLICY).status_code == 404
        assert admin.http.get(f"{_DAEMON_SETS}/podpace-enforcer").status_code == 404

        # Left by the failed ones, for its log.
        right = run("upgrade", "--install", RELEASE, str(CHART), "--set=policy.egress.max=1G")
        assert right.returncode == 0, right.stderr + kubelets.review
        assert admin.get(_POLICY)["data"] == {"egress.max": "1G"}
        _check_that_the_policy_is_kept(bare, admin, program)
        removed = run("uninstall", RELEASE, "--wait", "--timeout=120s")
        assert removed.returncode == 0, removed.stderr + kubelets.uninstall
        assert admin.get(_POLICY)["data"] == {"egress.max": "1G"}
        _delete_policy(admin)
        until(lambda: ours(bare), lambda found: not any("podpace" in o for o in found))


def _delete_policy(admin: Client) -> None:
    """API servers know of a guard for a moment after it is gone."""
    until(lambda: admin.http.delete(_POLICY).status_code, lambda status: status in (200, 202, 404))


def _check_that_the_policy_is_kept(bare: ControlPlane, admin: Client, program: str) -> None:
    """Neither values that forget it nor a hand that slips takes its bounds away."""
    run = partial(helm, bare, program=program)
    until(
        lambda: admin.http.request("DELETE", _POLICY, params={"dryRun": "All"}),
        lambda response: response.status_code == 403,
    )
    emptied = run("upgrade", RELEASE, str(CHART), "--set=policy.egress.max=null")
    assert emptied.returncode != 0
    assert "every bound that this policy sets would be gone" in emptied.stderr
    forgotten = run("upgrade", RELEASE, str(CHART), "--set=policy.create=false")
    assert forgotten.returncode == 0, forgotten.stderr
    assert admin.get(_POLICY)["data"] == {"egress.max": "1G"}


def test_the_page_on_installing_installs_and_upgrades(bare: ControlPlane, tmp_path: Path) -> None:
    """Copy and paste, from the first block to the last."""
    reader = Reader(tmp_path, {"KUBECONFIG": str(bare.kubeconfig("admin"))}, bare.bin)
    with Kubelets(bare) as kubelets:
        assert reader.follow(ROOT / "docs/operator/install.md", "run=cluster") > 0
        removed = helm(bare, "uninstall", RELEASE, "--wait", "--timeout=120s")
        assert removed.returncode == 0, removed.stderr + kubelets.uninstall
    with bare.client() as admin:
        _delete_policy(admin)


_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1"
_BUNDLE: Final = "QUJD"


def _write_as_the_webhook_does(admin: Client) -> None:
    path = f"{_CONFIGURATIONS}/mutatingwebhookconfigurations/podpace"
    bundle = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": _BUNDLE}
    admin.patch(path, [bundle], "json-patch+json")
    secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/podpace-webhook-ca"
    body = admin.get(secret) | {"data": {"tls.key": _BUNDLE}}
    assert admin.http.put(secret, json=body).is_success


def test_a_node_that_does_not_get_clean_keeps_the_release(bare: ControlPlane) -> None:
    """Its name and its last words are told; a second uninstall, when it is repaired, succeeds."""
    with bare.client() as admin:
        with Kubelets(bare, dirty="node-b") as kubelets:
            values = "--set=uninstall.timeoutSeconds=10"
            installed = helm(bare, "install", RELEASE, str(CHART), values)
            assert installed.returncode == 0, installed.stderr
            path = f"{_DAEMON_SETS}/podpace-enforcer"
            until(lambda: admin.get(path)["status"].get("numberReady"), lambda n: n == len(NODES))

            kept = helm(bare, "uninstall", RELEASE, "--timeout=60s")

            assert kept.returncode != 0
            assert "node-b: cleanup failed: left: /sys/fs/bpf/podpace" in kubelets.uninstall
            assert admin.get(f"{_DAEMON_SETS}/podpace-enforcer")
        for pod in admin.get(_PODS)["items"]:
            admin.delete(f"{_PODS}/{pod['metadata']['name']}")
        with Kubelets(bare):
            removed = helm(bare, "uninstall", RELEASE, "--wait", "--timeout=60s")
            assert removed.returncode == 0, removed.stderr
            _delete_policy(admin)
            until(lambda: ours(bare), lambda found: not any("podpace" in o for o in found))


def test_rendered_manifests_that_are_applied_stay_in_force(bare: ControlPlane) -> None:
    """They have the uninstall Job in them, and whoever applies them makes it run at once."""
    before = ours(bare)
    manifests = template()
    with bare.client() as admin, Kubelets(bare) as kubelets:
        applied = bare.kubectl("apply", "-f", "-", stdin=manifests)
        assert applied.returncode == 0, applied.stderr
        until(lambda: kubelets.uninstall, bool, 60)

        assert "Helm has not installed this: nothing is done" in kubelets.uninstall
        daemon_set = admin.get(f"{_DAEMON_SETS}/podpace-enforcer")
        assert "initContainers" not in daemon_set["spec"]["template"]["spec"]
        scale = admin.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/podpace-webhook/scale")
        assert scale["spec"]["replicas"] == 2
        configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        assert admin.get(f"{configurations}/podpace")

        deleted = bare.kubectl("delete", "-f", "-", stdin=manifests)

    assert deleted.returncode == 0, deleted.stderr
    until(lambda: ours(bare), lambda left: left == before, 60)
