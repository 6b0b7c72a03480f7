"""``values.yaml`` and its schema: nothing unknown, nothing wrong, nothing unexplained."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, RELEASE, helm, refusal, template
from tests.chart.values_table import README, WHOLE, has_values, renewed, rows
from tests.cluster.build import HELMS

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = (CHART / "values.yaml").read_text()
_KUBERNETES = WHOLE
"""Keys whose own keys are Kubernetes', not ours to explain."""


def values(path: str, value: object) -> dict[str, Any]:
    """``{"a": {"b": value}}`` from ``a.b``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


REFUSED: list[tuple[str, object, str]] = [
    ("enforcr.logLevel", "info", "additional properties 'enforcr' not allowed"),
    ("webhook.replica", 3, "'/webhook': additional properties 'replica' not allowed"),
    ("webhook.replicas", "three", "'/webhook/replicas': got string, want integer"),
    ("webhook.replicas", 0, "'/webhook/replicas': minimum: got 0, want 1"),
    ("webhook.failurePolicy", "fail", "'/webhook/failurePolicy': value must be one of"),
    ("webhook.timeoutSeconds", 60, "'/webhook/timeoutSeconds': maximum: got 60, want 30"),
    ("webhook.exemptNamespaces", ["Shop"], "'/webhook/exemptNamespaces/0'"),
    ("webhook.certificates.mode", "secret", "'/webhook/certificates/secret/name'"),
    ("webhook.certificates.mode", "vault", "'/webhook/certificates/mode'"),
    ("webhook.podLabels", {"podpace.io/x": "y"}, "'/webhook/podLabels'"),
    ("commonLabels", {"app.kubernetes.io/name": "y"}, "'/commonLabels'"),
    ("fullnameOverride", "Pace", "'/fullnameOverride'"),
    ("webhook.extraArgs", "--x", "'/webhook/extraArgs': got string, want array"),
    ("webhook.readinessProbe.seconds", 1, "'/webhook/readinessProbe': additional properties"),
    ("webhook.service.ipFamilies", ["v6"], "'/webhook/service/ipFamilies/0'"),
    ("global.imageRegistry", 5, "'/global/imageRegistry'"),
    ("webhook.port", 84430, "'/webhook/port': maximum"),
    ("webhook.tlsMinimum", 1.2, "'/webhook/tlsMinimum'"),
    ("webhook.image.digest", "latest", "'/webhook/image/digest'"),
    ("webhook.resources.limit", {}, "'/webhook/resources': additional properties 'limit'"),
    ("enforcer.capabilities", ["CAP_BPF"], "'/enforcer/capabilities/0'"),
    ("enforcer.cgroupRoot", "sys/fs/cgroup", "'/enforcer/cgroupRoot'"),
    ("enforcer.maxUnavailable", "ten", "'/enforcer/maxUnavailable'"),
    ("enforcer.tolerations", {}, "'/enforcer/tolerations': got object, want array"),
    ("policy.ingress.max", "10Mbps", "'/policy/ingress/max'"),
    ("policy.ingress.maximum", "10M", "'/policy/ingress': additional properties 'maximum'"),
    ("policy.takeOver", "yes", "'/policy/takeOver': got string, want null or boolean"),
    ("policy.mode", "log", "'/policy/mode'"),
    ("policy.exemptCidrs", ["ten"], "'/policy/exemptCidrs/0'"),
    (
        "policy.exemptCidrs",
        [f"10.0.{n}.0/24" for n in range(65)],
        "'/policy/exemptCidrs': maxItems",
    ),
    ("policy.priority", 1, "'/policy': additional properties 'priority'"),
    ("policies.podpace-policy", {}, "'/policies': 'not' failed"),
    ("policies.Free", {}, "'/policies': additional properties 'Free' not allowed"),
    ("policies.free.create", True, "'/policies/free': additional properties 'create'"),
    ("policies.free.priority", "high", "'/policies/free/priority'"),
    ("policies.free.egress.max", "1 M", "'/policies/free/egress/max'"),
    ("monitoring.dashboard.enabled", "true", "'/monitoring/dashboard/enabled'"),
    ("networkPolicy.apiServerPorts", [], "'/networkPolicy/apiServerPorts'"),
    ("uninstall.timeoutSeconds", "5m", "'/uninstall/timeoutSeconds'"),
    ("test.namespace", "kube-system", "'/test/namespace'"),
]


@pytest.mark.parametrize("program", HELMS)
@pytest.mark.parametrize(
    ("path", "value", "said"), REFUSED, ids=[f"{p}={v}" for p, v, _ in REFUSED]
)
def test_an_unknown_or_wrong_value_is_refused_with_its_path(
    path: str, value: object, said: str, program: str
) -> None:
    """Helm does not install then."""
    assert said in refusal(values(path, value), program)


def test_the_release_s_namespace_cannot_be_default() -> None:
    """It is exempt; somebody has forgotten ``--namespace``."""
    done = helm("template", RELEASE, str(CHART))

    assert "install with --namespace podpace-system" in done.stderr


@pytest.mark.parametrize(
    ("replicas", "least", "taken"),
    [(2, 1, True), (2, 2, False), (3, 2, True), (2, "50%", True), (2, "51%", False), (1, 1, True)],
)
def test_a_budget_leaves_a_replica_to_a_drain(replicas: int, least: int | str, taken: bool) -> None:
    """Else no node with a replica could be drained."""
    budget = {"podDisruptionBudget": {"minAvailable": least}}
    wanted = {"webhook": {"replicas": replicas, **budget}}

    if taken:
        template(wanted)
    else:
        assert f"minAvailable {least} leaves none of {replicas} replicas" in refusal(wanted)


def test_the_test_s_namespace_must_be_one_with_admission() -> None:
    """A schema cannot compare two values."""
    exempt = {"webhook": {"exemptNamespaces": ["default"]}}

    assert 'test.namespace "default" is exempt from admission' in refusal(exempt)
    at_startup = {"webhook": {"failurePolicy": "Fail"}, "test": {"namespace": "cilium"}}
    assert 'test.namespace "cilium" is exempt from admission' in refusal(at_startup)


def test_a_cluster_that_lacks_what_is_needed_is_refused() -> None:
    """Match conditions would be dropped in silence by an older one."""
    done = helm("template", RELEASE, str(CHART), "--kube-version=1.29.9")

    assert "incompatible with Kubernetes v1.29.9" in done.stderr


def _objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from _objects(value, f"{path}/{key}")


def test_no_object_of_the_schema_takes_keys_it_does_not_name() -> None:
    """Except where the keys are the user's: labels, and what Kubernetes itself checks."""
    open_ended = {
        path for path, schema in _objects(SCHEMA) if schema.get("additionalProperties") is not False
    }

    assert open_ended == {
        "/properties/global",
        "/definitions/labels",
        "/definitions/commonLabels",
        "/definitions/openObject",
        "/definitions/openList/items",
        *(
            f"/definitions/affinity/properties/{k}"
            for k in ("nodeAffinity", "podAffinity", "podAntiAffinity")
        ),
        *(
            f"/properties/networkPolicy/properties/metricsFrom/items/properties/{key}"
            for key in ("namespaceSelector", "podSelector", "ipBlock")
        ),
    }


