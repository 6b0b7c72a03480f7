"""Interfaces that come and go, and whose they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rig import Place, TcpLoad, bulk, rig, running, terminating
from bench.rig.topology import PEER_PORT, POD_PORT
from contract.names import Direction
from tests.kernel.shaping import VethNode

pytestmark = pytest.mark.slow_emulated

LIMIT = 20_000_000


@pytest.fixture
def veth() -> Iterator[VethNode]:
    """A rig without a daemon, and a process in the pod."""
    with terminating(), rig() as r:
        node = VethNode(r)
        with node.inhabited():
            try:
                yield node
            finally:
                node.clean_up()


def attach(node: VethNode, cgroup: Path | None = None) -> None:
    """Limit incoming traffic."""
    node.client("attach", cgroup or node.rig.cgroup, "--ingress", str(LIMIT))


def kinds(node: VethNode) -> list[str]:
    """Of the queues on the pod's veth."""
    return [queue["kind"] for queue in node.queues()]


def test_a_veth_that_is_replaced_under_traffic_is_shaped_at_once(veth: VethNode) -> None:
    """A new pair in its place carries the limit as soon as it is there."""
    pod, node = veth.rig.pod, veth.rig.node
    with veth.daemon():
        attach(veth)
        veth.wait_until("shaped")
        with bulk(veth.rig, TcpLoad(Direction.INGRESS, 3)) as load:
            node.run("ip", "link", "del", POD_PORT)
            node.run(
                *("ip", "link", "add", "name", POD_PORT, "type", "veth"),
                *("peer", "name", "eth0", "netns", pod.namespace),
            )
            node.run("ip", "link", "set", POD_PORT, "master", "hub", "up")
            pod.run("ip", "link", "set", "eth0", "up")
            del load
        veth.wait_until("shaped")
        assert "htb" in kinds(veth)
        assert veth.filters() == ["podpace_shape"]


def test_a_process_that_comes_after_the_limit_is_found(veth: VethNode) -> None:
    """An empty cgroup is policed and says why; its first process is followed to its veth."""
    late = veth.rig.cgroup.parent / "late"
    late.mkdir()
    try:
        with veth.daemon():
            attach(veth, late)
            said = veth.client("show", late)
            assert "policed" in said
            assert "no process runs in it yet" in said
            with running(Place(veth.rig.peer.namespace, late).command("sleep", "infinity")):
                veth.rig.node.run("tc", "qdisc", "del", "dev", PEER_PORT, "root")
                veth.wait_until("shaped", late)
    finally:
        late.rmdir()


def test_a_foreign_root_queue_is_left_and_told(veth: VethNode) -> None:
    """With somebody's TBF on the veth the pod is policed; when it goes, the shaper comes."""
    foreign = ("qdisc", "add", "dev", POD_PORT, "root", "handle", "1:", "tbf")
    veth.tc(*foreign, "rate", "100mbit", "burst", "64kb", "latency", "25ms")
    with veth.daemon():
        attach(veth)
        told = veth.wait_until("policed")
        assert told["why"] == f"tbf on {POD_PORT} is somebody else's"
        assert kinds(veth) == ["tbf"]
        veth.tc("qdisc", "del", "dev", POD_PORT, "root")
        veth.wait_until("shaped")
        veth.client("detach", veth.rig.cgroup)
        assert kinds(veth) == ["noqueue"]


def test_a_foreign_clsact_is_shared_and_left(veth: VethNode) -> None:
    """Ours goes into somebody's clsact, and leaves it there."""
    veth.tc("qdisc", "add", "dev", POD_PORT, "clsact")
    with veth.daemon():
        attach(veth)
        veth.wait_until("shaped")
        assert veth.filters() == ["podpace_shape"]
        veth.client("detach", veth.rig.cgroup)
        assert veth.filters() == []
        assert kinds(veth) == ["noqueue", "clsact"]


