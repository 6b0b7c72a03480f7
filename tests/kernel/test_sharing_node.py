"""A node's link that is short, with real traffic: requests are kept, same-node traffic is free."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench.rig import TcpLoad, bulk, rig, running, terminating
from bench.rig.crowd import CrowdPod, crowd
from bench.rig.process import Place
from bench.rig.topology import PEER_PORT
from contract.names import Direction
from tests.kernel.shaping import VethNode

pytestmark = pytest.mark.native

LINK = 60_000_000
CAPACITY = 57_000_000
REQUEST = 25_000_000
PODS = 4
SECONDS = 12
START_SECONDS = 4
"""What the first connections take from each other is over then, on a busy machine, too."""


@pytest.fixture
def link(request) -> Iterator[tuple[VethNode, list[CrowdPod], Place, str]]:
    """Pods behind an uplink that is limited; without a daemon."""
    direction = request.param
    with terminating(), rig() as r, crowd(r, PODS) as pods, ExitStack() as stack:
        r.node.run("ip", "route", "add", "default", "dev", PEER_PORT)
        for pod in pods:
            stack.enter_context(running(pod.pod.command("sleep", "infinity")))
            r.node.run("ip", "route", "add", f"{pod.own_address}/32", "dev", "hub")
        place, port = (r.node, PEER_PORT) if direction is Direction.EGRESS else (r.peer, "eth0")
        limit = ("rate", str(LINK), "burst", "32k", "limit", "1mb")
        place.run("tc", "qdisc", "replace", "dev", port, "root", "tbf", *limit)
        node = VethNode(r, more=(f"--{direction}-capacity", str(CAPACITY)))
        try:
            yield node, pods, place, port
        finally:
            node.clean_up()
            assert node.files == []


def counted(place: Place, port: str) -> tuple[float, int, int]:
    """When, and what the link has let through and dropped: bytes and packets."""
    (root,) = json.loads(place.run("tc", "-s", "-j", "qdisc", "show", "dev", port, "root"))
    return time.monotonic(), root["bytes"], root["drops"]


@pytest.mark.parametrize(("link", "direction"), [(d, d) for d in Direction], indirect=["link"])
def test_a_request_is_kept_on_a_link_that_is_short_and_none_of_it_is_left(link, direction) -> None:
    """Against three others that want everything, and have more connections."""
    node, pods, place, port = link
    with node.daemon(), ExitStack() as loads:
        for pod in pods:
            request = ("--egress-request", "--ingress-request")[direction is Direction.INGRESS]
            asked = (request, str(REQUEST)) if pod is pods[0] else ()
            node.client("attach", pod.cgroup, f"--{direction}", "1G", *asked)
        if direction is Direction.INGRESS:
            for pod in pods:
                node.wait_until("shaped", pod.cgroup)
        running_loads = [
            loads.enter_context(
                bulk(
                    pod, TcpLoad(direction, SECONDS + START_SECONDS, 1 + number, port=5201 + number)
                )
            )
            for number, pod in enumerate(pods)
        ]
        time.sleep(START_SECONDS)
        before = counted(place, port)
        time.sleep(SECONDS / 2)
        after = counted(place, port)
        first = running_loads[0].result()

    seconds = after[0] - before[0]
    assert (after[1] - before[1]) * 8 / seconds >= 0.75 * LINK
    kept = first.goodput_bits_per_sec(START_SECONDS) / first.payload_of_frame
    assert kept >= 0.95 * REQUEST


@pytest.mark.alone
@pytest.mark.parametrize("link", [Direction.EGRESS], indirect=True)
def test_traffic_between_pods_of_the_node_is_not_slowed_by_a_link_that_is_short(link) -> None:
    """It does not use the link, so it has more than all of that."""
    node, pods, _, _ = link
    egress = Direction.EGRESS
    with node.daemon(), ExitStack() as loads:
        for pod in pods:
            asked = ("--egress-request", str(REQUEST)) if pod is pods[0] else ()
            node.client("attach", pod.cgroup, "--egress", "1G", *asked)
        within = TcpLoad(egress, SECONDS, 1, flow_bits_per_sec=5 * LINK, port=5301)
        local = loads.enter_context(bulk(pods[2].towards(pods[3]), within))
        time.sleep(2)
        for number, pod in enumerate(pods[:2]):
            loads.enter_context(bulk(pod, TcpLoad(egress, SECONDS, 2, port=5201 + number)))
        end = time.monotonic() + SECONDS
        while is_at_its_limit(node, pods[0]):
            assert time.monotonic() < end, "the link is not short"
        result = local.result()

    assert result.goodput_bits_per_sec(START_SECONDS) >= 1.2 * LINK


def is_at_its_limit(node: VethNode, pod: CrowdPod) -> bool:
    """Nothing that it shares is short."""
    said = json.loads(node.client("show", pod.cgroup, "-o", "json"))
    return said["egress"]["current_bits_per_second"] is None