def _keys(tree: Any, schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Every path of the values, and whether the schema has it, too."""
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    known = schema.get("properties", {})
    for key in dict.fromkeys([*(tree or {}), *known]):
        here = f"{path}/{key}"
        if path.rpartition("/")[2] in _KUBERNETES or not isinstance(known, dict):
            continue
        yield here, key in known and key in (tree or {})
        if isinstance(tree.get(key), dict) and tree[key] and known.get(key):
            yield from _keys(tree[key], known[key], here)


def test_values_and_schema_have_the_same_keys() -> None:
    """A value that is only in one of them can be neither found nor set."""
    only_in_one = {path for path, both in _keys(yaml.safe_load(VALUES), SCHEMA) if not both}

    assert only_in_one == set()


def test_every_value_is_explained() -> None:
    """By a comment above it, or above the value that it is listed with."""
    unexplained = []
    explained, kubernetes = False, ""
    for line in VALUES.splitlines():
        key = re.match(r"( *)([A-Za-z]+):", line)
        if kubernetes and line.startswith(kubernetes):
            continue
        kubernetes = ""
        if not key:
            explained = line.lstrip().startswith("#") or (explained and bool(line.strip()))
            continue
        if not explained:
            unexplained.append(line)
        if key[2] in _KUBERNETES:
            kubernetes = key[1] + " "
        # A comment holds for the lines directly below it, on its level.
        if line.rstrip().endswith(":") and key[2] not in ("ingress", "egress", "image", "hooks"):
            explained = False

    assert unexplained == []


def test_the_chart_s_readme_has_the_values_as_they_are() -> None:
    """After a change: ``python -m tests.chart.values_table``."""
    assert README.read_text() == renewed(README.read_text())


def test_the_table_has_every_value_with_its_explanation() -> None:
    """Down to what has no values below it."""

    def leaves(tree: Any, path: str = "") -> Iterator[str]:
        for key, value in tree.items():
            below = has_values(key, value)
            yield from leaves(value, f"{path}{key}.") if below else [f"{path}{key}"]

    found = {path: text for path, _, text in rows()}

    assert set(found) == set(leaves(yaml.safe_load(VALUES)))
    assert [path for path, text in found.items() if not text] == []
