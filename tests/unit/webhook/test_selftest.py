"""What ``podpace-webhook selftest`` finds, against an API server in memory."""

from typing import Any

import pytest

from contract import names
from kube.errors import ApiError
from kube.ports import Json
from tests.unit.webhook.fake_api import FakeApi
from webhook.kube.selftest import ProbeImage, SelfTest

POD = "/api/v1/namespaces/default/pods/podpace-selftest"
DAEMON_SET = "/apis/apps/v1/namespaces/podpace-system/daemonsets/podpace-enforcer"


class Cluster(FakeApi):
    """Labels and conditions come from a webhook and an enforcer that are said to be there."""

    def __init__(
        self, labels: dict[str, str] | None, condition: dict[str, str] | None, ready: int = 2
    ) -> None:
        super().__init__()
        self.labels, self.condition = labels, condition
        self.slow_answers = 0
        status = {"numberReady": ready, "desiredNumberScheduled": 2}
        self.put(DAEMON_SET, {"metadata": {}, "status": status})

    def create(self, path: str, body: Json) -> Json:
        """A dry run makes nothing."""
        labels = self.labels if self.slow_answers == 0 else None
        self.slow_answers = max(0, self.slow_answers - 1)
        made = body | {"metadata": body["metadata"] | {"labels": labels}}
        if path.endswith("?dryRun=All"):
            return made
        conditions = [self.condition] if self.condition else []
        status = {"phase": "Running", "conditions": conditions}
        made |= {"status": status, "spec": {"nodeName": "node-1"}}
        return super().create(path, made)


LABELS = {names.LABEL_EGRESS_BITS_PER_SECOND: "10000000"}


def condition(status: str, reason: str) -> dict[str, str]:
    """As the enforcer writes it."""
    kind = names.CONDITION_BANDWIDTH_ENFORCED
    return {"type": kind, "status": status, "reason": reason, "message": f"it is {reason}"}


def run(cluster: FakeApi, timeout_seconds: float = 5) -> tuple[bool, list[str]]:
    """The result and what was said; the clock moves by itself."""
    said: list[str] = []
    moments = iter(range(1000))
    test = SelfTest(
        cluster,
        "default",
        "podpace-system",
        ProbeImage("image"),
        timeout_seconds,
        said.append,
        lambda _: None,
        lambda: float(next(moments)),
    )
    return test.run(), said


@pytest.mark.parametrize("found", [condition("True", "Enforced"), condition("False", "Observing")])
def test_a_pod_that_is_labelled_and_judged_passes_and_is_deleted(found: dict[str, str]) -> None:
    """Observing is what the policy wants, not a fault."""
    cluster = Cluster(LABELS, found)

    passed, said = run(cluster)

    assert passed, said
    assert f"a pod on node-1: it is {found['reason']}" in said[-1]
    assert POD not in cluster.objects


def test_a_webhook_that_is_slow_to_answer_once_is_asked_again() -> None:
    """The API server goes on without its answer; a cluster whose nodes are busy is not broken."""
    cluster = Cluster(LABELS, condition("True", "Enforced"))
    cluster.slow_answers = 2

    passed, said = run(cluster)

    assert passed, said


def test_a_webhook_that_does_not_answer_for_long_has_failed() -> None:
    """However long a pod may take, labels are waited for 15 seconds, at a look a second."""
    cluster = Cluster(LABELS, condition("True", "Enforced"))
    cluster.slow_answers = 100

    passed, said = run(cluster, timeout_seconds=300)

    assert not passed
    assert "got no labels" in said[0]
    assert cluster.slow_answers >= 100 - 17


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"labels": None, "condition": condition("True", "Enforced")}, "got no labels"),
    ({"labels": LABELS, "condition": None}, "no limit in force after 5 s: Running"),
    ({"labels": LABELS, "condition": condition("False", "Failed")}, "it is Failed"),
    ({"labels": LABELS, "condition": condition("False", "Unsupported")}, "it is Unsupported"),
    (
        {"labels": LABELS, "condition": condition("True", "Enforced"), "ready": 1},
        "ready on 1 of 2 nodes",
    ),
]


@pytest.mark.parametrize(("state", "said"), FAULTS, ids=[s for _, s in FAULTS])
def test_each_fault_fails_the_test_and_says_where_to_look(state: dict[str, Any], said: str) -> None:
    """One line per check; the others are done all the same."""
    cluster = Cluster(**state)

    passed, lines = run(cluster)

    assert not passed
    assert len(lines) == 3
    assert any(line.startswith("FAILED: ") and said in line for line in lines), lines
    assert POD not in cluster.objects


def test_an_api_server_that_does_not_answer_is_said() -> None:
    """No traceback in the log of a test pod."""
    cluster = Cluster(LABELS, None)
    cluster.fail = ApiError("refused", 503)

    passed, lines = run(cluster)

    assert not passed
    assert "the API server: 503 refused" in lines[1]
