"""The first half of an uninstall on real enforcers: labels go, limits and conditions follow."""

from collections.abc import Iterator

import pytest
import yaml

from kube.api import KubeApi
from kube.credentials import load
from tests.cluster.client import Json
from tests.cluster.helpers import EGRESS, ours, until
from tests.cluster.install import Installation, pod, render
from tests.cluster.nodes.enforcer import Enforcer
from webhook.kube.unlimit import Unlimit

_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podpace"
_LABEL_GUARD = (
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/podpace-label-guard"
)
CONDITION = "podpace.io/BandwidthEnforced"


@pytest.fixture
def without_admission(installation: Installation) -> Iterator[None]:
    """As after the uninstall's first step; put back afterwards."""
    yield
    for template in ("webhook-configurations.yaml", "pod-guard.yaml"):
        manifests = yaml.safe_dump_all(render(template))
        done = installation.plane.kubectl("apply", "-f", "-", stdin=manifests)
        assert done.returncode == 0, done.stderr
    # caBundle is written at the webhook's next look.
    installation.wait_called()


def conditions(found: Json) -> dict[str, Json]:
    """By type."""
    return {c["type"]: c for c in found["status"].get("conditions", [])}


def test_enforcers_take_off_limits_and_conditions_when_labels_go(
    installation: Installation,
    enforcers: list[Enforcer],
    without_admission: None,
    namespace: str,
) -> None:
    """A pod that is ready by its condition stays ready."""
    admin = installation.admin
    path = f"/api/v1/namespaces/{namespace}/pods"
    gate = {"podpace.io/readiness-gate": "true"}
    for name, more in (("plain", {}), ("gated", gate)):
        admin.create(path, pod({EGRESS: "10M"} | more, name=name))
        until(
            lambda name=name: conditions(admin.get(f"{path}/{name}")),
            lambda found: all(
                found.get(c, {}).get("status") == "True" for c in (CONDITION, "Ready")
            ),
        )
    admin.delete(_CONFIGURATIONS)
    admin.delete(_LABEL_GUARD)  # it lets the uninstall's account pass, and not this one
    # The API servers honour that after a moment; until then labels would come back.
    until(
        lambda: admin.create(f"{path}?dryRun=All", pod({EGRESS: "1M"}, name="probe")),
        lambda made: not ours(made),
    )
    unlimit = Unlimit(KubeApi(lambda: load(str(installation.plane.kubeconfig("admin")))), print)

    until(unlimit.step, lambda waiting: not waiting)

    plain, gated = (admin.get(f"{path}/{name}") for name in ("plain", "gated"))
    assert ours(plain) == ours(gated) == {}
    assert CONDITION not in conditions(plain)
    assert conditions(gated)[CONDITION]["message"] == "no limit is asked for"
    assert conditions(gated)["Ready"]["status"] == "True"
    for enforcer in enforcers:
        until(enforcer.metrics, lambda text: "podpace_targets 0.0" in text)
