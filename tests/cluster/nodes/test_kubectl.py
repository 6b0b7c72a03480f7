"""``kubectl podpace`` against a real API server, and real enforcers behind its pod proxy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bench.rig import TcpLoad, bulk
from contract.names import Direction
from tests.cluster.helpers import EGRESS, until
from tests.cluster.install import RELEASE_NAMESPACE, Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import on, wait_enforced
from tests.cluster.nodes.traffic import Pair
from tests.cluster.plane import ControlPlane
from tests.unit.client.shapes import conforms

REFUSED, USAGE, UNREACHABLE = 1, 2, 3
NAMESPACE = "shown"


def run(
    plane: ControlPlane, *arguments: str, user: str = "admin"
) -> subprocess.CompletedProcess[str]:
    """As kubectl runs its plugins."""
    plugins = Path(sys.executable).parent
    return subprocess.run(
        [str(plane.bin / "kubectl"), "podpace", *arguments],
        env={
            "HOME": str(plane.folder),
            "PATH": f"{plugins}:{os.environ['PATH']}",
            "KUBECONFIG": str(plane.kubeconfig(user)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def pair(installation: Installation, enforcers: list[Enforcer]) -> Iterator[Pair]:
    """``web`` is limited by itself and by its namespace; ``peer`` is not, on another node."""
    admin, path = installation.admin, f"/api/v1/namespaces/{NAMESPACE}/pods"
    admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    installation.set_policy(NAMESPACE, {"ingress.default": "8M"})
    near, far = enforcers[0].node, enforcers[1].node
    admin.create(path, on(near, pod({EGRESS: "10M"}, name="web")))
    # The policy would limit it too: it asks for so much that nothing holds it back.
    admin.create(path, on(far, pod({"podpace.io/ingress-bandwidth": "10G"}, name="peer")))
    yield Pair(near.sandbox(NAMESPACE, "web"), far.sandbox(NAMESPACE, "peer"))
    admin.delete(f"/api/v1/namespaces/{NAMESPACE}")


@pytest.fixture
def plane_with_pods(installation: Installation, pair: Pair) -> ControlPlane:
    """With both pods' limits in force."""
    wait_enforced(installation.admin, NAMESPACE, 2)
    return installation.plane


def test_list_shows_limits_and_whether_they_are_in_force(plane_with_pods: ControlPlane) -> None:
    """One namespace, or all."""
    done = run(plane_with_pods, "list", "-n", NAMESPACE)
    everywhere = run(plane_with_pods, "list", "-A")

    assert (done.returncode, done.stderr) == (0, "")
    head, peer, web = (" ".join(line.split()) for line in done.stdout.splitlines())
    assert head == "POD INGRESS EGRESS FROM IN FORCE WHY NODE"
    assert peer.startswith("peer 10 Gbit/s - pod")
    assert web == "web 8 Mbit/s 10 Mbit/s pod True Enforced sim-cgroupfs"
    assert f"{NAMESPACE} {web}" in " ".join(everywhere.stdout.split())


def test_list_as_data(plane_with_pods: ControlPlane) -> None:
    """For programs."""
    as_json = run(plane_with_pods, "list", "-n", NAMESPACE, "-o", "json")
    as_yaml = run(plane_with_pods, "list", "-n", NAMESPACE, "-o", "yaml")

    found = json.loads(as_json.stdout)
    assert [p["name"] for p in found] == ["peer", "web"]
    assert found[1]["ingress"]["bits_per_second"] == 8_000_000
    assert found[1]["condition"]["status"] == "True"
    assert yaml.safe_load(as_yaml.stdout) == found


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("list", ("-n", NAMESPACE)),
        ("show", ("web", "-n", NAMESPACE)),
        ("explain", ("web", "-n", NAMESPACE)),
        ("set", ("web", "-n", NAMESPACE, "--egress=10M", "--dry-run")),
        ("top", ("-n", NAMESPACE, "--interval=1")),
        ("nodes", ("--interval=1",)),
    ],
)
def test_data_has_the_stated_shape(
    plane_with_pods: ControlPlane, command: str, arguments: tuple[str, ...]
) -> None:
    """``docs/user/kubectl.schema.json``, whole."""
    done = run(plane_with_pods, command, *arguments, "-o", "json")

    assert done.returncode == 0, done.stderr
    assert conforms(command, done.stdout)


