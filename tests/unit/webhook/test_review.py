"""``podpace-webhook review`` as a pipeline runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations: {podpace.io/egress-bandwidth: 10M}
"""
WORKLOADS = """
apiVersion: v1
kind: List
items:
- kind: Deployment
  metadata: {name: d}
  spec: {template: &t {metadata: {annotations: {podpace.io/egress-bandwidth: 10M}}}}
- {kind: StatefulSet, metadata: {name: s}, spec: {template: *t}}
- {kind: DaemonSet, metadata: {name: ds}, spec: {template: *t}}
- {kind: Job, metadata: {generateName: j-}, spec: {template: *t}}
- {kind: ReplicaSet, metadata: {name: r}, spec: {template: *t}}
- kind: CronJob
  metadata: {name: c, namespace: other}
  spec: {jobTemplate: {spec: {template: *t}}}
- {kind: Service, metadata: {name: x}}
"""
POLICY = """
kind: ConfigMap
metadata: {name: podpace-policy, namespace: podpace-system}
data: {egress.max: 5M, ingress.default: 2M}
"""


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The real command."""
    return subprocess.run(
        [sys.executable, "-m", "webhook", "review", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_admitted_pod_is_0_and_shows_limits_labels_and_origin() -> None:
    """From standard input."""
    done = run("-f", "-", stdin=POD)

    assert done.returncode == 0, done.stderr
    assert "Pod default/a: admitted" in done.stdout
    assert "egress  10 Mbit/s, burst 1048576 bits, podpace.io/egress-bandwidth" in done.stdout
    assert "podpace.io/egress-bits-per-second=10000000" in done.stdout


def test_a_denied_pod_is_1_and_shows_why(tmp_path: Path) -> None:
    """Under a policy from another file."""
    (tmp_path / "policy.yaml").write_text(POLICY)

    done = run("-f", "-", "-f", str(tmp_path / "policy.yaml"), stdin=POD)

    assert done.returncode == 1
    assert "is above the cluster's maximum, 5 Mbit/s; write 5000000 or less" in done.stdout
    assert "podpace.io/limited" not in done.stdout


def test_every_workload_is_judged_by_its_template() -> None:
    """A list, several kinds, another namespace; what has no pods is passed over."""
    done = run("-f", "-", "-n", "mine", "-o", "json", stdin=WORKLOADS)

    found = {(v["kind"], v["namespace"], v["name"]) for v in json.loads(done.stdout)}
    assert found == {
        ("Deployment", "mine", "d"),
        ("StatefulSet", "mine", "s"),
        ("DaemonSet", "mine", "ds"),
        ("Job", "mine", "j-*"),
        ("ReplicaSet", "mine", "r"),
        ("CronJob", "other", "c"),
    }


def test_json_has_what_a_program_needs() -> None:
    """Problems apart, not only as a text."""
    done = run("-f", "-", "-o", "json", stdin=POD.replace("10M", "10Mbps"))

    [verdict] = json.loads(done.stdout)
    assert not verdict["allowed"]
    assert verdict["problems"][0]["key"] == "podpace.io/egress-bandwidth"
    assert set(verdict["problems"][0]) == {"key", "text", "reason", "fix"}


def test_a_bad_policy_is_denied_like_a_bad_pod() -> None:
    """For trying a policy before it is applied."""
    done = run("-f", "-", stdin=POLICY.replace("5M", "lots"))

    assert done.returncode == 1
    assert "1 problem with the policy" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("just text", "not a Kubernetes object"),
        ("kind: Service", "nothing to review"),
        ("", "nothing to review"),
        ("kind: Deployment", "has no pod template"),
        ("kind: Pod\nmetadata: {annotations: {podpace.io/egress-bandwidth: 10}}", "in quotes"),
        ("kind: Pod\nmetadata: []", "Expected `object`"),
        ("kind: List\nitems: [1]", "not a Kubernetes object"),
    ],
)
def test_unusable_input_is_2_and_says_what_to_do(text: str, words: str) -> None:
    """Apart from a denial, which is 1."""
    done = run("-f", "-", stdin=text)

    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_2() -> None:
    """By its name."""
    done = run("-f", "no-such-file.yaml")

    assert done.returncode == 2
    assert "no-such-file.yaml: No such file" in done.stderr


def test_an_unknown_format_is_2() -> None:
    """With the formats there are."""
    done = run("-f", "-", "-o", "xml", stdin=POD)

    assert done.returncode == 2
    assert "text or json" in done.stderr.replace("\n", " ")
