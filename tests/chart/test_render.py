"""What the chart renders, for the values in ``matrix``."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from contract import names
from contract.policy import POLICY_KEYS, parse_policy
from enforcer.__main__ import _parser
from tests.chart.helm import CHART, NAMESPACE, Json, find, helm, objects, template
from tests.chart.matrix import MATRIX
from tests.cluster.build import HELMS
from webhook.__main__ import cli

SNAPSHOT = Path(__file__).with_name("snapshot.yaml")
CASES = [pytest.param(values, id=name) for name, values in MATRIX.items()]


@pytest.mark.parametrize("program", HELMS)
@pytest.mark.parametrize("values", CASES)
def test_helm_lint_has_nothing_to_say(values: dict[str, Any], program: str) -> None:
    """Warnings count as errors."""
    content = yaml.safe_dump(values)
    done = helm("lint", "--strict", "--values=-", str(CHART), stdin=content, program=program)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", CASES)
def test_helm_3_renders_the_same_objects(values: dict[str, Any]) -> None:
    """In another order, with other blank lines."""

    def kind_and_name(rendered: Json) -> tuple[str, str, str]:
        metadata = rendered["metadata"]
        return rendered["kind"], metadata.get("namespace", ""), metadata["name"]

    by_3, by_4 = (sorted(objects(values, program=p), key=kind_and_name) for p in ("helm3", "helm"))

    assert by_3 == by_4


def test_the_default_render_is_the_snapshot() -> None:
    """What a change of the chart does to an installation is seen in the diff of its commit.

    After a wanted change: ``python -m tests.chart.snapshot``.
    """
    assert template() == SNAPSHOT.read_text()


@pytest.mark.parametrize("values", CASES)
def test_selectors_find_the_pods_they_are_for(values: dict[str, Any]) -> None:
    """Services, workloads, budgets, network policies and spreads; each finds one component."""
    rendered = objects(values)
    pods = [
        o["spec"]["template"]["metadata"]["labels"]
        for o in rendered
        if o["kind"] in ("Deployment", "DaemonSet")
    ]
    selectors = [s for o in rendered for s in _selectors(o)]

    assert len(selectors) >= 5
    for selector in selectors:
        found = [labels for labels in pods if selector.items() <= labels.items()]
        assert len(found) == 1, selector


def _selectors(rendered: Json) -> list[dict[str, str]]:
    spec = rendered.get("spec") or {}
    match rendered["kind"]:
        case "Service":
            return [spec["selector"]]
        case "DaemonSet" | "PodDisruptionBudget":
            return [spec["selector"]["matchLabels"]]
        case "NetworkPolicy":
            return [spec["podSelector"]["matchLabels"]]
        case "Deployment":
            spread = spec["template"]["spec"]["topologySpreadConstraints"]
            return [
                spec["selector"]["matchLabels"],
                *(s["labelSelector"]["matchLabels"] for s in spread),
            ]
    return []


@pytest.mark.parametrize("values", CASES)
def test_everything_is_labelled_and_in_the_release_namespace(values: dict[str, Any]) -> None:
    """So that `kubectl get -l` finds all of it; the self-test's role is where its pod is."""
    for rendered in objects(values):
        labels = rendered["metadata"].get("labels") or {}
        assert labels.get("app.kubernetes.io/name") == "podpace", rendered
        expected = {None, NAMESPACE}
        if rendered["metadata"]["name"] == "podpace-test-pods":
            expected = {values.get("test", {}).get("namespace", "default")}
        assert rendered["metadata"].get("namespace") in expected


@pytest.mark.parametrize("values", CASES)
def test_the_programs_know_every_option_they_are_given(values: dict[str, Any]) -> None:
    """The chart and the command lines cannot part."""
    rendered = objects(values)
    commands: Any = typer.main.get_command(cli)
    daemon = find(rendered, "DaemonSet", "podpace-enforcer")["spec"]["template"]["spec"]
    for kind, name in (("Deployment", "webhook"), ("Job", "uninstall"), ("Pod", "test")):
        for o in rendered:
            if o["kind"] == kind and o["metadata"]["name"] == f"podpace-{name}":
                spec = o["spec"] if kind == "Pod" else o["spec"]["template"]["spec"]
                command, *options = spec["containers"][0]["args"]
                commands.commands[command].make_context(command, options)
    options = shlex.join(daemon["containers"][0]["args"])
    # As the kubelet puts them in.
    options = options.replace("$(NODE_IP)", "fd00::1").replace("$(NODE_NAME)", "node-1")
    _parser().parse_args(shlex.split(options))


