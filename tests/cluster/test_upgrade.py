"""A release under load: from the chart of an earlier commit to today's, and back."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chart.helm import CHART, NAMESPACE, RELEASE
from tests.cluster.client import Client, Json
from tests.cluster.helpers import EGRESS_LABEL, PODS
from tests.cluster.install import SERVICE, Replica, own_address, pod
from tests.cluster.load import steady_load
from tests.cluster.logged import ROOT
from tests.cluster.plane import ControlPlane
from tests.cluster.test_chart import Kubelets, bare, helm
from tests.needs import missing

BEFORE: Final = "20d99e7"
"""A commit whose chart has one policy for the cluster, and none of today's guards."""
PER_SECOND: Final = 200
POLICY: Final = (
    "--set=policy.egress.default=10M",
    "--set=policy.egress.max=1G",
    "--set=policy.onViolation=clamp",
)
_SLICES: Final = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
_WHERE: Final = ("--host=", "--port=", "--health-port=")

__all__ = ["bare"]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That commit's files."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        missing(f"the commit {BEFORE}; get it with: git fetch --unshallow")
    folder: Path = tmp_path_factory.mktemp("before")
    subprocess.run(["tar", "-xC", folder], input=archive.stdout, check=True)
    return folder


class Served(Kubelets):
    """Kubelets that run the webhook's containers, each from its version's folder, and the
    controller that keeps the Service's endpoints."""

    def __init__(self, plane: ControlPlane, folders: dict[str, Path]) -> None:
        """``folders``: sources by the pods' label ``version``."""
        super().__init__(plane)
        self._folders = folders
        self._replicas: dict[str, Replica] = {}
        self.served: list[str] = []
        """The versions whose replicas were ready, in that order."""

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)
        finally:
            for replica in self._replicas.values():
                replica.terminate()
            for replica in self._replicas.values():
                replica.join()

    def _tend(self, admin: Client, pod: Json) -> None:
        version = pod["metadata"]["labels"].get("version")
        if version is None or not pod["spec"].get("nodeName"):
            super()._tend(admin, pod)
            return
        uid, path = pod["metadata"]["uid"], f"{_PODS}/{pod['metadata']['name']}"
        replica = self._replicas.get(uid)
        if pod["metadata"].get("deletionTimestamp"):
            self._end(admin, path, uid)
        elif replica is None:
            self._replicas[uid] = self._start(pod, self._folders[version])
        elif replica.ready() and not _is_ready(pod):
            _put_endpoint(admin, replica)
            admin.patch(f"{path}/status", {"status": _READY})
            self.served.append(version)

    def _start(self, pod: Json, folder: Path) -> Replica:
        (container,) = pod["spec"]["containers"]
        options = [a for a in container["args"][1:] if not a.startswith(_WHERE)]
        return Replica(self._plane, own_address(), *options, folder=folder)

    def _end(self, admin: Client, path: str, uid: str) -> None:
        """As a node does it: out of the endpoints and told to end at the same time."""
        replica = self._replicas.get(uid)
        if replica is None:
            admin.delete(path)
        elif replica.process.poll() is not None:
            replica.join()
            del self._replicas[uid]
            admin.delete(path)
        elif _remove_endpoint(admin, replica):
            replica.terminate()


_READY: Final[Json] = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
}


def _is_ready(pod: Json) -> bool:
    found = {c["type"]: c["status"] for c in pod["status"].get("conditions") or ()}
    return found.get("Ready") == "True"


def _put_endpoint(admin: Client, replica: Replica) -> None:
    name = f"{SERVICE}-{replica.port}"
    admin.create(
        _SLICES,
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": SERVICE}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [replica.address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": replica.port, "protocol": "TCP"}],
        },
    )


def _remove_endpoint(admin: Client, replica: Replica) -> bool:
    """Whether there was one: the first time."""
    found = admin.http.delete(f"{_SLICES}/{SERVICE}-{replica.port}")
    return found.status_code != 404


@pytest.fixture
def served(bare: ControlPlane, before: Path) -> Iterator[Served]:
    """The earlier chart with a policy, installed and called."""
    with bare.client() as admin, Served(bare, {"before": before, "now": ROOT}) as kubelets:
        old = str(before / "charts" / "podpace")
        done = helm(bare, "install", RELEASE, old, *_options("before"))
        assert done.returncode == 0, done.stderr
        # The API server honours a new webhook configuration after a moment.
        while EGRESS_LABEL not in _created(admin):
            time.sleep(0.1)
        yield kubelets


def _options(version: str) -> tuple[str, ...]:
    return (*POLICY, f"--set=webhook.podLabels.version={version}", "--wait", "--timeout=150s")


def _created(admin: Client) -> dict[str, str]:
    """The labels that a pod without annotations would get."""
    made = admin.http.post(PODS, params={"dryRun": "All"}, json=pod())
    labels: dict[str, str] = made.json()["metadata"].get("labels", {})
    return labels


@pytest.mark.long
def test_an_upgrade_and_a_rollback_under_load_leave_no_pod_unlimited(
    bare: ControlPlane, served: Served
) -> None:
    """Of the pods that only the policy limits, not one."""
    with steady_load(bare, PER_SECOND, body=pod()) as outcome:
        upgraded = helm(bare, "upgrade", RELEASE, str(CHART), *_options("now"))
        there = outcome.done
        returned = helm(bare, "rollback", RELEASE, "1", "--wait", "--timeout=150s")
        time.sleep(2)

    print(
        f"{outcome.done} creations in {outcome.seconds:.0f} s, {there} of them up to the end of "
        f"the upgrade; {len(outcome.failures)} failed or were not limited: "
        f"{Counter(outcome.failures).most_common(5)}",
        file=sys.stderr,
    )
    assert upgraded.returncode == 0, upgraded.stderr + served.review
    assert returned.returncode == 0, returned.stderr + served.review
    assert served.served == ["before"] * 2 + ["now"] * 2 + ["before"] * 2
    assert outcome.failures == []
