"""Each platform's values, against the rules by which the platform admits pods."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.admission import RESTRICTED_V2, baseline, constraints, restricted
from tests.chart.helm import CHART, NAMESPACE, Json, find, objects
from tests.chart.matrix import PLATFORMS
from webhook.kube.cleaning import make_cleanup
from webhook.kube.selftest import ProbeImage, make_pod

PAGES = CHART.parents[1] / "docs" / "operator" / "platforms"
CASES = [pytest.param(values, id=name) for name, values in PLATFORMS.items()]


def pods(rendered: list[Json]) -> dict[str, Json]:
    """The spec of every pod that the chart makes, by the name of what makes it."""
    found = {}
    for o in rendered:
        spec = o.get("spec") or {}
        pod = spec if o["kind"] == "Pod" else (spec.get("template") or {}).get("spec")
        if pod is not None:
            found[o["metadata"]["name"]] = pod
    return found


def everything(values: Json) -> dict[str, Json]:
    """With hooks, and with the pod that the self-test starts and the DaemonSet that cleans."""
    rendered = objects(values | {"policies": {"free": {"egress": {"max": "1M"}}}})
    found = pods(rendered)
    daemon_set = find(rendered, "DaemonSet", "podpace-enforcer")
    cleaner = make_cleanup(daemon_set)["spec"]["template"]["spec"]
    probe: Json = make_pod(ProbeImage("image"))["spec"]
    return found | {"podpace-enforcer cleaning": cleaner, "podpace-selftest": probe}


def is_enforcer(name: str) -> bool:
    """Whether it is the part that needs the node."""
    return name.startswith("podpace-enforcer")


@pytest.mark.parametrize("values", CASES)
def test_all_but_the_enforcer_meet_the_strictest_pod_security_level(values: Json) -> None:
    """Namespaces on every platform may enforce it; the self-test's pod runs among users' pods."""
    refused = {n: [*restricted(p)] for n, p in everything(values).items() if not is_enforcer(n)}

    assert len(refused) == 5
    assert {n: why for n, why in refused.items() if why} == {}


@pytest.mark.parametrize("values", CASES)
def test_the_enforcer_asks_for_what_its_page_says_and_no_more(values: Json) -> None:
    """Talos enforces `baseline` everywhere but in kube-system: its page has the label to set."""
    refused = {*baseline(everything(values)["podpace-enforcer"])}
    expected = {"hostNetwork", "hostPID", "hostPath volumes", "capabilities", "host ports"}
    labels = {"SELinux"} if values.get("enforcer", {}).get("seLinuxOptions") else set()

    assert refused - {"AppArmor"} == expected | labels
    assert "pod-security.kubernetes.io/enforce=privileged" in (PAGES / "talos.md").read_text()


def test_openshift_s_default_constraints_take_all_but_the_enforcer() -> None:
    """With a user and a group from the namespace's own range, which only OpenShift knows."""
    found = everything(PLATFORMS["openshift"])

    refused = {n: [*constraints(p, RESTRICTED_V2)] for n, p in found.items() if not is_enforcer(n)}

    assert {n: why for n, why in refused.items() if why} == {}


def test_openshift_s_enforcer_is_taken_by_its_own_constraints_only() -> None:
    """They are for its account alone, and the cleanup of an uninstall runs under them, too."""
    rendered = objects(PLATFORMS["openshift"])
    scc = find(rendered, "SecurityContextConstraints", "podpace-enforcer")
    found = everything(PLATFORMS["openshift"])

    assert scc["users"] == [f"system:serviceaccount:{NAMESPACE}:podpace-enforcer"]
    assert scc["groups"] == []
    for name in ("podpace-enforcer", "podpace-enforcer cleaning"):
        assert [*constraints(found[name], scc)] == []
        assert [*constraints(found[name], RESTRICTED_V2)] != []


def _set(path: str, value: object) -> Callable[[Json], None]:
    def change(spec: Json) -> None:
        *above, last = path.split("/")
        place: Any = spec
        for key in above:
            place = place[int(key)] if key.isdigit() else place.setdefault(key, {})
        place[last] = value

    return change


BREAKS = [
    ("containers/0/securityContext/runAsUser", 65532, "scc"),
    ("containers/0/securityContext/runAsUser", 0, "both"),
    ("containers/0/securityContext/runAsNonRoot", False, "pss"),
    ("containers/0/securityContext/allowPrivilegeEscalation", True, "both"),
    ("containers/0/securityContext/privileged", True, "both"),
    ("containers/0/securityContext/capabilities", {"add": ["NET_ADMIN"]}, "both"),
    ("containers/0/securityContext/seccompProfile", {"type": "Unconfined"}, "both"),
    ("containers/0/securityContext/seLinuxOptions", {"type": "spc_t"}, "both"),
    ("securityContext/fsGroup", 65532, "scc"),
    ("hostNetwork", True, "both"),
    ("volumes", [{"name": "x", "hostPath": {"path": "/"}}], "both"),
    ("containers/0/ports", [{"containerPort": 1, "hostPort": 1}], "both"),
]


@pytest.mark.parametrize(("path", "value", "who"), BREAKS, ids=[f"{p}={v}" for p, v, _ in BREAKS])
def test_a_template_that_breaks_a_rule_is_found(path: str, value: object, who: str) -> None:
    """The checks above would see it."""
    spec = copy.deepcopy(everything(PLATFORMS["openshift"])["podpace-webhook"])
    _set(path, value)(spec)

    assert bool([*restricted(spec)]) is (who in ("pss", "both"))
    assert bool([*constraints(spec, RESTRICTED_V2)]) is (who in ("scc", "both"))


def test_no_enforcer_is_wanted_on_virtual_nodes() -> None:
    """It tolerates everything, so only this keeps its pods from being Pending there for ever."""
    spec = everything({})["podpace-enforcer"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]

    excluded = {(e["key"], *e["values"]) for e in term["matchExpressions"]}
    assert {e["operator"] for e in term["matchExpressions"]} == {"NotIn"}
    assert ("type", "virtual-kubelet") in excluded
    assert ("eks.amazonaws.com/compute-type", "fargate") in excluded


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_platform_has_a_page_that_says_how_to_use_its_values(name: str) -> None:
    """And the comment in the file leads there."""
    file = CHART / "platforms" / f"{name}.yaml"
    page = re.search(r"docs/operator/platforms/(\S+\.md)", file.read_text())

    assert page is not None
    assert f"charts/podpace/platforms/{name}.yaml" in Path(PAGES / page[1]).read_text()


def test_null_takes_a_default_away() -> None:
    """Helm merges maps: an empty one would leave what was there."""
    context = everything(PLATFORMS["openshift"])["podpace-enforcer"]["containers"][0]

    assert "appArmorProfile" not in context["securityContext"]
    assert context["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    assert yaml.safe_load((CHART / "platforms" / "openshift.yaml").read_text())
