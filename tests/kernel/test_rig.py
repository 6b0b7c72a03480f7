"""The traffic rig measures what it claims, and leaves nothing behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.limiters import CniBandwidth, Policer, Tbf
from bench.rig import (
    FrameCounter,
    Rig,
    TcpLoad,
    UdpLoad,
    bpf_stats,
    bulk,
    connects,
    leftovers,
    ping,
    requests,
    rig,
    socket_counters,
)
from bench.rig.topology import POD_PORT
from contract.names import Direction

pytestmark = pytest.mark.slow_emulated
LIMIT_BITS = 50_000_000
CLOSE = 0.03
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wired() -> Iterator[Rig]:
    """One rig for all tests that leave it as they found it."""
    with rig() as r:
        yield r


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("family", [4, 6])
def test_goodput_and_frames_agree_with_a_known_limit(
    wired: Rig, direction: Direction, family: int
) -> None:
    """Behind a TBF of 50 Mbit/s frames run at 50 Mbit/s and payload at its part of them."""
    frames = FrameCounter(wired, direction)
    load = TcpLoad(direction, seconds=5, flows=2, family=family)

    with Tbf().applied(wired, direction, LIMIT_BITS), bulk(wired, load) as running:
        time.sleep(1.5)
        first = frames.read()
        time.sleep(2.5)
        counted = frames.read() - first
        result = running.result()

    assert counted.bits_per_sec == pytest.approx(LIMIT_BITS, rel=CLOSE)
    payload = {4: 1448, 6: 1428}[family] / 1514
    assert result.goodput_bits_per_sec() == pytest.approx(LIMIT_BITS * payload, rel=CLOSE)


def test_sockets_and_the_wire_count_the_same_frames(wired: Rig) -> None:
    """GSO hides the headers of segments from a veth, not from our two counters."""
    frames = FrameCounter(wired, Direction.EGRESS)

    with (
        Tbf().applied(wired, Direction.EGRESS, LIMIT_BITS),
        bulk(wired, TcpLoad(Direction.EGRESS, seconds=5)) as running,
    ):
        time.sleep(1.5)
        on_wire, in_sockets = frames.read(), socket_counters(wired.peer)
        time.sleep(2.5)
        on_wire, in_sockets = frames.read() - on_wire, socket_counters(wired.peer) - in_sockets
        running.result()

    socket_bits_per_sec = in_sockets.received_frame_bytes() * 8 / in_sockets.at_seconds
    assert socket_bits_per_sec == pytest.approx(on_wire.bits_per_sec, rel=CLOSE)


@pytest.mark.parametrize("sender_connects", [False, True])
@pytest.mark.parametrize("direction", list(Direction))
def test_udp_arrives_at_the_rate_it_is_offered(
    wired: Rig, direction: Direction, sender_connects: bool
) -> None:
    """Without a limit, offered and received are the same, and nothing is lost."""
    offered = 20_000_000
    load = UdpLoad(direction, offered, seconds=2, sender_connects=sender_connects)

    with bulk(wired, load) as running:
        result = running.result()

    frame_rate = result.goodput_bits_per_sec(0.5) / load.payload_of_frame
    assert frame_rate == pytest.approx(offered, rel=CLOSE)
    assert result.lost_datagrams == 0


def test_pings_that_are_dropped_are_lost_and_count_in_the_percentiles() -> None:
    """With the pod's port down no ping is answered: all are lost, at 2000 ms."""
    with rig() as r:
        r.node.run("ip", "link", "set", "dev", POD_PORT, "down")
        with ping(r, 1) as pings:
            result = pings.result()

    assert result.lost == 50
    assert result.p50_ms == 2000


def test_ping_answers_when_nothing_limits(wired: Rig) -> None:
    """Every ping of a second is answered."""
    with ping(wired, 1, family=6) as pings:
        result = pings.result()

    assert (len(result.latencies_ms), result.lost) == (50, 0)


@pytest.mark.native
def test_requests_and_short_connections_are_answered(wired: Rig) -> None:
    """Request-response goes no faster than its pace; all connections are really opened."""
    with requests(wired, 1, connections=2, gap_ms=20) as load:
        answered = load.result()
    with connects(wired, 1, per_second=500) as load:
        connected = load.result()

    assert 0 < len(answered.latencies_ms) <= 110
    assert (len(connected.latencies_ms), connected.failed) == (500, 0)


def test_program_statistics_count_every_run(wired: Rig) -> None:
    """Fifty pings are fifty runs of the ingress program, with a time above zero."""
    with (
        bpf_stats() as stats,
        Policer().applied(wired, Direction.INGRESS, 10**9),
    ):
        with ping(wired, 1) as pings:
            pings.result()
        ((_, counted),) = stats.of_cgroup(wired.cgroup).items()

    assert (counted.name, counted.run_count) == ("ingress", 50)
    assert counted.ns_per_run > 0


@pytest.mark.parametrize("direction", list(Direction))
def test_the_cni_plugin_limits_and_takes_everything_back(wired: Rig, direction: Direction) -> None:
    """After DEL the node has the qdiscs and links it had before ADD."""

    def state() -> list[str]:
        qdiscs = wired.node.run("tc", "qdisc", "show").splitlines()
        links = wired.node.run("ip", "-br", "link").splitlines()
        return [*qdiscs, *(link.split()[0] for link in links)]

    before = state()
    with CniBandwidth().applied(wired, direction, LIMIT_BITS):
        assert "tbf" in wired.node.run("tc", "qdisc", "show")

    assert state() == before


def test_nothing_is_left_when_the_block_raises() -> None:
    """An exception passes through and the rig is gone, with the processes in it."""
    names = []

    def fail_under_load() -> None:
        with rig() as r, bulk(r, TcpLoad(Direction.EGRESS, 30)):
            names.append(r.name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_under_load()

    assert leftovers(names[0]) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_the_process_is_told_to_end(number: signal.Signals) -> None:
    """The three signals people and systemd send unwind the stack."""
    script = (
        "from bench.rig import *; from contract.names import Direction\n"
        "with rig() as r, bulk(r, TcpLoad(Direction.EGRESS, 30)) as load:\n"
        "    print(r.name, flush=True); load.result()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert leftovers(name)
        process.send_signal(number)

    assert process.returncode
    assert leftovers(name) == []
