"""Bookings on real nodes: what kubelets do to pods that have booked when things go away and come
back. It takes half an hour, most of it the ten minutes without enforcers."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx
import pytest

from tests.chart.helm import NAMESPACE as RELEASE_NAMESPACE
from tests.chart.helm import RELEASE
from tests.node.cluster import Cluster
from tests.node.machine import Machine
from tests.node.network import PLACES
from tests.node.pods import condition
from tests.node.product import enforcer_pods, helm, install
from tests.node.recorder import EGRESS, Recorder
from tests.node.story import ALL, BACK_SECONDS, NAMES, Story, is_booked

pytestmark = pytest.mark.long

AWAY_SECONDS: Final = 600
VALUES: Final = (
    *("enforcer.capacity.egress=1G", "enforcer.capacity.ingress=1G", "policy.schedule=true"),
    # Where the webhook does not answer, pods are refused, and made again: emulated machines were
    # seen to let some through unbooked.
    *("webhook.timeoutSeconds=30", "webhook.failurePolicy=Fail"),
)
_DAEMON_SET: Final = f"/apis/apps/v1/namespaces/{RELEASE_NAMESPACE}/daemonsets/podpace-enforcer"


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Iterator[Story]:
    """Podpace with capacities, a policy that books, and the pods; prints the table at the end."""
    install(cluster, *VALUES)
    found = Story(cluster, Recorder(cluster, "/api/v1/nodes"), Recorder(cluster, "/api/v1/pods"))
    for place in PLACES:
        cluster.until(
            f"{place.name} offers 1G",
            lambda name=place.name: found.offered(name),
            ALL.__eq__,
        )
    cluster.until("the webhook books", lambda: is_booked(cluster), bool)
    yield found
    found.nodes.stop()
    found.pods.stop()
    for row in found.rows:
        cluster.say(row)


def test_ten_of_twelve_pods_run_and_one_more_when_one_leaves(story: Story) -> None:
    """Two nodes of 1G, 200M each: five on each node; two wait, in the scheduler's own words."""
    cluster = story.cluster
    for name in NAMES:
        cluster.until(f"{name} is taken", lambda name=name: story.create(name), bool)
    cluster.until("ten pods run", story.running, lambda found: len(found) == 10)
    nodes = [item["spec"].get("nodeName") for item in story.items().values()]
    assert {place.name: nodes.count(place.name) for place in PLACES} == {"node-1": 5, "node-2": 5}
    first, second = story.waiting()
    why = condition(story.items()[first], "PodScheduled")["message"]
    assert "2 Insufficient podpace.io/egress" in why

    leaver, mark = next(iter(story.running())), time.monotonic()
    cluster.kubectl("delete", "pod", leaver, "--wait=false")
    cluster.until("one more runs", story.running, lambda f: len({*f} & {first, second}) == 1)

    seen = story.pods.since(mark)
    bound, ran = (
        min(one.at for one in seen if one.name in (first, second) and good(one.object))
        for good in (
            lambda o: "nodeName" in o["spec"],
            lambda o: condition(o, "Ready").get("status") == "True",
        )
    )
    cluster.say(f"one leaves: bound after {bound - mark:.1f} s, ready after {ran - mark:.1f} s")
    # An emulated machine takes longer than this by itself until a container runs.
    assert bound - mark <= BACK_SECONDS


def heartbeat(cluster: Cluster, node: str) -> str:
    """When its kubelet last said that it is Ready; empty: there is no such Node."""
    answer = cluster.admin.http.get(f"/api/v1/nodes/{node}")
    return (
        condition(answer.json(), "Ready").get("lastHeartbeatTime", "") if answer.is_success else ""
    )


def restart_kubelet(
    story: Story, machine: Machine, meanwhile: Callable[[], object] = lambda: None
) -> float:
    """Returns when the new one knows its pods and has told of itself; since when it runs."""
    name = machine.place.name
    before = heartbeat(story.cluster, name)
    machine.restart_kubelet()
    since = time.monotonic()
    meanwhile()
    story.cluster.until(
        f"the kubelet of {name} tells of itself",
        lambda: heartbeat(story.cluster, name),
        lambda now: now not in ("", before),
    )
    await_known(story, machine)
    return since


