"""What else is on a veth, how large its frames are, and what leaves by it past the sockets."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.rig import TcpLoad, bulk, rig, running, terminating
from bench.rig.topology import PEER_PORT, POD_PORT
from contract.names import Direction
from enforcer.datapath import libbpf, shaper_abi
from enforcer.net.graph import NO_PROCESS, NOT_ITS_OWN
from tests.kernel.shaping import VethNode, flood

LIMIT = 10_000_000
BOTH_DIRECTIONS = ("--ingress", str(LIMIT), "--egress", str(LIMIT))


@pytest.fixture
def veth() -> Iterator[VethNode]:
    """A rig without a daemon, and a process in the pod; at the end all is as it was found."""
    with terminating(), rig() as r:
        node = VethNode(r)
        with node.inhabited():
            before = node.queues()
            try:
                yield node
            finally:
                node.clean_up()
                assert node.queues() == before


def attach(node: VethNode, *options: str) -> None:
    """Limit the pod."""
    node.client("attach", node.rig.cgroup, *options)


def filters(node: VethNode, direction: str) -> list[str]:
    """Names of the BPF filters of one direction of the pod's veth."""
    said = json.loads(node.tc("-j", "filter", "show", "dev", POD_PORT, direction))
    return [f["options"]["bpf_name"] for f in said if "bpf_name" in f.get("options", {})]


def test_a_plain_ingress_qdisc_keeps_its_direction(veth: VethNode) -> None:
    """It has no way out: a filter put there would hold what the pod sends.

    The shaper comes by tcx where there is one; elsewhere the pod is policed, and told why.
    """
    veth.tc("qdisc", "add", "dev", POD_PORT, "ingress")
    theirs = veth.queues()
    with veth.daemon():
        attach(veth, *BOTH_DIRECTIONS)
        has_tcx = veth.features()["tcx"] == "supported"
        told = veth.wait_until("shaped" if has_tcx else "policed")
        assert filters(veth, "ingress") == ["podpace_sent"]
        if not has_tcx:
            reason = f"somebody's ingress qdisc on {POD_PORT} leaves the shaper no place"
            assert told["why"] == reason
        veth.client("detach", veth.rig.cgroup)
        assert filters(veth, "ingress") == []
        assert veth.queues() == theirs
    veth.tc("qdisc", "del", "dev", POD_PORT, "ingress")


@pytest.mark.slow_emulated
@pytest.mark.parametrize("first_mtu", [1500, 9000])
def test_frames_as_large_as_the_link_lets_be_pass_the_queue(veth: VethNode, first_mtu: int) -> None:
    """Also where its MTU was raised after the limit came."""
    r = veth.rig

    def set_mtu(mtu_bytes: int) -> None:
        for place, port in ((r.node, POD_PORT), (r.node, PEER_PORT)):
            place.run("ip", "link", "set", port, "mtu", str(mtu_bytes))
        for place in (r.pod, r.peer):
            place.run("ip", "link", "set", "eth0", "mtu", str(mtu_bytes))
        r.node.run("ip", "link", "set", "hub", "mtu", str(mtu_bytes))

    set_mtu(first_mtu)
    with veth.daemon():
        attach(veth, "--ingress", str(LIMIT))
        veth.wait_until("shaped")
        set_mtu(9000)
        end = time.monotonic() + 60
        while largest_frame(veth) < 9014:
            assert time.monotonic() < end, "the queue does not follow the MTU"
            time.sleep(0.1)
        with bulk(r, TcpLoad(Direction.INGRESS, 4, 1)) as load:
            result = load.result()
        assert veth.ingress()["enforcement"] == "shaped"
    set_mtu(1500)
    assert 0.8 <= result.goodput_bits_per_sec(1) / LIMIT <= 1.02


def largest_frame(node: VethNode) -> int:
    """Which the bulk's class sends in one go."""
    said = node.tc("-d", "class", "show", "dev", POD_PORT)
    line = next(line for line in said.splitlines() if "7bd0:20" in line)
    return int(line.split("quantum ")[1].split()[0])


def received_bytes(node: VethNode) -> int:
    """By the peer."""
    said = json.loads(node.rig.peer.run("ip", "-j", "-s", "link", "show", "eth0"))
    return int(said[0]["stats64"]["rx"]["bytes"])