def test_explain_names_annotation_and_policy(plane_with_pods: ControlPlane) -> None:
    """Which of them made which limit."""
    done = run(plane_with_pods, "explain", "web", "-n", NAMESPACE)

    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"ingress 8 Mbit/s: it is the namespace's default (podpace-policy in {NAMESPACE})"
        in done.stdout
    )
    assert f"egress  10 Mbit/s: the pod asks for it ({EGRESS})" in done.stdout
    assert "in force: True (Enforced)" in done.stdout


def test_show_has_the_condition_and_the_counters(plane_with_pods: ControlPlane) -> None:
    """Counters come through the proxy."""
    done = run(plane_with_pods, "show", "web", "-n", NAMESPACE)

    assert (done.returncode, done.stderr) == (0, "")
    assert "in force        True (Enforced), since 20" in done.stdout
    assert "egress 10 Mbit/s (paced)" in done.stdout
    assert "\npassed " in done.stdout


def test_top_shows_the_rate_that_traffic_has(plane_with_pods: ControlPlane, pair: Pair) -> None:
    """Of a pod that sends as much as it may."""
    with bulk(pair, TcpLoad(Direction.EGRESS, 8)) as running:

        def rates() -> dict[tuple[str, str], float]:
            done = run(plane_with_pods, "top", "-n", NAMESPACE, "-o", "json", "--interval=1.5")
            assert done.stderr == ""
            return {
                (row["target"], row["direction"]): row["rate_bits_per_second"]
                for row in json.loads(done.stdout)
            }

        until(rates, lambda r: r.get((f"{NAMESPACE}/web", "egress"), 0) > 1e6)
        found = rates()  # at once: the first page may be that of before
        running.result()

    assert 6e6 < found[f"{NAMESPACE}/web", "egress"] < 11e6
    assert (f"{NAMESPACE}/peer", "ingress") in found
    once = run(plane_with_pods, "top", "-n", NAMESPACE, "--once", "--interval=1")
    assert once.stdout.split()[:6] == ["TARGET", "LIMIT", "NOW", "AT", "MOST", "RATE"]


def test_who_may_not_read_is_told_what_is_missing(plane_with_pods: ControlPlane) -> None:
    """The API server's own words, and where the rights are listed."""
    done = run(plane_with_pods, "list", "-n", NAMESPACE, user="editor")

    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert "cannot list resource" in done.stderr
    assert "docs/user/kubectl.md" in done.stderr
    assert done.stderr.count("\n") == 1


def test_exit_codes(plane_with_pods: ControlPlane, tmp_path: Path) -> None:
    """As the podpace command's: refused, usage, not reachable."""
    away = yaml.safe_load(plane_with_pods.kubeconfig("admin").read_text())
    away["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "away").write_text(yaml.safe_dump(away))

    gone = run(plane_with_pods, "show", "nobody", "-n", NAMESPACE)
    usage = run(plane_with_pods, "list", "--context", "other")
    unreachable = run(plane_with_pods, "list", "--kubeconfig", str(tmp_path / "away"))

    assert (gone.returncode, gone.stderr) == (REFUSED, 'kubectl podpace: pods "nobody" not found\n')
    assert usage.returncode == USAGE
    assert "give --kubeconfig or --context" in usage.stderr
    assert unreachable.returncode == UNREACHABLE
    assert "see whether kubectl get pods works" in unreachable.stderr


def test_a_wrong_release_namespace_is_explained(plane_with_pods: ControlPlane) -> None:
    """Rates are then nowhere to be read; everything else works."""
    elsewhere = ("--release-namespace", "default")

    top = run(plane_with_pods, "top", "-n", NAMESPACE, "--once", "--interval=1", *elsewhere)
    show = run(plane_with_pods, "show", "web", "-n", NAMESPACE, *elsewhere)

    assert top.returncode == UNREACHABLE
    assert "has no enforcer in namespace default" in top.stderr
    assert show.returncode == 0
    assert "no counters: node sim-cgroupfs has no enforcer" in show.stderr
    assert RELEASE_NAMESPACE not in show.stderr
