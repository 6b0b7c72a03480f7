"""Deletes that run no hook of Helm's: the enforcers clean their nodes themselves."""

from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.helpers import EGRESS, until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, pod, render
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import on, wait_enforced
from tests.cluster.nodes.test_life import hooks

_OPTION = f"--installation={RELEASE_NAMESPACE}/podpace-enforcer"


@pytest.fixture
def enforcer(enforcers: list[Enforcer], installation: Installation) -> Iterator[Enforcer]:
    """With the option that the chart gives; afterwards as it was, and so is the installation."""
    one = enforcers[0]
    one.stop()
    one.start(_OPTION)
    one.running.wait_log(lambda line: line["event"] == "started")
    yield one
    if one.process is not None:
        one.stop()
    _apply(installation)
    one.renew_token()
    one.start()


def _apply(installation: Installation) -> None:
    manifests = yaml.safe_dump_all(render("enforcer-rbac.yaml"))
    done = installation.plane.kubectl("apply", "-f", "-", stdin=manifests)
    assert done.returncode == 0, done.stderr


def test_an_enforcer_cleans_its_node_when_the_manifests_are_deleted_and_not_before(
    installation: Installation, enforcer: Enforcer, namespace: str
) -> None:
    """`kubectl delete -f`: its account and its rights are gone when it is told to end."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    installation.admin.create(pods, on(enforcer.node, pod({EGRESS: "10M"}, name="web")))
    wait_enforced(installation.admin, namespace, 1)
    sandbox = enforcer.node.sandbox(namespace, "web")
    enforcer.stop()
    replaced = hooks(sandbox)
    enforcer.start(_OPTION)
    # The watch has it before it can tell that it is gone.
    until(lambda: enforcer.running.process.poll() is None and enforcer.ready(), bool)
    manifests = yaml.safe_dump_all(render("enforcer-rbac.yaml"))

    done = installation.plane.kubectl("delete", "-f", "-", stdin=manifests)
    assert done.returncode == 0, done.stderr
    running = enforcer.running
    running.terminate()
    running.join()
    enforcer.process = None

    assert replaced
    assert hooks(sandbox) == set()
    assert any(line.get("said") == "nothing of ours is left" for line in running.log)
    assert not enforcer.pin_root.exists()
    assert not (enforcer.work / "targets").exists()
