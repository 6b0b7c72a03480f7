"""What the uninstall takes off pods, and which it waits for; an API server in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from contract import names
from kube.errors import ApiError
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from tests.unit.webhook.limited import limited_pod
from webhook.kube.unlimit import Unlimit


def test_what_the_webhook_wrote_goes_and_what_people_wrote_stays() -> None:
    """Nothing else is touched."""
    cluster = FakeApi()
    path = "/api/v1/namespaces/shop/pods/web"
    cluster.put(path, limited_pod())

    waiting = Unlimit(cluster, lambda _: None).step()

    assert waiting == ["shop/web"]
    metadata = cluster.get(path)["metadata"]
    assert metadata["labels"] == {"app": "web"}
    assert metadata["annotations"] == {names.ANNOTATION_EGRESS_BANDWIDTH: "1M"}


def test_a_pod_whose_labels_may_not_be_taken_off_yet_is_waited_for() -> None:
    """It changed meanwhile, or a guard in the API server has not gone yet: it is still limited."""
    path = "/api/v1/namespaces/shop/pods/web"

    class Guarded(FakeApi):
        guarded = True

        def json_patch(self, path: str, operations: Sequence[Json]) -> None:
            """See the Protocol."""
            if self.guarded:
                raise ApiError("denied", 422)
            super().json_patch(path, operations)

    cluster = Guarded()
    cluster.put(path, limited_pod())
    unlimit = Unlimit(cluster, lambda _: None)
    refused = unlimit.step()
    cluster.guarded = False
    taken_off = unlimit.step()

    assert refused == taken_off == ["shop/web"]
    assert cluster.get(path)["metadata"]["labels"] == {"app": "web"}


def _gated(pod: Json) -> None:
    gate = {"conditionType": names.CONDITION_BANDWIDTH_ENFORCED}
    pod["spec"]["readinessGates"] = [gate]


def _told(pod: Json) -> None:
    _gated(pod)
    pod["status"]["conditions"][0]["message"] = names.NO_LIMIT_MESSAGE


RELEASED: list[tuple[str, Callable[[Json], Any]]] = [
    ("no condition", lambda pod: pod["status"]["conditions"].clear()),
    ("ready by its gate", _told),
    ("ended", lambda pod: pod["status"].update(phase="Succeeded")),
    ("on no node", lambda pod: pod["spec"].pop("nodeName")),
]


@pytest.mark.parametrize("change", [c for _, c in RELEASED], ids=[n for n, _ in RELEASED])
def test_a_pod_is_released_when_nothing_claims_a_limit(change: Callable[[Json], Any]) -> None:
    """A pod that waits for its gate must stay ready."""
    cluster = FakeApi()
    released = limited_pod()
    change(released)
    cluster.put("/api/v1/namespaces/shop/pods/web", released)

    assert Unlimit(cluster, lambda _: None).step() == []


def test_a_gated_pod_that_is_limited_still_is_waited_for() -> None:
    """It is ready before and after; its node has not spoken yet."""
    cluster = FakeApi()
    held = limited_pod()
    _gated(held)
    cluster.put("/api/v1/namespaces/shop/pods/web", held)

    assert Unlimit(cluster, lambda _: None).step() == ["shop/web"]


@pytest.mark.parametrize("conditions", [None, [{"type": "PodScheduled", "status": "False"}]])
def test_a_gated_pod_that_is_on_no_node_yet_gets_its_gate_opened(
    conditions: list[Json] | None,
) -> None:
    """Later nobody would be there to do it."""
    cluster = FakeApi()
    path = "/api/v1/namespaces/shop/pods/web"
    pending = limited_pod()
    _gated(pending)
    del pending["spec"]["nodeName"]
    pending["status"] = {"phase": "Pending"} | ({"conditions": conditions} if conditions else {})
    cluster.put(path, pending)
    unlimit = Unlimit(cluster, lambda _: None)

    assert unlimit.step() == ["shop/web"]
    assert unlimit.step() == []
    written = cluster.get(path)["status"]["conditions"][-1]
    assert (written["type"], written["status"]) == (names.CONDITION_BANDWIDTH_ENFORCED, "True")
