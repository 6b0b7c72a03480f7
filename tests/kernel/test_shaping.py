"""Incoming traffic held at the veth: how well, and for how long."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.rig import FrameCounter, TcpLoad, UdpLoad, bulk, ping, rig, running, terminating
from bench.rig.process import EMULATED
from bench.rig.topology import PEER_ADDRESS, POD_PORT
from contract.names import Direction
from enforcer.reconcile.ways import UNQUEUED_BITS_PER_SEC
from tests.kernel.nodes import SLOWER, changed_copy
from tests.kernel.shaping import VethNode, sent_windows

pytestmark = pytest.mark.slow_emulated

LIMIT = 20_000_000
INGRESS = Direction.INGRESS
LARGEST_PACKET_BYTES = 65_549
_LONG_SECONDS = 60 if EMULATED else 30
"""A client takes seconds to start on a busy machine."""
_PORT = 5999
_PYTHON = (sys.executable, "-I", "-S", "-c")
_RECEIVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listening:
    print("ready", flush=True)
    connection, _ = listening.accept()
    while connection.recv(65536):
        pass
"""
_MESSAGES_THEN_BULK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(8):
        s.send(bytes(700))
        time.sleep(0.05)
    while True:
        s.send(bytes(65536))
"""


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
                assert node.programs() == []
                assert node.files == []


def attach(node: VethNode, bits_per_sec: int = LIMIT, *options: str) -> None:
    """Limit incoming traffic, and wait until it is held where it comes in."""
    node.client("attach", node.rig.cgroup, "--ingress", str(bits_per_sec), *options)
    node.wait_until("shaped")


@pytest.mark.parametrize(
    ("congestion_control", "flows", "ecn"),
    [("cubic", 1, 0), ("cubic", 10, 1), ("bbr", 1, 0), ("bbr", 10, 0)],
)
def test_bulk_fills_the_limit_and_a_sparse_flow_passes_it(
    veth: VethNode, congestion_control: str, flows: int, ecn: int
) -> None:
    """Frames stay within the limit, little of it is wasted, nothing is lost, and no ping waits."""
    for place in (veth.rig.pod, veth.rig.peer):
        place.run("sh", "-c", f"echo {ecn or 2} >/proc/sys/net/ipv4/tcp_ecn")
    seconds = 7 * SLOWER
    load = TcpLoad(INGRESS, seconds, flows, congestion_control)
    with veth.daemon():
        attach(veth)
        with ping(veth.rig, seconds) as pings, bulk(veth.rig, load) as running:
            time.sleep(1.5)
            counter, dropped = FrameCounter(veth.rig, INGRESS), veth.ingress()["dropped_packets"]
            start = counter.read()
            time.sleep(4)
            steady = counter.read() - start
            delay_ms = veth.ingress()["delay_ms"]
            result, answered = running.result(), pings.result()
        told = veth.ingress()

    assert 0.9 <= steady.bits_per_sec / LIMIT <= (1.05 if EMULATED else 1.015)
    assert result.goodput_bits_per_sec() >= 0.9 * LIMIT * load.payload_of_frame
    assert told["dropped_packets"] == dropped
    assert answered.lost == 0
    assert answered.p50_ms < delay_ms or delay_ms == 0
    if ecn:
        assert told["marked_packets"] > 0
    if flows == 10:
        assert result.jain_index() >= 0.8


@pytest.mark.native
def test_the_window_of_a_connection_older_than_its_limit_comes_down(veth: VethNode) -> None:
    """What was told, 28 MB here, cannot be taken back; once that has come, nothing is lost."""
    limit, load = 100_000_000, TcpLoad(INGRESS, _LONG_SECONDS, 1)
    with veth.daemon(), bulk(veth.rig, load) as running:
        time.sleep(2)
        attach(veth, limit)
        time.sleep(6)
        dropped = veth.ingress()["dropped_packets"]
        start = int((time.monotonic() - running.started_at) * 10)
        time.sleep(3)
        told, windows = veth.ingress(), sent_windows(veth.rig, load.port, "sport")
        rates = running.result().bits_per_sec_by_interval()

    assert max(windows) < limit // 8 // 10
    assert told["dropped_packets"] == dropped
    assert told["delay_ms"] < 30
    assert rate_between(rates, start, start + 30) == pytest.approx(limit / LIMIT, rel=0.05)


@pytest.mark.native
def test_a_window_that_the_kernel_bounds_anew_is_not_taken_for_an_applications(
    veth: VethNode,
) -> None:
    """Newer kernels do, to the first buffer, where large segments follow upon small ones."""
    address = (veth.rig.address(veth.rig.pod, 4), str(_PORT))
    with veth.daemon():
        attach(veth, 1_000_000_000)
        with running(veth.rig.pod.command(*_PYTHON, _RECEIVER, *address), stdout=-1) as receiver:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            with running(veth.rig.peer.command(*_PYTHON, _MESSAGES_THEN_BULK, *address)):
                end = time.monotonic() + _LONG_SECONDS
                while max(sent_windows(veth.rig, _PORT, "dport"), default=0) < 1_000_000:
                    assert time.monotonic() < end, "its window stays small"
                    time.sleep(0.1)


def test_udp_at_twice_the_limit_is_cut_to_it_and_a_sparse_flow_loses_nothing(
    veth: VethNode,
) -> None:
    """A flood gets the limit; datagrams beside it arrive."""
    with veth.daemon():
        attach(veth)
        load = UdpLoad(INGRESS, 2 * LIMIT, 5)
        with ping(veth.rig, 5) as pings, bulk(veth.rig, load) as running:
            result, answered = running.result(), pings.result()

    assert 0.9 <= result.goodput_bits_per_sec() / load.payload_of_frame / LIMIT <= 1.01
    assert answered.lost == 0


def test_the_first_second_brings_no_more_than_a_second_and_a_burst(veth: VethNode) -> None:
    """1.1 s of the limit and 150 kB at most."""
    with veth.daemon():
        attach(veth)
        with bulk(veth.rig, TcpLoad(INGRESS, 3, 10)) as running:
            result = running.result()

    assert result.first_second_frame_bytes() <= 1.1 * LIMIT / 8 + 150_000


def test_packets_far_below_a_limit_pass_its_queues(veth: VethNode) -> None:
    """They pass at once, and are not taken for packets that came by another way."""
    with veth.daemon():
        attach(veth, UNQUEUED_BITS_PER_SEC - 1)
        with bulk(veth.rig, TcpLoad(INGRESS, 3, 2)) as running:
            result = running.result()
        assert veth.ingress()["enforcement"] == "shaped"
        said = json.loads(veth.tc("-j", "-s", "qdisc", "show", "dev", POD_PORT))
        whole = next(queue for queue in said if queue.get("root"))

    assert result.goodput_bits_per_sec() > 2 * LIMIT
    if whole["kind"] == "htb":
        assert whole["options"]["direct_packets_stat"] > whole["bytes"] / LARGEST_PACKET_BYTES / 2


def rate_between(rates: list[float], start: int, end: int) -> float:
    """Mean of intervals, as a part of LIMIT."""
    chosen = rates[start:end]
    return sum(chosen) / len(chosen) / (LIMIT * TcpLoad(INGRESS).payload_of_frame)


def test_a_live_change_is_followed_by_open_connections(veth: VethNode) -> None:
    """Twice the limit, then a half of it, on one connection."""
    with veth.daemon():
        attach(veth)
        with bulk(veth.rig, TcpLoad(INGRESS, _LONG_SECONDS, 1)) as running:

            def tenths() -> int:
                return int((time.monotonic() - running.started_at) * 10)

            time.sleep(3)
            spans = [(10, tenths())]
            for limit in (2 * LIMIT, LIMIT // 2):
                attach(veth, limit)
                start = tenths() + 5
                time.sleep(3)
                spans.append((start, tenths()))
            rates = running.result().bits_per_sec_by_interval()

    assert spans[-1][1] < len(rates), "the changes took longer than the load"
    whole, twice, half = (rate_between(rates, *span) for span in spans)
    assert whole == pytest.approx(1, abs=0.15)
    assert twice == pytest.approx(2, abs=0.3)
    assert half == pytest.approx(0.5, abs=0.15)


def test_a_much_smaller_limit_lets_go_what_was_queued_before(veth: VethNode) -> None:
    """Packets that were queued whole for a fast limit leave at a slow one that cuts them."""
    with veth.daemon():
        attach(veth, 100_000_000)
        with bulk(veth.rig, TcpLoad(INGRESS, _LONG_SECONDS, 1)) as running:
            time.sleep(3)
            attach(veth, LIMIT)
            start = int((time.monotonic() - running.started_at) * 10) + 20
            rates = running.result().bits_per_sec_by_interval()

    assert start + 20 < len(rates), "the change took longer than the load"
    assert rate_between(rates, start, len(rates)) > 0.8


def assert_held(rates: list[float]) -> None:
    """No half second is clearly above the limit."""
    halves = [rate_between(rates, i, i + 5) for i in range(10, len(rates) - 5)]
    assert max(halves) <= 1.3


def test_it_outlives_the_daemon_and_a_restart_adopts(veth: VethNode) -> None:
    """After kill -9 under load nothing is faster; the next daemon takes the same program over."""
    with ExitStack() as running:
        with veth.daemon() as daemon:
            attach(veth)
            load = running.enter_context(bulk(veth.rig, TcpLoad(INGRESS, 8, 4)))
            time.sleep(2)
            found = shaper_ids(veth), veth.queues()
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            time.sleep(1)
        with veth.daemon():
            veth.wait_until("shaped")
            assert (shaper_ids(veth), veth.queues()) == found
            result = load.result()

    assert_held(result.bits_per_sec_by_interval())


def other_shaper(directory: Path) -> Path:
    """A copy of the checkout's daemon of another ABI: its shaper keeps a number elsewhere."""
    changed_copy(directory, 99)
    header, reader = directory / "bpf/shape.h", directory / "enforcer/datapath/shaper_abi.py"
    for path, first, moved in (
        (header, "    u64 uncharged_ns;", "    u64 limited_ns;"),
        (reader, "    uncharged_ns: int\n", "    limited_ns: int\n"),
    ):
        text = path.read_text()
        assert text.count(first) == text.count(moved) == 1
        text = text.replace(moved, "").replace(first, moved + first)
        path.write_text(text)
    return directory


