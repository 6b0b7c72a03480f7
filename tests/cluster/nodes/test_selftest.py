"""What ``helm test`` runs, with the rights that the chart gives it, against real programs."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.helpers import until
from tests.cluster.install import (
    RELEASE_NAMESPACE,
    TESTER_USER,
    Installation,
    render,
)
from tests.cluster.nodes.enforcer import Enforcer

_DAEMON_SETS = f"/apis/apps/v1/namespaces/{RELEASE_NAMESPACE}/daemonsets"


@pytest.fixture(scope="module")
def arguments(installation: Installation, enforcers: list[Enforcer]) -> Iterator[list[str]]:
    """Of the chart's test pod. The DaemonSet's pods are played: its programs run beside them."""
    hook = render("hooks/test.yaml")
    (daemon_set,) = (o for o in render("enforcer-daemonset.yaml") if o["kind"] == "DaemonSet")
    # The simulated nodes do not say what they run.
    del daemon_set["spec"]["template"]["spec"]["nodeSelector"]
    rights = [o for o in hook if o["kind"] != "Pod"]
    done = installation.plane.kubectl(
        "apply", "-f", "-", stdin=yaml.safe_dump_all([*rights, daemon_set])
    )
    assert done.returncode == 0, done.stderr
    path = f"{_DAEMON_SETS}/podpace-enforcer"
    until(
        lambda: installation.admin.get(path).get("status", {}),
        lambda status: status.get("numberReady") == len(enforcers),
    )
    (test_pod,) = (o for o in hook if o["kind"] == "Pod")
    found: list[str] = test_pod["spec"]["containers"][0]["args"]
    yield found
    installation.admin.delete(path)
    pods = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/pods"
    until(
        lambda: installation.admin.get(pods)["items"],
        lambda left: not any(pod["metadata"].get("ownerReferences") for pod in left),
    )


def run(installation: Installation, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """As the test's service account."""
    kubeconfig = installation.plane.kubeconfig(TESTER_USER)
    return subprocess.run(
        [sys.executable, "-m", "webhook", *arguments, f"--kubeconfig={kubeconfig}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_working_installation_passes(installation: Installation, arguments: list[str]) -> None:
    """Three lines, and the pod that was limited is gone."""
    done = run(installation, arguments)

    assert done.returncode == 0, done.stdout + done.stderr
    admission, enforcers, condition = done.stdout.splitlines()
    assert admission == "ok: the webhook labels a pod that asks for 10 Mbit/s"
    assert enforcers == "ok: enforcers are ready on 3 of 3 nodes"
    assert condition.startswith("ok: a pod on sim-")
    assert "egress 10 Mbit/s (" in condition
    assert _names(installation) == set()


def test_a_webhook_that_is_not_called_is_found(
    installation: Installation, arguments: list[str]
) -> None:
    """The first line says where to look; nothing is left in this case either."""
    (replica,) = installation.replicas
    installation.set_endpoint(replica, ready=False)
    try:
        done = run(installation, [*arguments, "--timeout-seconds=3"])
    finally:
        installation.set_endpoint(replica, ready=True)
        installation.wait_called()

    assert done.returncode == 1
    assert "FAILED: a pod that asks for 10 Mbit/s got no labels" in done.stdout
    assert "FAILED: a pod has no limit in force after 3 s" in done.stdout
    assert _names(installation) == set()


def _names(installation: Installation) -> set[str]:
    found = installation.admin.get("/api/v1/namespaces/default/pods")["items"]
    return {p["metadata"]["name"] for p in found} & {"podpace-selftest"}