@pytest.mark.parametrize("values", CASES)
def test_no_container_has_more_rights_than_it_says(values: dict[str, Any]) -> None:
    """Only the enforcer is root, and it is not privileged."""
    for rendered in objects(values):
        spec = rendered.get("spec") or {}
        pod = spec if rendered["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
        for container in pod.get("containers", []):
            context = container["securityContext"]
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert not context.get("privileged")
            is_enforcer = container["name"] == "podpace-enforcer"
            assert ("add" in context["capabilities"]) is is_enforcer
            assert (context.get("runAsUser") == 0) is is_enforcer
            assert container["resources"]["limits"].keys() == {"memory"}


def test_the_values_can_say_every_key_of_a_policy() -> None:
    """And what they say is a policy without a problem."""
    rendered = find(objects(MATRIX["every policy key"]), "ConfigMap", "podpace-policy")

    _, problems = parse_policy(rendered["data"])

    assert problems == ()
    assert set(rendered["data"]) == set(POLICY_KEYS)


def test_values_that_say_nothing_make_a_policy_that_says_nothing() -> None:
    """No default sneaks in."""
    assert not find(objects(), "ConfigMap", "podpace-policy")["data"]


def test_the_grace_period_outlasts_the_drain() -> None:
    """Else the kubelet would end a webhook that API servers still use."""
    rendered = objects({"webhook": {"drainSeconds": 60}})
    spec = find(rendered, "Deployment", "podpace-webhook")["spec"]["template"]["spec"]

    assert spec["terminationGracePeriodSeconds"] > 60


def test_an_upgrade_leaves_the_bundle_that_the_webhook_wrote() -> None:
    """A caBundle in the chart would replace it; the other modes have theirs in the chart."""

    def bundles(name: str) -> list[str | None]:
        return [
            webhook["clientConfig"].get("caBundle")
            for o in objects(MATRIX[name])
            if o["kind"].endswith("WebhookConfiguration")
            for webhook in o["webhooks"]
        ]

    assert bundles("default") == [None, None]
    assert bundles("cert-manager, own issuer") == [None, None]
    assert bundles("a Secret that is there") == ["QQ==", "QQ=="]


def test_cert_manager_is_told_whose_bundle_to_write() -> None:
    """By annotation, on both configurations; only in its mode."""

    def injected(name: str) -> set[str | None]:
        return {
            (o["metadata"].get("annotations") or {}).get("cert-manager.io/inject-ca-from")
            for o in objects(MATRIX[name])
            if o["kind"].endswith("WebhookConfiguration")
        }

    assert injected("cert-manager, own issuer") == {f"{NAMESPACE}/podpace-webhook"}
    assert injected("default") == {None}


def test_namespaces_that_are_left_out_are_left_out_of_admission_and_audit() -> None:
    """The audit would label what the webhook did not see."""
    rendered = objects({"webhook": {"exemptNamespaces": ["gitlab"]}})
    configuration = find(rendered, "MutatingWebhookConfiguration", "podpace")
    deployment = find(rendered, "Deployment", "podpace-webhook")

    selector = configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]
    assert set(selector["values"]) == names.ALWAYS_EXEMPT_NAMESPACES | {NAMESPACE, "gitlab"}
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--exempt-namespace=gitlab" in arguments


def test_without_an_audit_the_webhook_may_not_touch_pods() -> None:
    """Rights follow what is used."""

    def resources(values: dict[str, Any]) -> set[str]:
        role = find(objects(values), "ClusterRole", "podpace-webhook")
        return {r for rule in role["rules"] for r in rule["resources"]}

    assert "pods" in resources({})
    assert "pods" not in resources({"webhook": {"auditSeconds": 0}})


def test_the_chart_installs_the_version_of_the_project() -> None:
    """The images' tag."""
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == project["version"]
