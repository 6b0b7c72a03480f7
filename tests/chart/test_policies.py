"""The policies that the chart makes, and what guards them, held against the contract."""

import re
from typing import Any

import yaml

from contract.names import BURST_KEYS, OUR_LABELS, RATE_KEYS, REQUEST_KEYS, STANDARD_RATE_KEYS
from contract.policy import NAMESPACE_KEYS, Scope, parse_policy, scope_of
from contract.selectors import MAX_CHARS
from tests.chart.helm import NAMESPACE, find, objects
from tests.chart.matrix import MATRIX
from tests.unit.contract.test_selectors import SELECTS, WRONG


def test_the_values_can_say_every_key_of_a_policy() -> None:
    """And what they say is a policy without a problem."""
    rendered = find(objects(MATRIX["every policy key"]), "ConfigMap", "podpace-policy")

    _, problems = parse_policy(rendered["data"])

    assert problems == ()
    assert set(rendered["data"]) == set(NAMESPACE_KEYS)


def test_the_values_can_say_what_policies_select() -> None:
    """They are policies of the cluster by their label, and without a problem."""
    rendered = objects(MATRIX["policies that select, live changes by those with the verb"])

    free, late = (find(rendered, "ConfigMap", name) for name in ("free-tier", "late"))

    for found in (free, late):
        metadata = found["metadata"]
        scope = scope_of(NAMESPACE, metadata["name"], metadata["labels"], NAMESPACE)
        assert scope is Scope.SELECTED
        assert parse_policy(found["data"], scope)[1] == ()
    assert free["data"] == {
        "namespace-selector": "tier in (free,trial)",
        "priority": "10",
        "egress.max": "10M",
    }
    assert late["data"] == {"priority": "-123456789", "mode": "observe"}


def test_policies_stay_when_the_chart_lets_go_of_them() -> None:
    """An uninstall or a changed value would lift every bound."""
    policies = [
        o
        for o in objects(MATRIX["policies that select, live changes by those with the verb"])
        if o["metadata"]["labels"].get("podpace.io/policy")
    ]

    assert len(policies) == 3
    kept = {o["metadata"]["annotations"]["helm.sh/resource-policy"] for o in policies}
    assert kept == {"keep"}


def test_policies_are_judged_before_an_install_if_they_say_something() -> None:
    """All of them, as they would be applied; a policy that says nothing costs no Job."""
    rendered = objects(MATRIX["every policy key"])
    reviewed = find(rendered, "ConfigMap", "podpace-policy-review")

    [policy] = [o for o in yaml.safe_load_all(reviewed["data"]["policies.yaml"]) if o]

    assert policy == find(rendered, "ConfigMap", "podpace-policy")
    assert "pre-install" in reviewed["metadata"]["annotations"]["helm.sh/hook"]
    assert not [o for o in objects() if o["kind"] == "Job" and "review" in o["metadata"]["name"]]


def test_guards_and_contract_name_the_same_keys() -> None:
    """CEL cannot read ``contract/names.py``."""

    def quoted(policy: str, variable: str) -> set[str]:
        spec = find(objects(), "ValidatingAdmissionPolicy", policy)["spec"]
        [found] = [v["expression"] for v in spec["variables"] if v["name"] == variable]
        return {key for key in re.findall(r"'([^']*)'", found) if "/" in key}

    asking = {
        *RATE_KEYS.values(),
        *STANDARD_RATE_KEYS.values(),
        *BURST_KEYS.values(),
        *REQUEST_KEYS.values(),
    }
    assert quoted("podpace-label-guard", "labels") == set(OUR_LABELS)
    assert quoted("podpace-label-guard", "annotations") == asking


def test_live_changes_are_guarded_only_where_they_are_to_be() -> None:
    """A policy that is off would still be evaluated on every update of a pod."""

    def guards(values: dict[str, Any]) -> set[str]:
        return {o["metadata"]["name"] for o in objects(values) if "-live-" in o["metadata"]["name"]}

    assert guards({}) == set()
    required = guards({"liveChanges": {"requireVerb": True}})
    assert required == {"podpace-live-changes", "podpace-live-policies"}


def test_the_guard_takes_the_selectors_that_the_webhook_takes() -> None:
    """Its regular expression is RE2's and Python's alike."""
    spec = find(objects(), "ValidatingAdmissionPolicy", "podpace-policy-guard")["spec"]
    [expression] = [
        v["expression"] for v in spec["validations"] if "selector" in v.get("message", "")
    ]
    pattern = re.compile(expression.partition(".matches('")[2].removesuffix("')"))

    for text, _ in SELECTS:
        assert pattern.search(text), text
    for text in WRONG:
        assert len(text) > MAX_CHARS or not pattern.search(text), text


def test_values_that_say_nothing_make_a_policy_that_says_nothing() -> None:
    """No default sneaks in."""
    assert not find(objects(), "ConfigMap", "podpace-policy")["data"]