def test_packet_sockets_are_bounded_and_told(veth: VethNode) -> None:
    """They do not pass the cgroup's programs: their frames meet a bound at the host's end."""
    seconds = 5
    with veth.daemon():
        for _ in range(2):  # the second look has something to compare with
            attach(veth, "--egress", str(LIMIT))
        before, start = received_bytes(veth), time.monotonic()
        with running(flood(veth.rig, veth.rig.pod, seconds)) as process:
            process.wait()
        received, took = received_bytes(veth) - before, time.monotonic() - start
        attach(veth, "--egress", str(LIMIT))
        told = json.loads(veth.client("show", veth.rig.cgroup, "-o", "json"))["egress"]
    assert received * 8 <= LIMIT * (1.05 * took + 0.1)
    assert received * 8 >= 0.3 * LIMIT * seconds
    assert told["why"] == f"more leaves than its sockets send, bounded at {POD_PORT}"
    assert told["dropped_packets"] > 0


def test_of_two_targets_in_one_namespace_the_second_says_why_it_has_no_queue(
    veth: VethNode,
) -> None:
    """It is below the first one; its own limit holds all the same, and so does the first's."""
    inner, told = veth.rig.cgroup / "inner", {"why": ""}
    inner.mkdir()
    process = replace(veth.rig.pod, cgroup=inner).command("sleep", "infinity")
    with veth.daemon(), running(process):
        attach(veth, *BOTH_DIRECTIONS)
        veth.wait_until("shaped")
        end = time.monotonic() + 60
        while told["why"] in {"", NO_PROCESS}:  # it may not have arrived
            assert time.monotonic() < end
            veth.client("attach", inner, "--ingress", str(LIMIT // 2))
            told = json.loads(veth.client("show", inner, "-o", "json"))["ingress"]
        assert veth.wait_until("shaped")
        veth.client("detach", inner)
    inner.rmdir()
    assert (told["enforcement"], told["why"]) == ("policed", NOT_ITS_OWN)


def test_what_no_pin_tells_of_is_found(veth: VethNode) -> None:
    """By the queue's handle and the filters' names; a restart takes it over, --cleanup off.

    The fixture looks whether everything is gone.
    """
    with veth.daemon():
        attach(veth, *BOTH_DIRECTIONS)
        veth.wait_until("shaped")
        held = veth.queues()
    shutil.rmtree(veth.rig.bpffs / "podpace")
    with veth.daemon():
        veth.wait_until("shaped")
        assert veth.queues() == held
        assert (filters(veth, "egress"), filters(veth, "ingress")) == (
            ["podpace_shape"],
            ["podpace_sent"],
        )
    shutil.rmtree(veth.rig.bpffs / "podpace")


def test_queues_of_an_older_version_leave_the_pod(veth: VethNode) -> None:
    """Where ACKs paced what came in, a queue stood inside: a record of that is enough.

    It was prio with two bands of fq, which not every kernel has: a class of HTB is in its place.
    """
    pod, node = veth.rig.pod, veth.rig.node
    with veth.daemon():
        attach(veth, "--ingress", str(LIMIT))
        veth.wait_until("shaped")
    held = ("class", "add", "dev", "eth0", "parent", "7bd1:", "classid", "7bd1:2")
    pod.run("tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7bd1:", "htb", "default", "2")
    pod.run("tc", *held, "htb", "rate", "10gbit")
    pod.run("tc", "qdisc", "add", "dev", "eth0", "parent", "7bd1:2", "pfifo")
    (generation,) = veth.generations
    links = libbpf.obj_get(str(generation / "links"))
    try:
        (key,) = libbpf.map_keys(links, 4)
        value = libbpf.map_lookup(links, key, shaper_abi.LINK_BYTES)
        assert value is not None
        record = shaper_abi.decode_link(value)
        record = replace(record, flags=record.flags | shaper_abi.LINK_OLD_QUEUES)
        libbpf.map_update(links, key, shaper_abi.encode_link(record))
    finally:
        os.close(links)
    with veth.daemon():
        node.run("ip", "link", "set", "dev", PEER_PORT, "alias", "something has changed")
        end = time.monotonic() + 60
        while "7bd1:" in pod.run("tc", "qdisc", "show", "dev", "eth0"):
            assert time.monotonic() < end, "the queue stays"
            time.sleep(0.1)
        assert veth.ingress()["enforcement"] == "shaped"
