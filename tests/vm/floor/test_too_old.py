"""What Podpace says on a kernel below its floor: run in a machine with Debian's 5.10."""

import json
import subprocess
from pathlib import Path

from tests.processes import HANGS_SECONDS


def test_a_kernel_without_the_iterators_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    """In one line, with the version, and nothing is left behind."""
    done = subprocess.run(
        ["podpace-enforcer", "--socket", tmp_path / "s", "--state-dir", tmp_path / "state"],
        capture_output=True,
        text=True,
        timeout=2 * HANGS_SECONDS,
        check=False,
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("podpace-enforcer: ")
    assert "Linux 5.15 or newer is needed" in line
    assert list(Path("/sys/fs/bpf/podpace").glob("v*/*")) == []
    assert not (tmp_path / "s").exists()


def test_on_a_node_the_daemon_stays_and_says_why_it_limits_nothing(tmp_path: Path) -> None:
    """Each pod's condition tells it (``Unsupported``); the node does not crash-loop."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    command = ["podpace-enforcer", "--socket", tmp_path / "s", "--state-dir", tmp_path / "state"]
    command += ["--node-name", "n1", "--kubeconfig", config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            told = {}
            while "started" not in told:
                line = json.loads(daemon.stdout.readline())
                told[line["event"]] = line
        finally:
            daemon.kill()

    assert "Linux 5.15 or newer is needed" in told["unsupported"]["reason"]
