"""``podpace-webhook review`` as a pipeline runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from webhook.review import Options, main

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
        ("", "the input is empty"),
        ("---\n---\n", "the input is empty"),
        ("kind: Pod\nmetadata: {namespace: 2024}", "in quotes"),
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


def test_objects_without_pods_are_no_mistake() -> None:
    """A chart may have none."""
    done = run("-f", "-", stdin="kind: Service\nmetadata: {name: x}")

    assert (done.returncode, done.stderr) == (0, "")
    assert "no pod, workload or policy" in done.stdout


MORE = """
kind: PodList
items: [{metadata: {name: a, annotations: {podpace.io/egress-bandwidth: 10Mbps}}}]
---
kind: DeploymentList
items: [{metadata: {name: b}, spec: {template: {metadata: {annotations: {podpace.io/egress-bandwidth: x}}}}}]
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: c}
spec:
  template:
    metadata: {annotations: {podpace.io/egress-bandwidth: 10Mbps}}
    spec: {containers: [{name: main}]}
---
apiVersion: batch.volcano.sh/v1alpha1
kind: Job
metadata: {name: d}
spec:
  tasks:
  - template:
      metadata: {annotations: {podpace.io/egress-bandwidth: 10Mbps}}
      spec: {containers: [{name: main}]}
