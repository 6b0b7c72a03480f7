"""What happens to a limited pod: restarts, changes, somebody else's hands, its end."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.rig import TcpLoad, bulk
from contract.names import Direction
from enforcer.datapath import libbpf
from tests.cluster.client import Client, Json
from tests.cluster.helpers import EGRESS, ours, until
from tests.cluster.install import Installation, pod
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.placing import conditions, on, wait_enforced
from tests.cluster.nodes.sandbox import Sandbox
from tests.cluster.nodes.traffic import Pair

RATE = 10_000_000
BOTH = {EGRESS: "10M", "podpace.io/ingress-bandwidth": "10M"}
OURS = "podpace.io/BandwidthEnforced"


@pytest.fixture
def enforcer(enforcers: list[Enforcer]) -> Enforcer:
    """Of the node whose kubelet has the systemd driver."""
    return enforcers[1]


@pytest.fixture
def path(namespace: str) -> str:
    """The pod's."""
    return f"/api/v1/namespaces/{namespace}/pods/web"


@pytest.fixture
def pair(
    installation: Installation, enforcers: list[Enforcer], enforcer: Enforcer, namespace: str
) -> Pair:
    """A limited pod, and a peer on another node."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    installation.admin.create(pods, on(enforcer.node, pod(BOTH, name="web")))
    installation.admin.create(pods, on(enforcers[2].node, pod(name="peer")))
    made = Pair(
        enforcer.node.sandbox(namespace, "web"), enforcers[2].node.sandbox(namespace, "peer")
    )
    wait_enforced(installation.admin, namespace, 1)
    return made


def measure(pair: Pair, direction: Direction = Direction.EGRESS, seconds: float = 3) -> float:
    """What gets through of the first limit: 1 is all of it."""
    load = TcpLoad(direction, seconds)
    with bulk(pair, load) as running:
        return running.result().goodput_bits_per_sec() / load.payload_of_frame / RATE


def hooks(sandbox: Sandbox) -> set[libbpf.AttachType]:
    """Where programs are on the pod's cgroup."""
    cgroup = os.open(sandbox.cgroup, os.O_RDONLY)
    try:
        return {hook for hook in libbpf.AttachType if libbpf.attached(cgroup, hook)}
    finally:
        os.close(cgroup)


def events(admin: Client, namespace: str) -> list[Json]:
    """By the enforcer."""
    found = admin.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    return [e for e in found if e.get("reportingController") == "podpace.io/enforcer"]


def test_a_restarted_container_is_limited(pair: Pair, enforcer: Enforcer, namespace: str) -> None:
    """The limit is on the pod's cgroup: a container's own comes and goes below it."""
    enforcer.node.restart_container(namespace, "web")

    assert 0.85 <= measure(pair) <= 1.05