def await_known(story: Story, machine: Machine) -> None:
    """The kubelet has judged whether it takes the pods that are bound to it."""
    bound = {
        item["metadata"]["uid"]
        for item in story.items().values()
        if item["spec"].get("nodeName") == machine.place.name
    }
    url = f"https://{machine.place.address}:10250/pods"

    def known() -> str:
        try:
            return httpx.get(url, verify=False, timeout=10, trust_env=False).text
        except httpx.HTTPError as error:
            return f"{type(error).__name__}"

    story.cluster.until(
        f"the kubelet of {machine.place.name} knows its pods",
        known,
        lambda said: all(uid in said for uid in bound),
        seconds=600,
    )


def test_a_kubelet_that_is_restarted_keeps_all(story: Story) -> None:
    """It judges each of its pods anew by what the Node has."""
    machine = story.cluster.machines["node-1"]
    story.happens("kubelet restarted", "node-1", lambda: restart_kubelet(story, machine))


def test_a_node_that_is_rebooted_runs_the_same_pods_again(story: Story) -> None:
    """Their containers start anew, and so does the enforcer's."""
    machine, mark = story.cluster.machines["node-2"], time.monotonic()
    known = story.known_enforcers()
    path = "/api/v1/nodes/node-2"

    def boot_id() -> str:
        return str(story.cluster.admin.get(path)["status"]["nodeInfo"]["bootID"])

    def reboot() -> float:
        before = boot_id()
        machine.reboot()
        story.cluster.until("node-2 booted again", boot_id, lambda now: now != before, seconds=600)
        await_known(story, machine)
        return story.enforcer_ready("node-2", mark, known)

    story.happens("node rebooted", "node-2", reboot)


def test_a_node_that_was_deleted_and_registers_again_keeps_its_pods(story: Story) -> None:
    """A kubelet registers when it starts; the new Node has no key until the enforcer's."""
    machine, mark = story.cluster.machines["node-1"], time.monotonic()

    def again() -> float:
        # While the kubelet starts: one that runs does not register again, and pods of a Node that
        # is away for 40 s are deleted by Kubernetes' own collector.
        admin = story.cluster.admin
        restart_kubelet(story, machine, lambda: admin.delete("/api/v1/nodes/node-1"))
        seen = story.nodes.since(mark)
        return next(s.at for s in seen if s.name == "node-1" and s.kind == "ADDED")

    story.happens("Node deleted and registered again", "node-1", again)


def test_without_enforcers_for_ten_minutes_all_stays(story: Story) -> None:
    """A kubelet is restarted meanwhile, too: the Node has what it had."""
    cluster, machine = story.cluster, story.cluster.machines["node-1"]
    known = story.known_enforcers()

    def select(nobody: str | None) -> None:
        template = {"spec": {"nodeSelector": {"nobody": nobody}}}
        cluster.admin.patch(_DAEMON_SET, {"spec": {"template": template}})

    def away() -> float:
        for one in cluster.machines.values():
            one.ok("pkill -9 -f '[p]odpace-enforcer --node-name'")
        select("here")
        cluster.until("no enforcer is left", lambda: enforcer_pods(cluster), lambda f: f == {})
        left = time.monotonic()
        restart_kubelet(story, machine)
        cluster.until("ten run on", story.running, lambda found: len(found) == 10)
        # Nothing tells that nothing happens for ten minutes.
        cluster.until(
            "ten minutes passed",
            lambda: time.monotonic() - left,
            lambda passed: passed >= AWAY_SECONDS,
            seconds=AWAY_SECONDS + 60,
        )
        mark = time.monotonic()
        select(None)
        return story.enforcer_ready("node-1", mark, known)

    story.happens(f"enforcers killed, away for {AWAY_SECONDS // 60} minutes", "node-1", away)


def test_an_uninstall_takes_the_keys_and_no_pod_and_an_install_brings_them_back(
    story: Story,
) -> None:
    """A kubelet that is restarted between has no such resource, and keeps its pods."""
    cluster, machine = story.cluster, story.cluster.machines["node-2"]
    known = story.known_enforcers()

    def anew() -> float:
        helm(cluster, "uninstall", RELEASE, "--wait", "--timeout=10m")
        for place in PLACES:
            cluster.until(
                f"{place.name} offers nothing",
                lambda name=place.name: cluster.admin.get(f"/api/v1/nodes/{name}")["status"],
                lambda status: EGRESS not in status["capacity"],
            )
        restart_kubelet(story, machine)
        cluster.until("ten run on", story.running, lambda found: len(found) == 10)
        mark = time.monotonic()
        install(cluster, *VALUES)
        return story.enforcer_ready("node-2", mark, known)

    story.happens("uninstalled, kubelet restarted, installed", "node-2", anew)
