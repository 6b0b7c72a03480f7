"""What the chart renders, for the values in ``matrix``."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from contract import names
from contract.stats import API_SERVICE, GROUP, RESOURCE
from enforcer.options import parser
from tests.chart.helm import CHART, NAMESPACE, Json, find, helm, objects, refusal, template
from tests.chart.matrix import MATRIX
from tests.cluster.build import HELMS
from webhook.__main__ import cli

_WEBHOOK = "podpace-webhook"
SNAPSHOT = Path(__file__).with_name("snapshot.yaml")
CASES = [pytest.param(values, id=name) for name, values in MATRIX.items()]


@pytest.mark.parametrize("program", HELMS)
@pytest.mark.parametrize("values", CASES)
def test_helm_lint_has_nothing_to_say(values: dict[str, Any], program: str) -> None:
    """Warnings count as errors."""
    content = yaml.safe_dump(values)
    command = ("lint", "--strict", f"--namespace={NAMESPACE}", "--values=-", str(CHART))
    done = helm(*command, stdin=content, program=program)

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
    full = values.get("fullnameOverride", "podpace")
    elsewhere = {m.get("namespace") for m in values.get("monitoring", {}).values()} - {None}
    for rendered in objects(values):
        labels = rendered["metadata"].get("labels") or {}
        assert labels.get("app.kubernetes.io/name") == values.get("nameOverride", "podpace")
        expected = {None, values.get("namespaceOverride", NAMESPACE)} | elsewhere
        if rendered["metadata"]["name"] == f"{full}-test-pods":
            expected = {values.get("test", {}).get("namespace", "default")}
        if rendered["metadata"]["name"] == f"{full}-stats-authentication":
            expected = {"kube-system"}  # where the role is that it gives
        assert rendered["metadata"].get("namespace") in expected


@pytest.mark.parametrize("values", CASES)
def test_the_programs_know_every_option_they_are_given(values: dict[str, Any]) -> None:
    """The chart and the command lines cannot part."""
    rendered = objects(values)
    commands: Any = typer.main.get_command(cli)
    full = values.get("fullnameOverride", "podpace")
    daemon = find(rendered, "DaemonSet", f"{full}-enforcer")["spec"]["template"]["spec"]
    for kind, name in (
        ("Deployment", "webhook"),
        ("Job", "uninstall"),
        ("Job", "policy-review"),
        ("Pod", "test"),
    ):
        for o in rendered:
            if o["kind"] == kind and o["metadata"]["name"] == f"{full}-{name}":
                spec = o["spec"] if kind == "Pod" else o["spec"]["template"]["spec"]
                command, *options = spec["containers"][0]["args"]
                commands.commands[command].make_context(command, options)
    options = shlex.join(daemon["containers"][0]["args"])
    # As the kubelet puts them in.
    options = options.replace("$(NODE_IP)", "fd00::1").replace("$(NODE_NAME)", "node-1")
    parser().parse_args(shlex.split(options))


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
            assert "memory" in container["resources"]["limits"]
            # What throttles makes pods' creation slow.
            assert (
                is_enforcer
                or container["name"] != "webhook"
                or ("cpu" not in container["resources"]["limits"])
            )


def test_with_fail_closed_what_nodes_start_with_is_exempt() -> None:
    """From admission and from the audit; with Ignore it is limited like anything else."""

    def exempt(values: dict[str, Any]) -> tuple[list[str], list[str]]:
        rendered = objects(values)
        webhooks = find(rendered, "MutatingWebhookConfiguration", "podpace")["webhooks"]
        pods = find(rendered, "Deployment", "podpace-webhook")["spec"]["template"]["spec"]
        named = [a for a in pods["containers"][0]["args"] if a.startswith("--exempt-namespace=")]
        return (
            webhooks[0]["namespaceSelector"]["matchExpressions"][0]["values"],
            [a.partition("=")[2] for a in named],
        )

    always = ["kube-system", "kube-node-lease", NAMESPACE]
    admission, audit = exempt({"webhook": {"failurePolicy": "Fail", "exemptNamespaces": ["own"]}})
    assert exempt({}) == (always, [])
    assert admission == always + audit
    assert {"calico-system", "cilium", "cert-manager", "rook-ceph", "own"} <= set(audit)


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

    assert set(bundles("default")) == {None}
    assert set(bundles("cert-manager, own issuer")) == {None}
    assert set(bundles("a Secret that is there")) == {"QQ=="}


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


def test_cert_managers_bundle_outlives_the_leaf() -> None:
    """An authority between issuer and leaf; with an issuer of the user's there is none of ours."""
    rendered = objects(MATRIX["cert-manager, self-signed"])
    leaf = find(rendered, "Certificate", "podpace-webhook")["spec"]
    issuer = find(rendered, "Issuer", leaf["issuerRef"]["name"])["spec"]
    authority = find(rendered, "Certificate", issuer["ca"]["secretName"])["spec"]
    root = find(rendered, "Issuer", authority["issuerRef"]["name"])["spec"]

    assert root == {"selfSigned": {}}
    assert authority["isCA"]
    assert authority["secretName"] == issuer["ca"]["secretName"]
    # What the old one signed stays good when it is renewed.
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    assert not leaf.get("isCA")
    own = objects(MATRIX["cert-manager, own issuer"])
    assert [o["metadata"]["name"] for o in own if o["kind"] == "Certificate"] == ["podpace-webhook"]
    assert not [o for o in own if o["kind"] == "Issuer"]