@pytest.mark.parametrize("older", [changed_copy, other_shaper], ids=["new source", "new ABI"])
def test_an_upgrade_replaces_the_program_without_a_gap(
    veth: VethNode, tmp_path: Path, older: Callable[[Path], Path]
) -> None:
    """Today's program goes where the older one was; its clocks and what it counted go on."""
    with ExitStack() as running:
        with veth.daemon(older(tmp_path)):
            attach(veth)
            load = running.enter_context(bulk(veth.rig, TcpLoad(INGRESS, 10, 4)))
            time.sleep(2)
            before, limited_seconds = shaper_ids(veth), veth.ingress()["limited_seconds"]
        with veth.daemon():
            veth.wait_until("shaped")
            after = shaper_ids(veth)
            assert limited_seconds <= veth.ingress()["limited_seconds"] < limited_seconds + 60
            result = load.result()
            assert len(after) == 1
            assert after != before
            assert veth.ingress()["passed_bytes"] > 10 * LIMIT // 8 // 2

    assert_held(result.bits_per_sec_by_interval())


def shaper_ids(node: VethNode) -> list[int]:
    """Ids of our programs on the veth."""
    said = json.loads(node.tc("-j", "filter", "show", "dev", POD_PORT, "egress"))
    return [f["options"]["prog"]["id"] for f in said if "prog" in f.get("options", {})]


def test_exempt_networks_pass_unlimited(veth: VethNode) -> None:
    """What comes from an exempt address is neither held nor counted."""
    with veth.daemon():
        attach(veth, LIMIT, "--exempt", f"{PEER_ADDRESS[4]}/32")
        with bulk(veth.rig, TcpLoad(INGRESS, 2, 1)) as running:
            result = running.result()
        assert veth.ingress()["passed_bytes"] < 100_000

    assert result.goodput_bits_per_sec(0.5) > 3 * LIMIT
