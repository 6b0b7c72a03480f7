"""The enforcer's container, with exactly what the chart gives it."""

import json
import subprocess
import time
from typing import Any, Final

import pytest
import yaml

from tests.cluster.build import helm_dir
from tests.images.conftest import IMAGES, REPOSITORY, SAMPLE
from tests.images.engine import Engine

WAIT_SECONDS: Final = 120
PARENT: Final = "podpacetest.slice"
NETWORK: Final = "capabilities"


def daemonset() -> dict[str, Any]:
    """The pod template's only container, as the chart's defaults render it."""
    rendered = subprocess.run(
        [
            *(str(helm_dir() / "helm"), "template", "podpace", str(REPOSITORY / "charts/podpace")),
            "--namespace=podpace-system",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    for document in yaml.safe_load_all(rendered.stdout):
        if document and document["kind"] == "DaemonSet":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            return dict(container)
    raise AssertionError("the chart renders no DaemonSet")


def chart_options() -> list[str]:
    """The container's security context as options of ``docker run``."""
    context = daemonset()["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["privileged"]
    options = ["--read-only", "--tmpfs=/tmp", "--security-opt=no-new-privileges"]
    options += [f"--user={context['runAsUser']}:{context['runAsGroup']}"]
    options += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
    options += [f"--cap-add={name}" for name in context["capabilities"]["add"]]
    return options


def wait_until(engine: Engine, *command: str, container: str = "enforcer") -> str:
    """Runs a command in the container until it succeeds."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        done = engine.docker("exec", container, *command, check=False)
        if not done.returncode:
            return done.stdout
        assert time.monotonic() < until, done.stderr + engine.docker("logs", container).stderr
        time.sleep(0.5)


def received_bits_per_sec(engine: Engine) -> float:
    """What the peer receives from the sample within three seconds."""
    text = engine.docker("exec", "sample", "iperf3", "-c", "peer", "-t", "3", "--json").stdout
    report: dict[str, Any] = json.loads(text)
    return float(report["end"]["sum_received"]["bits_per_second"])


def test_the_charts_capabilities_suffice(engine: Engine, request: pytest.FixtureRequest) -> None:
    """With the chart's capabilities and a read-only root it attaches, limits and cleans up."""
    engine.docker("network", "create", NETWORK)
    request.addfinalizer(lambda: engine.docker("network", "rm", NETWORK))
    for name, options in (
        ("peer", [SAMPLE, "--server"]),
        ("sample", [f"--cgroup-parent={PARENT}", "--entrypoint=sleep", SAMPLE, "infinity"]),
    ):
        request.addfinalizer(lambda name=name: engine.docker("rm", "--force", name))
        engine.docker(
            "run", "--detach", "--init", f"--network={NETWORK}", f"--name={name}", *options
        )
    request.addfinalizer(lambda: engine.docker("rm", "--force", "enforcer"))
    engine.docker(
        "run", "--detach", "--name=enforcer", "--pid=host", "--network=host", "--cgroupns=host",
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup", "--volume=/sys/fs/bpf:/sys/fs/bpf",
        "--tmpfs=/run/podpace", *chart_options(), IMAGES["enforcer"],
    )  # fmt: skip
    wait_until(engine, "podpace", "list")
    assert received_bits_per_sec(engine) > 50e6
    engine.docker("exec", "enforcer", "podpace", "attach", f"/{PARENT}", "--egress=20M")
    assert 16e6 < received_bits_per_sec(engine) < 20.2e6
    engine.docker("stop", "enforcer")
    # Limits outlive the daemon; the same container's cleanup takes them away.
    assert received_bits_per_sec(engine) < 20.2e6
    engine.docker(
        "run", "--rm", "--pid=host", "--network=host", "--cgroupns=host",
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup", "--volume=/sys/fs/bpf:/sys/fs/bpf",
        "--tmpfs=/run/podpace", *chart_options(), IMAGES["enforcer"], "--cleanup",
    )  # fmt: skip
    assert received_bits_per_sec(engine) > 50e6
