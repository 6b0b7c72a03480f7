"""Real traffic through a limited cgroup: what the limiter promises, measured."""

import time
from collections.abc import Iterator

import pytest

from bench.ours import Podpace, podpace
from bench.rig import (
    FrameCounter,
    Rig,
    TcpLoad,
    UdpLoad,
    bulk,
    connects,
    ping,
    requests,
    rig,
    socket_counters,
)
from contract.names import Direction
from tests.kernel.nodes import LET_GO, SLOWER

pytestmark = pytest.mark.slow_emulated
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
LOWEST, HIGHEST = 0.97, 1.01
FIRST_SECOND_EXTRA_BYTES = 150_000
TRIES = 3
"""A busy machine only makes an end slower: the best of so many counts, and every maximum."""
AT_FULL_SPEED = (pytest.mark.native, pytest.mark.alone)


@pytest.fixture(scope="module")
def wired() -> Iterator[tuple[Rig, Podpace]]:
    """One rig and one daemon; every test sets its own limit and takes it off."""
    with rig() as r, podpace(r) as limiter:
        yield r, limiter


@pytest.mark.parametrize(
    ("limit", "flows", "congestion_control", "family"),
    [
        (10_000_000, 1, "cubic", 4),
        (10_000_000, 10, "bbr", 4),
        (37_000_000, 3, "cubic", 6),
        (100_000_000, 50, "cubic", 4),
        pytest.param(250_000_000, 24, "bbr", 4, marks=AT_FULL_SPEED),
        pytest.param(1_000_000_000, 10, "cubic", 6, marks=AT_FULL_SPEED),
        pytest.param(2_500_000_000, 1, "bbr", 4, marks=AT_FULL_SPEED),
    ],
)
def test_tcp_egress_uses_its_limit_and_no_more(
    wired: tuple[Rig, Podpace], limit: int, flows: int, congestion_control: str, family: int
) -> None:
    """Egress TCP fills its limit evenly, loses nothing, and starts without a burst."""
    r, limiter = wired
    load = TcpLoad(EGRESS, 6, flows, congestion_control, family)
    used, is_as_alone = [0.0], False

    while len(used) <= TRIES and not is_as_alone:
        with limiter.applied(r, EGRESS, limit), ping(r, 6) as pings, bulk(r, load) as running:
            result, latencies = running.result(), pings.result()
        used.append(result.goodput_bits_per_sec() / load.payload_of_frame / limit)
        # A sender whose peer does not get a processor sends again what has not been lost.
        is_as_alone = used[-1] >= LOWEST and result.retransmits == 0
        assert latencies.lost == 0
        assert result.first_second_frame_bytes() <= 1.1 * limit / 8 + FIRST_SECOND_EXTRA_BYTES

    assert used[-1] >= LOWEST
    assert max(used) <= HIGHEST
    assert result.retransmits == 0
    assert result.jain_index() >= 0.95


def test_tcp_egress_at_1m(wired: tuple[Rig, Podpace]) -> None:
    """At 1 Mbit/s, where one frame lasts 12 ms, a flow still gets 93 % of its limit."""
    r, limiter = wired
    load = TcpLoad(EGRESS, 8)

    with limiter.applied(r, EGRESS, 1_000_000), bulk(r, load) as running:
        result = running.result()

    assert 0.93 <= result.goodput_bits_per_sec() / load.payload_of_frame / 1_000_000 <= HIGHEST
    assert result.retransmits == 0


@pytest.mark.parametrize("family", [4, 6])
def test_udp_egress_is_held_to_its_frames(wired: tuple[Rig, Podpace], family: int) -> None:
    """UDP offered at twice the limit leaves at the limit, counted by the interface."""
    r, limiter = wired
    limit = 20_000_000
    frames = FrameCounter(r, EGRESS)

    with (
        limiter.applied(r, EGRESS, limit),
        bulk(r, UdpLoad(EGRESS, 2 * limit, 7, family)) as running,
    ):
        time.sleep(1.5)
        before = frames.read()
        time.sleep(4)
        counted = frames.read() - before
        running.result()

    assert LOWEST <= counted.bits_per_sec / limit <= HIGHEST