def test_a_slow_answer_of_a_busy_node_does_not_take_a_replica_out() -> None:
    """Of readiness; and a draining replica serves on until it is known that it is not ready."""
    webhook = find(objects(), "Deployment", "podpace-webhook")["spec"]["template"]["spec"]
    probe = webhook["containers"][0]["readinessProbe"]

    assert probe["timeoutSeconds"] >= 3
    assert probe["failureThreshold"] >= 2
    drain = next(a for a in webhook["containers"][0]["args"] if a.startswith("--drain-seconds="))
    assert int(drain.partition("=")[2]) > probe["periodSeconds"] * probe["failureThreshold"]


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


def test_counters_for_users_are_asked_for_only() -> None:
    """An aggregated API that is away keeps namespaces from ending: nobody has one unawares."""
    with_stats = objects({"stats": {"enabled": True}})
    service = find(with_stats, "APIService", API_SERVICE)["spec"]["service"]
    ports = {p["name"]: p for p in find(with_stats, "Service", _WEBHOOK)["spec"]["ports"]}
    role = find(with_stats, "ClusterRole", "podpace-read-stats")

    # An uninstall takes off one of before.
    named = [o for o in objects() if API_SERVICE in str(o)]
    assert [(o["kind"], o["metadata"]["name"]) for o in named] == [
        ("ClusterRole", "podpace-uninstall")
    ]
    assert GROUP not in str([o for o in objects() if o not in named])
    assert (service["name"], service["port"]) == (_WEBHOOK, ports["stats"]["port"])
    assert role["rules"] == [{"apiGroups": [GROUP], "resources": [RESOURCE], "verbs": ["list"]}]
    assert role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"


def test_the_chart_installs_the_version_of_the_project() -> None:
    """The images' tag."""
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == project["version"]


