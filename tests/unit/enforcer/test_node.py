"""The daemon's real process with --node-name: a fake kernel, a real HTTPS server, real inotify."""

import subprocess
import urllib.error
import urllib.request

import pytest

from contract import names
from tests.api_server import END, serve
from tests.cluster.plane import free_port
from tests.processes import ROOT, enforcer, enforcer_command, fake_machine
from tests.unit.enforcer.pod_json import UID, labels, pod_json


@pytest.fixture
def server(tmp_path):
    """With one pod in it."""
    with serve(tmp_path) as found:
        found.pods = [pod_json(1, labels=labels("5000000", "10000000"))]
        yield found


def options(server, port):
    """The daemon's, for this server."""
    return (
        *("--node-name", "n1", "--kubeconfig", server.kubeconfig(), "--splay-seconds", "0"),
        *("--metrics-address", f"127.0.0.1:{port}"),
    )


def fetch(port, path):
    """Status and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_pod_is_limited_and_told_and_counted(tmp_path, server):
    """From the list and a new cgroup to the condition and the metrics."""
    port, path = free_port(), fake_machine(tmp_path) / f"kubepods/burstable/pod{UID.format(1)}"
    path.mkdir(parents=True)
    (path / "cgroup.events").write_text("populated 1\n")
    with enforcer(tmp_path, *options(server, port)) as daemon:
        reported = daemon.wait_for("reported")
        server.events.put(
            {"type": "MODIFIED", "object": pod_json(1, version=20, labels=labels("1000000"))}
        )
        changed = daemon.wait_for("changed")
        ready = fetch(port, "/readyz")
        _, of_node = fetch(port, "/metrics")
        _, of_pods = fetch(port, "/metrics/pods")
        server.events.put(END)
        stopped = daemon.stop()

    assert reported["target"] == "pod:shop/p1"
    assert reported["message"].startswith("ingress 10 Mbit/s (policed: ")
    assert "egress 5 Mbit/s (paced); from the pod" in reported["message"]
    (body,) = [b for b in server.bodies if "status" in b][:1]
    assert body["status"]["conditions"][0]["type"] == names.CONDITION_BANDWIDTH_ENFORCED
    assert changed["egress_bits_per_second"] == 1_000_000
    assert ready[0] == 200
    assert 'podpace_pods{reason="Enforced"} 1.0' in of_node
    assert 'podpace_node_passed_bytes_total{direction="egress"} 23.0' in of_node
    assert "pod:shop/p1" not in of_node
    series = '{direction="egress",namespace="shop",pod="p1",target="pod:shop/p1"}'
    assert f"podpace_passed_bytes_total{series} 23.0" in of_pods
    assert stopped == 0


def test_with_pod_metrics_the_series_of_pods_are_scraped(tmp_path, server):
    """A switch, because they are many."""
    tree, port = fake_machine(tmp_path), free_port()
    with enforcer(tmp_path, *options(server, port), "--pod-metrics") as daemon:
        (tree / f"pod{UID.format(1)}").mkdir()
        daemon.wait_for("attached")
        _, text = fetch(port, "/metrics")

    assert 'podpace_limit_bytes_per_second{direction="egress",namespace="shop"' in text


def test_a_daemon_without_its_api_server_adopts_and_is_not_ready(tmp_path, server):
    """Limits hold, and a cgroup made anew is limited; ready only after a list."""
    tree, port = fake_machine(tmp_path), free_port()
    path = tree / f"pod{UID.format(1)}"
    with enforcer(tmp_path, *options(server, port)) as daemon:
        path.mkdir()
        daemon.wait_for("attached")
        daemon.stop()
    server.refusals.extend([(503, {})] * 1000)
    with enforcer(tmp_path, *options(server, port)) as daemon:
        path.rmdir()
        forgotten = daemon.wait_for("forgotten")
        path.mkdir()
        again = daemon.wait_for("attached")
        not_ready = fetch(port, "/readyz")
        alive = fetch(port, "/livez")

    assert forgotten["target"] == again["target"] == "pod:shop/p1"
    assert not_ready[0] == 503
    assert alive[0] == 200


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (("--kubeconfig", "/nonexistent"), "give --kubeconfig"),
        (("--splay-seconds", "-1"), "not a number of seconds"),
        (("--splay-seconds", "soon"), "not a number of seconds"),
    ],
)
def test_a_wrong_option_ends_the_daemon_with_one_line(tmp_path, wrong, line):
    """Which says what to write."""
    fake_machine(tmp_path)
    done = subprocess.run(
        enforcer_command(tmp_path, "--node-name", "n1", *wrong),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )

    assert done.returncode in (1, 2)
    assert line in done.stderr.splitlines()[-1]
    assert done.stdout == ""
