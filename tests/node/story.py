"""Ten pods that have booked, and what is seen of them while something happens to their nodes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.cluster.client import Json
from tests.node.cluster import Cluster
from tests.node.pods import NAMESPACE, condition, pod
from tests.node.product import enforcer_pods
from tests.node.recorder import EGRESS, Recorder, Seen, gaps

BACK_SECONDS: Final = 15
"""How soon a Node has its capacity again; measured on this computer's clock."""
ALL: Final = ("1G", "1G")
NAMES: Final = tuple(f"booked-{number}" for number in range(12))
REQUEST: Final = {"podpace.io/egress-request": "200M"}
REJECTED: Final = ("OutOf", "Evict", "Unexpected", "Preempt", "TaintManager", "NodeAffinity")
"""Reasons that a kubelet or a controller gives for ending a pod."""
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass
class Story:
    """Ten pods of 200M that run on two nodes of 1G, one that waits, and what is seen of them."""

    cluster: Cluster
    nodes: Recorder
    pods: Recorder
    rows: list[str] = field(default_factory=list)

    def items(self) -> dict[str, Json]:
        """The pods, by name."""
        items = self.cluster.admin.get(_PODS)["items"]
        return {i["metadata"]["name"]: i for i in items if i["metadata"]["name"] in NAMES}

    def create(self, name: str) -> bool:
        """Make one; whether it was taken. It has booked then."""
        answer = self.cluster.admin.http.post(_PODS, json=booking(name))
        assert not answer.is_success or books(answer.json()), answer.text
        if not answer.is_success:
            self.cluster.say(answer.text[:500])
        return answer.is_success

    def running(self) -> dict[str, str]:
        """Names and uids of those that are Ready."""
        return {
            name: item["metadata"]["uid"]
            for name, item in self.items().items()
            if condition(item, "Ready").get("status") == "True"
        }

    def happens(self, what: str, node: str, do: Callable[[], float]) -> None:
        """``do`` it and see the same pods run; it returns since when capacity is to be back.

        Fails the test where a pod ended, the waiting one got a place, or it took too long.
        """
        before, mark = self.running(), time.monotonic()
        restarts = self._restarts()
        assert len(before) == 10
        since = do()
        self.cluster.until(
            "capacity is back", lambda: self.offered(node), lambda c: c == ("1G",) * 2
        )
        self.cluster.until("the same pods run", self.running, before.__eq__, seconds=900)
        of_node = [seen for seen in self.nodes.since(mark) if seen.name == node]
        without = gaps(of_node, time.monotonic())
        lacked = sum(end - begin for begin, end in without)
        late = max((end - since for _, end in without), default=0.0)
        ended = self._ended(mark)
        self.rows.append(
            f"| {what} | {len(before) - len(ended)} of 10 | {self._restarts() - restarts} |"
            f" {f'{lacked:.1f} s without' if without else '1G all the time'} |"
            f" {f'{late:.1f} s' if without else '-'} |"
        )
        self.cluster.say(self.rows[-1])
        assert ended == []
        assert sorted(set(self.items()) - set(before)) == self.waiting()
        assert late <= BACK_SECONDS

    def waiting(self) -> list[str]:
        """Those that the scheduler has found no place for."""
        return sorted(n for n, item in self.items().items() if "nodeName" not in item["spec"])

    def enforcer_ready(self, node: str, mark: float, known: set[tuple[str, int]]) -> float:
        """When one that is not ``known`` was ready; waits for it."""
        self.cluster.until(
            f"the enforcer of {node} is ready",
            lambda: self._ready(node, mark, known),
            bool,
            seconds=900,
        )
        return self._ready(node, mark, known)[0]

    def known_enforcers(self) -> set[tuple[str, int]]:
        """Their containers, so that a new one can be told."""
        return {container(item) for item in enforcer_pods(self.cluster).values()}

    def _ready(self, node: str, mark: float, known: set[tuple[str, int]]) -> list[float]:
        return [
            seen.at
            for seen in self.pods.since(mark)
            if seen.object["metadata"].get("labels", {}).get("app.kubernetes.io/component")
            == "enforcer"
            and seen.object["spec"].get("nodeName") == node
            and container(seen.object) not in known
            and condition(seen.object, "Ready").get("status") == "True"
        ]

    def offered(self, node: str) -> tuple[str | None, str | None]:
        """What it has and what is left of it for pods, as the API server says it."""
        answer = self.cluster.admin.http.get(f"/api/v1/nodes/{node}")
        status = answer.json()["status"] if answer.is_success else {}
        capacity, allocatable = status.get("capacity", {}), status.get("allocatable", {})
        return capacity.get(EGRESS), allocatable.get(EGRESS)

    def _restarts(self) -> int:
        return sum(
            one["restartCount"]
            for item in self.items().values()
            for one in item["status"].get("containerStatuses", ())
        )

    def _ended(self, mark: float) -> list[str]:
        """Pods that were deleted, failed or were said to be in the way."""
        found = [
            f"{seen.name}: {seen.kind} {seen.object['status'].get('reason', '')}"
            for seen in self.pods.since(mark)
            if seen.name in NAMES and (seen.kind == "DELETED" or is_failed(seen))
        ]
        events = self.cluster.admin.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
        return found + [
            f"{event['involvedObject']['name']}: {event['reason']}: {event['message']}"
            for event in events
            if event["involvedObject"]["name"] in NAMES
            and event["reason"].startswith(REJECTED)
            and not event["message"].startswith("Cancelling deletion")
        ]


def is_failed(seen: Seen) -> bool:
    """As of a pod that a kubelet did not take, or put out."""
    return bool(seen.object["status"].get("phase") == "Failed")


def container(item: Json) -> tuple[str, int]:
    """A pod's one container, this time."""
    statuses = item["status"].get("containerStatuses") or [{"restartCount": 0}]
    return item["metadata"]["uid"], statuses[0]["restartCount"]


def booking(name: str) -> Json:
    """A pod for any node."""
    found = pod(name, "", REQUEST)
    del found["spec"]["nodeName"]
    return found


def is_booked(cluster: Cluster) -> bool:
    """Whether one would be, that is not made."""
    answer = cluster.admin.http.post(_PODS, params={"dryRun": "All"}, json=booking("tried"))
    return answer.is_success and books(answer.json())


def books(item: Json) -> bool:
    """Whether the scheduler sums something of it."""
    return EGRESS in item["spec"]["containers"][0].get("resources", {}).get("limits", {})