def test_a_modest_flow_gets_what_it_wants_beside_greedy_ones(wired: tuple[Rig, Podpace]) -> None:
    """Three greedy flows leave a fourth the tenth that it wants; together they fill the limit."""
    r, limiter = wired
    limit = 100_000_000
    modest = TcpLoad(EGRESS, 6, flow_bits_per_sec=limit // 10, port=5301)

    with (
        limiter.applied(r, EGRESS, limit),
        bulk(r, TcpLoad(EGRESS, 6, 3)) as greedy_running,
        bulk(r, modest) as modest_running,
    ):
        greedy = greedy_running.result().goodput_bits_per_sec(2)
        wanted = modest_running.result().goodput_bits_per_sec(2)

    assert wanted >= 0.97 * limit / 10
    assert LOWEST <= (greedy + wanted) / modest.payload_of_frame / limit <= HIGHEST


@pytest.mark.native
@pytest.mark.alone
def test_short_connections_and_a_bulk_flow_live_together(wired: tuple[Rig, Podpace]) -> None:
    """A thousand connections a second and a bulk flow: neither starves, the bound holds."""
    r, limiter = wired
    limit = 100_000_000
    frames = FrameCounter(r, EGRESS)

    with (
        limiter.applied(r, EGRESS, limit),
        bulk(r, TcpLoad(EGRESS, 7)) as running,
        connects(r, 6, 1000) as short_running,
    ):
        time.sleep(1.5)
        before = frames.read()
        time.sleep(4)
        counted = frames.read() - before
        short, result = short_running.result(), running.result()

    assert counted.bits_per_sec / limit <= HIGHEST
    assert short.failed == 0
    assert result.goodput_bits_per_sec() / limit >= 0.5


@pytest.mark.native
@pytest.mark.alone
def test_request_response_is_quick_beside_a_bulk_flow(wired: tuple[Rig, Podpace]) -> None:
    """HTTP answers take at most twice as long, and 2 ms, with a bulk flow in the same target."""
    r, limiter = wired

    longer_ms: list[float] = []

    with limiter.applied(r, EGRESS, 100_000_000):
        while len(longer_ms) < TRIES and not any(ms <= 2 for ms in longer_ms):
            with requests(r, 4) as alone_running:
                alone = alone_running.result()
            with bulk(r, TcpLoad(EGRESS, 6)) as running, requests(r, 4) as beside_running:
                beside = beside_running.result()
                running.result()
            longer_ms.append(beside.p99_ms - 2 * alone.p99_ms)

    assert min(longer_ms) <= 2


@pytest.mark.parametrize("flows", [1, 10])
def test_ingress_ceiling_holds(wired: tuple[Rig, Podpace], flows: int) -> None:
    """What a target's sockets receive stays below the limit, whatever the sender does."""
    r, limiter = wired
    limit = 50_000_000

    with limiter.applied(r, INGRESS, limit), bulk(r, TcpLoad(INGRESS, 12, flows)) as running:
        time.sleep(1)
        before = socket_counters(r.pod)
        time.sleep(10)
        counted = socket_counters(r.pod) - before
        running.result()

    received = counted.received_frame_bytes() * 8 / counted.at_seconds
    assert 0.1 <= received / limit <= HIGHEST


@pytest.mark.parametrize(
    ("before", "after"), [(100_000_000, 10_000_000), (10_000_000, 100_000_000)]
)
def test_a_live_change_reaches_open_connections(
    wired: tuple[Rig, Podpace], before: int, after: int
) -> None:
    """Ten times more or less: open connections follow within 300 ms, and none is reset."""
    r, limiter = wired
    load = TcpLoad(EGRESS, 7 * SLOWER, 4)

    with limiter.applied(r, EGRESS, before) as change, bulk(r, load) as running:
        time.sleep(2)
        change(after)
        changed_at = time.monotonic() - running.started_at
        result = running.result()

    rates = [rate / load.payload_of_frame for rate in result.bits_per_sec_by_interval()]
    followed = int((changed_at + 0.3) * 10) + 1
    assert 0.9 <= sum(rates[8:15]) / 7 / before <= 1.1
    assert 0.9 <= sum(rates[followed : followed + 10]) / 10 / after <= 1.1
    assert 0.9 <= sum(rates[-20:]) / 20 / after <= 1.1
    assert result.retransmits == 0


def test_sockets_older_than_the_limit_are_paced(wired: tuple[Rig, Podpace]) -> None:
    """A connection that was open before the limit came is held to it without loss."""
    r, limiter = wired
    limit = 50_000_000
    load = TcpLoad(EGRESS, 13 * SLOWER, 2)
    rates: list[float] = []

    with bulk(r, load) as running:
        time.sleep(1.5)
        with limiter.applied(r, EGRESS, limit):
            # What was in flight at full speed may still be lost in the rig's own queues.
            time.sleep(1)
            frames, before = FrameCounter(r, EGRESS), socket_counters(r.pod)
            while len(rates) < TRIES and not any(rate >= LOWEST for rate in rates):
                first = frames.read()
                time.sleep(2)
                rates.append((frames.read() - first).bits_per_sec / limit)
            lost = (socket_counters(r.pod) - before).retransmitted_segments
        result = running.result()

    assert LOWEST <= max(rates) <= HIGHEST
    assert lost == 0
    # Let go again when the limit is taken off.
    assert result.bits_per_sec_by_interval()[-3] > LET_GO * limit


def test_observing_changes_nothing_and_counts(wired: tuple[Rig, Podpace]) -> None:
    """In observe mode traffic runs free, and what would have been dropped is counted."""
    r, limiter = wired
    limit = 20_000_000

    limiter.client("attach", r.cgroup, "--egress", str(limit), "--observe")
    try:
        with bulk(r, UdpLoad(EGRESS, 3 * limit, 3)) as running:
            result = running.result()
        status = limiter.show(r)["egress"]
    finally:
        limiter.client("detach", r.cgroup)

    assert result.lost_datagrams == 0
    assert status["dropped_packets"] > 0
    assert status["enforcement"] == "observed"