def test_a_namespace_belongs_to_the_cgroup_that_was_there_first(veth: VethNode) -> None:
    """It is shaped at the veth, and who comes later is held with it; that one is policed, too."""
    other = veth.rig.cgroup.parent / "other"
    other.mkdir()
    try:
        with (
            running(Place(veth.rig.pod.namespace, other).command("sleep", "infinity")),
            veth.daemon(),
        ):
            attach(veth)
            attach(veth, other)
            veth.wait_until("shaped")
            assert "its network namespace belongs to another cgroup" in veth.client("show", other)
            load = TcpLoad(Direction.INGRESS, 3)
            with bulk(replace(veth.rig, pod=replace(veth.rig.pod, cgroup=None)), load) as guest:
                goodput = guest.result().goodput_bits_per_sec()
        assert 0.5 * LIMIT <= goodput <= 1.05 * LIMIT
    finally:
        with _emptied(other):
            other.rmdir()


def test_what_another_cgroup_sends_from_the_pods_namespace_is_bounded(veth: VethNode) -> None:
    """A mesh's proxy keeps sockets there: at the veth its bytes are the pod's."""
    with veth.daemon():
        veth.client("attach", veth.rig.cgroup, "--egress", str(LIMIT), "--ingress", str(LIMIT))
        veth.wait_until("shaped")
        guest = replace(veth.rig, pod=replace(veth.rig.pod, cgroup=None))
        with bulk(guest, TcpLoad(Direction.EGRESS, 5)) as load:
            goodput = load.result().goodput_bits_per_sec()
    assert 0 < goodput <= 1.1 * LIMIT


@contextmanager
def _emptied(cgroup: Path) -> Iterator[None]:
    (cgroup / "cgroup.kill").write_text("1")
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        pass
    yield


def test_the_host_network_is_policed(veth: VethNode) -> None:
    """A process in the daemon's own namespace has no veth to be shaped at."""
    host = veth.rig.cgroup.parent / "host"
    host.mkdir()
    try:
        with (
            running(Place(veth.rig.node.namespace, host).command("sleep", "infinity")),
            veth.daemon(),
        ):
            attach(veth, host)
            assert "it uses the host's network" in veth.client("show", host)
    finally:
        with _emptied(host):
            host.rmdir()


def test_what_somebody_took_away_is_put_back(veth: VethNode) -> None:
    """The queue and the filter, at the next look."""
    with veth.daemon():
        attach(veth)
        veth.wait_until("shaped")
        before = veth.queues()
        veth.tc("qdisc", "del", "dev", POD_PORT, "root")
        veth.tc("filter", "del", "dev", POD_PORT, "egress")
        veth.client("attach", veth.rig.cgroup, "--ingress", str(LIMIT))
        assert veth.queues() == before
        assert veth.filters() == ["podpace_shape"]


def test_traffic_past_the_veth_is_noticed_and_policed(veth: VethNode) -> None:
    """A second way into the pod that the host does not see: bounded at once, then policed."""
    pod, peer = veth.rig.pod, veth.rig.peer
    pod.run(
        "ip",
        "link",
        "add",
        "name",
        "side",
        "type",
        "veth",
        "peer",
        "name",
        "side",
        "netns",
        peer.namespace,
    )
    pod.run(
        "sh",
        "-ec",
        "ip addr add 10.8.0.2/24 dev side; ip link set side up; "
        "ip route replace 10.9.0.3/32 via 10.8.0.3",
    )
    peer.run(
        "sh",
        "-ec",
        "ip addr add 10.8.0.3/24 dev side; ip link set side up; "
        "ip route replace 10.9.0.2/32 via 10.8.0.2",
    )
    with veth.daemon():
        attach(veth)
        veth.wait_until("shaped")
        with bulk(veth.rig, TcpLoad(Direction.INGRESS, 14)) as load:
            told = veth.wait_until("policed")
            result = load.result()

    assert told["why"] == f"packets reach it that did not pass {POD_PORT}"
    assert result.goodput_bits_per_sec() <= 1.25 * LIMIT
