"""The development environment, as ``make dev`` starts it, with a real engine."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.cluster.build import bin_dir
from tests.debian import unpacked
from tests.images.conftest import IMAGES, REPOSITORY, SAMPLE
from tests.images.engine import Engine

FILE: Final = "docker-compose.dev.yml"
UP_SECONDS: Final = 180


class Compose:
    """``docker compose`` on our file."""

    def __init__(self, engine: Engine) -> None:
        config = engine.folder / "config"
        plugins = config / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)  # the engine's folder is kept between runs
        plugin = unpacked("trixie", "docker-compose") / "usr/libexec/docker/cli-plugins"
        link = plugins / "docker-compose"
        link.unlink(missing_ok=True)
        link.symlink_to(plugin / "docker-compose")
        self._environment = engine.environment() | {
            "DOCKER_CONFIG": str(config),
            "PODPACE_CONTROLPLANE": str(bin_dir()),
        }

    def __call__(self, *arguments: str, check: bool = True, stdin: str = "") -> str:
        """Its standard output; a failure fails the test with what it said."""
        done = subprocess.run(
            ["docker", "compose", "-f", FILE, *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if check:
            assert not done.returncode, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def compose(engine: Engine) -> Iterator[Compose]:
    """Everything up, without building: the images are tagged as the file names them."""
    for image in (*IMAGES.values(), SAMPLE):
        engine.docker("tag", image, f"{image.partition(':')[0]}:dev")
    run = Compose(engine)
    try:
        run("up", "--detach", "--no-build")
        yield run
    finally:
        print(run("logs", "--tail=15", check=False), file=sys.stderr)
        run("down", "--volumes", "--timeout=2", check=False)


def wait_limited(compose: Compose) -> None:
    """Returns when the one-shot service has set the sample's limit."""
    until = time.monotonic() + UP_SECONDS
    while True:
        (state,) = [
            json.loads(line)
            for line in compose("ps", "--all", "--format=json", "limit").splitlines()
        ]
        if state["State"] == "exited":
            assert state["ExitCode"] == 0, compose("logs", "limit", "enforcer")
            return
        assert time.monotonic() < until, compose("logs", "limit", "enforcer", "install")
        time.sleep(1)


def test_the_documented_command_shows_the_limit(compose: Compose) -> None:
    """After ``up``, the documented iperf3 command sends 10 Mbit/s, not more and hardly less."""
    wait_limited(compose)
    text = compose("exec", "-T", "sample", "iperf3", "-c", "peer", "-t", "5", "--json")
    report: dict[str, Any] = json.loads(text)
    received_bits_per_sec = report["end"]["sum_received"]["bits_per_second"]
    assert 8.5e6 < received_bits_per_sec < 10.1e6


def test_a_pod_is_admitted_by_the_webhook(compose: Compose) -> None:
    """A pod applied in the environment comes back with the labels of its annotation."""
    wait_limited(compose)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "sample",
            "annotations": {"kubernetes.io/egress-bandwidth": "10M"},
        },
        "spec": {"nodeName": "dev", "containers": [{"name": "c", "image": "i"}]},
    }
    kubectl = ("exec", "-T", "kube-apiserver", "/controlplane/kubectl")
    credentials = ("--kubeconfig=/state/admin.kubeconfig", "--server=https://localhost:6443")
    created = compose(*kubectl, *credentials, "create", "-ojson", "-f-", stdin=json.dumps(pod))
    labels = json.loads(created)["metadata"]["labels"]
    assert labels["podpace.io/egress-bits-per-second"] == "10000000"