"""  # noqa: E501


def test_lists_and_kinds_that_we_do_not_know_are_judged_where_they_have_pods() -> None:
    """A gate with a hole is none."""
    done = run("-f", "-", "-o", "json", stdin=MORE)

    verdicts = {(v["kind"], v["name"]): v["allowed"] for v in json.loads(done.stdout)}
    assert done.returncode == 1
    assert verdicts == {
        ("Pod", "a"): False,
        ("Deployment", "b"): False,
        ("Rollout", "c (spec.template)"): False,
        ("Job", "d (spec.tasks[0].template)"): False,
    }


IGNORED = """
kind: Namespace
metadata: {name: free, labels: {podpace.io/ignore: "true"}}
---
kind: Pod
metadata: {name: a, namespace: free, annotations: {podpace.io/egress-bandwidth: 10Mbps}}
spec: {readinessGates: [{conditionType: podpace.io/BandwidthEnforced}]}
---
kind: Pod
metadata: {name: b, namespace: kube-system, annotations: {podpace.io/egress-bandwidth: 10Mbps}}
---
kind: Pod
metadata: {name: c, namespace: own, annotations: {podpace.io/egress-bandwidth: 10Mbps}}
"""


def test_namespaces_that_are_left_out_are_said_and_not_judged() -> None:
    """By their name, their label, or an option; a gate there is warned of."""
    done = run("-f", "-", "--exempt-namespace=own", stdin=IGNORED)

    assert done.returncode == 0
    assert done.stdout.count("its namespace is left out of podpace") == 3
    assert "it will not be Ready" in done.stdout
    assert run("-f", "-", stdin=IGNORED).returncode == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("10M", 0), ('"10e6"', 0), ("!!str 10e6", 0), (".5G", 0), ("+10M", 0), ("0.01G", 0),
        ("10e6", 2), ("1e6", 2), ("10E6", 2), ("1.5e6", 2), ("10000000", 2), ("1_000_000", 2),
        ("0o17777777", 2), ("0x989680", 2), ("010000000", 2), ("yes", 2), ("on", 2), (".5", 2),
        ("12:30", 1), ("190:20:30", 1), ("2026-01-01", 1), ("null", 1), ("10Mbps", 1),
    ],
)  # fmt: skip
def test_values_without_quotes_are_read_as_the_api_server_reads_them(
    tmp_path: Path, value: str, code: int
) -> None:
    """It refuses a number where a text is due; for YAML 1.1 in Python ``1e6`` is a text."""
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(POD.replace("10M", value))

    assert main([str(manifest)], Options()) == code


def test_a_key_that_is_written_twice_is_warned_of_and_the_last_counts() -> None:
    """As for the API server; strictly it is a mistake."""
    text = POD.replace("bandwidth: 10M}", "bandwidth: 10M, podpace.io/egress-bandwidth: 20M}")

    done = run("-f", "-", stdin=text)

    assert done.returncode == 0
    assert "egress  20 Mbit/s" in done.stdout
    assert "podpace.io/egress-bandwidth (line 6) is written twice" in done.stdout
    assert run("-f", "-", "--strict", stdin=text).returncode == 1


@pytest.mark.parametrize(
    "text",
    [
        "kind: Pod\nmetadata: {name: a, labels: {podpace.io/egress-bandwidth: 10M}}",
        "kind: Pod\nmetadata: {name: a, labels: {podpace.io/ignore: 'true'}}",
        "kind: Deployment\nmetadata: {name: a, annotations: {podpace.io/egress-bandwidth: 10M}}\n"
        "spec: {template: {metadata: {labels: {a: b}}}}",
    ],
)
def test_what_is_written_where_nobody_reads_it_is_warned_of(text: str) -> None:
    """Admitted, unless warnings are denials."""
    done = run("-f", "-", stdin=text)

    assert done.returncode == 0
    assert "warning: podpace.io/" in done.stdout
    assert run("-f", "-", "--strict", stdin=text).returncode == 1


def test_the_version_is_printed() -> None:
    """For a pipeline's log."""
    command = [sys.executable, "-m", "webhook", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert done.stdout.startswith("podpace-webhook 0.")


QUOTA = """
apiVersion: v1
kind: ConfigMap
metadata: {name: podpace-policy, namespace: podpace-system}
data: {schedule: "true"}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: bandwidth}
spec: {hard: {requests.podpace.io/egress: 1G, podpace.io/ingress: 1G, pods: 9}}
---
"""
BOOKED = """
apiVersion: v1
kind: Pod
metadata: {name: p%d, annotations: {podpace.io/egress-request: 200M}}
spec: {containers: [{name: main, image: x}]}
---
"""


def test_a_quota_refuses_the_pod_that_it_would_refuse_in_the_cluster() -> None:
    """In the same words; what it does not count is a warning."""
    manifests = QUOTA + "".join(BOOKED % number for number in range(6))

    done = run("-f", "-", "-o", "json", stdin=manifests)

    verdicts = {v["name"]: v for v in json.loads(done.stdout)}
    assert done.returncode == 1
    assert [verdicts[f"p{n}"]["allowed"] for n in range(6)] == [True] * 5 + [False]
    assert verdicts["p5"]["message"] == (
        'pods "p5" is forbidden: '
        "exceeded quota: bandwidth, requested: requests.podpace.io/egress=200M, used: "
        "requests.podpace.io/egress=1G, limited: requests.podpace.io/egress=1G"
    )
    assert verdicts["bandwidth"]["warnings"] == [
        "podpace.io/ingress is never counted; write requests.podpace.io/ingress"
    ]


def test_a_quota_counts_each_pod_of_a_workload() -> None:
    """As many as it is to have; of another namespace none."""
    workload = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %s}
spec:
  replicas: %s
  template:
    metadata: {annotations: {podpace.io/egress-request: 200M}}
    spec: {containers: [{name: main, image: x}]}
---
"""
    fits = run("-f", "-", stdin=QUOTA + workload % ("default", 5) + workload % ("other", 90))
    over = run("-f", "-", stdin=QUOTA + workload % ("default", 7))

    assert fits.returncode == 0, fits.stdout
    assert '2 of 7 pods: pods "web-*" is forbidden: exceeded quota: bandwidth' in over.stdout


def test_short_options_are_read_as_kubectl_reads_them() -> None:
    """The namespace is not called =shop."""
    done = run("-n=shop", "-f=-", "-o=json", stdin=POD)

    assert [v["namespace"] for v in json.loads(done.stdout)] == ["shop"], done.stderr