def test_a_pod_on_the_nodes_network_is_limited(
    admin: Client, enforcers: list[Enforcer], enforcer: Enforcer, namespace: str
) -> None:
    """Nothing shapes what it receives; its condition says so."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    admin.create(pods, on(enforcer.node, pod(BOTH, name="host", hostNetwork=True)))
    admin.create(pods, on(enforcers[2].node, pod(name="peer")))
    pair = Pair(
        enforcer.node.sandbox(namespace, "host"), enforcers[2].node.sandbox(namespace, "peer")
    )
    (found,) = wait_enforced(admin, namespace, 1)

    assert "ingress 10 Mbit/s (policed" in conditions(found)[OURS]["message"]
    assert 0.85 <= measure(pair) <= 1.05


def test_a_change_reaches_open_connections_and_is_told(
    admin: Client, pair: Pair, enforcer: Enforcer, namespace: str, path: str
) -> None:
    """None is reset; the condition and an Event say the new rate."""
    mark = len(enforcer.log)
    with bulk(pair, TcpLoad(Direction.EGRESS, 6)) as running:
        admin.patch(path, {"metadata": {"annotations": {EGRESS: "4M"}}})
        enforcer.wait_said("changed", f"pod:{namespace}/web", mark)
        rates = running.result().bits_per_sec_by_interval()

    last = sum(rates[-20:]) / 20
    assert 0.8 * 4e6 * 0.956 <= last <= 1.1 * 4e6
    until(
        lambda: conditions(admin.get(path))[OURS]["message"],
        lambda message: "egress 4 Mbit/s (paced)" in message,
    )
    told = until(lambda: events(admin, namespace), bool)
    assert told[0]["reason"] == "BandwidthLimitChanged"
    assert told[0]["regarding"]["name"] == "web"


def test_a_limit_taken_off_is_off(
    admin: Client, pair: Pair, enforcer: Enforcer, namespace: str, path: str
) -> None:
    """Programs, queue, condition and labels go."""
    mark = len(enforcer.log)
    admin.patch(path, {"metadata": {"annotations": dict.fromkeys(BOTH)}})

    enforcer.running.wait_log(lambda line: line["event"] == "detached", start=mark)
    until(lambda: conditions(admin.get(path)), lambda found: OURS not in found)
    assert hooks(pair.pod_sandbox) == set()
    assert ours(admin.get(path)) == {}
    assert measure(pair) > 2
    assert measure(pair, Direction.INGRESS) > 2


def test_a_program_that_somebody_took_off_comes_back(
    admin: Client, pair: Pair, namespace: str
) -> None:
    """Within a resync; an Event says that it was gone."""

    def take_off() -> list[Json]:
        cgroup = os.open(pair.pod_sandbox.cgroup, os.O_RDONLY)
        try:
            hook = libbpf.AttachType.EGRESS
            (number,) = libbpf.attached(cgroup, hook)
            program = libbpf.program_open(number)
            libbpf.detach(program, cgroup, hook)
            os.close(program)
        finally:
            os.close(cgroup)
        until(lambda: hooks(pair.pod_sandbox), lambda found: found == set(libbpf.AttachType))
        return events(admin, namespace)

    # In a pod's first seconds the daemon looks again anyway, and puts back without a word.
    told = until(take_off, bool, 60)

    assert told[0]["reason"] == "BandwidthLimitRestored"
    assert 0.85 <= measure(pair) <= 1.05


def test_a_queue_that_somebody_took_off_comes_back(pair: Pair, enforcer: Enforcer) -> None:
    """Within three resyncs, and incoming traffic is shaped again."""
    before = queues(pair, enforcer)
    enforcer.node.network.place.run("tc", "qdisc", "del", "dev", link(pair), "root")
    assert queues(pair, enforcer) != before

    until(lambda: queues(pair, enforcer), lambda found: found == before, 60)
    assert 0.85 <= measure(pair, Direction.INGRESS) <= 1.05


def test_a_queue_of_somebody_else_is_left_alone_and_told(
    admin: Client, pair: Pair, enforcer: Enforcer, path: str
) -> None:
    """The limit holds without it."""
    enforcer.node.network.place.run("tc", "qdisc", "replace", "dev", link(pair), "root", "pfifo")

    until(
        lambda: conditions(admin.get(path))[OURS]["message"],
        lambda message: f"pfifo on {link(pair)} is somebody else's" in message,
        60,
    )
    # What is left there is the bound on what the pod sends past its sockets.
    assert queues(pair, enforcer) == ["clsact", "pfifo"]
    assert 0.5 <= measure(pair, Direction.INGRESS) <= 1.05


def link(pair: Pair) -> str:
    """The host's end of the pod's interface."""
    assert pair.pod_sandbox.network is not None
    return pair.pod_sandbox.network.port


def queues(pair: Pair, enforcer: Enforcer) -> list[str]:
    """What is on it."""
    said = enforcer.node.network.place.run("tc", "qdisc", "show", "dev", link(pair))
    return sorted(line.split()[1] for line in said.splitlines())


def test_a_daemon_that_is_killed_leaves_no_gap(pair: Pair, enforcer: Enforcer) -> None:
    """Under traffic, without one and with the next."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(measure, pair, Direction.EGRESS, 12)
        enforcer.kill()
        alone = hooks(pair.pod_sandbox)
        enforcer.start()
        used = running.result()

    assert alone == set(libbpf.AttachType)
    assert 0.85 <= used <= 1.05
    assert any(line["event"] == "adopted" for line in enforcer.log)