def test_a_name_of_ones_own_is_everywhere_but_on_the_policy() -> None:
    """In objects, in what refers to them, in admission policies and in the programs' options."""
    text = template(MATRIX["other names, accounts that are there, a namespace of its own"])
    known = {
        "podpace-policy",  # the name that namespaces' own policies have, too
        "podpace-enforcer",  # a container, a repository
        "podpace-webhook",  # a repository
        "podpace-selftest",
        "podpace-0",  # the chart's version
        "podpace-system",  # Helm's own
    }

    found = set(re.findall(r"podpace-[a-z0-9]+", text))
    names_of_objects = {
        o["metadata"]["name"]
        for o in objects(MATRIX["other names, accounts that are there, a namespace of its own"])
    }

    assert found <= known
    assert "global.example/podpace-webhook:" in text
    assert "podpace-system" not in text.replace("namespace podpace-system", "")
    assert {n for n in names_of_objects if n.startswith("podpace")} == {"podpace-policy"}
    assert "system:serviceaccount:net-pace:admission" in text
    assert "system:serviceaccount:net-pace:net-pace-enforcer" in text
    assert "system:serviceaccount:net-pace:podpace" not in text


def test_common_labels_are_on_everything_and_select_nothing() -> None:
    """Selectors cannot be changed after an installation, labels can."""
    rendered = objects(MATRIX["other names, accounts that are there, a namespace of its own"])

    for o in rendered:
        assert o["metadata"]["labels"]["cost-center"] == "7"
        assert o["metadata"]["labels"]["owner"] == "net"
        assert all("cost-center" not in selector for selector in _selectors(o))
        spec = (o.get("spec") or {}).get("template", {}).get("spec", {})
        if spec:
            assert {"name": "one"} in spec["imagePullSecrets"]
            assert spec["nodeSelector"]["pool"] == "general"


def test_replicas_on_the_nodes_network_leave_before_the_new_ones_come() -> None:
    """Both want the same ports."""

    def surge(*, host: bool) -> dict[str, int]:
        deployment = find(objects({"webhook": {"hostNetwork": host}}), "Deployment", _WEBHOOK)
        updates: dict[str, int] = deployment["spec"]["strategy"]["rollingUpdate"]
        return updates

    assert surge(host=True) == {"maxUnavailable": 1, "maxSurge": 0}
    assert surge(host=False) == {"maxUnavailable": 0, "maxSurge": 1}


def test_what_narrows_admission_is_refused_beside_an_audit() -> None:
    """It would limit, a minute later, what admission was told to leave alone."""
    narrowed = {"configuration": {"namespaceSelector": {"matchLabels": {"limits": "on"}}}}

    assert "set webhook.auditSeconds to 0" in refusal({"webhook": narrowed})
    template({"webhook": narrowed | {"auditSeconds": 0}})


def test_users_may_read_the_clusters_policies_but_never_all_of_kube_system() -> None:
    """Its other ConfigMaps are not ours to show."""

    def reads(values: dict[str, Any]) -> bool:
        return any(o["metadata"]["name"] == "podpace-policies" for o in objects(values))

    assert reads({})
    assert not reads({"rbac": {"readPolicies": False}})
    assert not reads({"namespaceOverride": "kube-system"})


@pytest.mark.parametrize("role", ["admin", "edit", ""])
def test_the_verb_is_given_to_the_role_that_is_named(role: str) -> None:
    """And to none where it means nothing."""
    rendered = objects({"liveChanges": {"requireVerb": True, "aggregateTo": role}})
    found = [o for o in rendered if o["metadata"]["name"] == "podpace-change-bandwidth"]
    labels = [k for o in found for k in o["metadata"]["labels"] if "aggregate-to" in k]

    assert labels == ([f"rbac.authorization.k8s.io/aggregate-to-{role}"] if role else [])
    assert not [o for o in objects({}) if o["metadata"]["name"] == "podpace-change-bandwidth"]


def test_an_enforcer_that_advertises_nothing_may_not_write_to_nodes() -> None:
    """The right goes with the option."""
    for advertise in (True, False):
        rendered = objects({"enforcer": {"advertise": advertise}})
        daemon = find(rendered, "DaemonSet", "podpace-enforcer")["spec"]["template"]["spec"]
        rules = find(rendered, "ClusterRole", "podpace-enforcer")["rules"]

        assert ("--advertise" in daemon["containers"][0]["args"]) is advertise
        assert any("nodes/status" in rule["resources"] for rule in rules) is advertise
