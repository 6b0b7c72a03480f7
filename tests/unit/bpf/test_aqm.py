"""What a packet meets at the shaper: bpf/aqm.h in simulated time."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.shaper import (
    BULK,
    DROP,
    FRAME,
    MARK,
    MSEC,
    RATE,
    SEC,
    SIGNAL,
    SPARSE,
    START,
    Flow,
    Shaper,
    Target,
    fill,
    link_of,
)


@pytest.mark.parametrize("rate", [125, RATE, 125_000_000, 12_500_000_000])
def test_a_frame_costs_its_time_at_the_limit(library: ctypes.CDLL, rate: int) -> None:
    """From 1 kbit/s to 100 Gbit/s, within a billionth."""
    target = Target(library, link_of(rate), Shaper(departs_at_ns=START, seen_at_ns=START))
    target.send(Flow(), 60_000)
    cost = target.shaper.departs_at_ns - START
    assert cost == pytest.approx(60_000 * SEC / rate, rel=1e-6, abs=2)


def test_a_flow_without_backlog_passes_one_that_has_some(target: Target) -> None:
    """However much waits, a ping does not; it is charged all the same."""
    fill(target, Flow(), 50 * MSEC)
    before = target.shaper.departs_at_ns
    assert target.send(Flow(), 106, tcp=False) == SPARSE
    assert target.shaper.departs_at_ns > before


def test_a_flow_never_overtakes_itself(target: Target) -> None:
    """While a packet of it waits, the next one waits too."""
    flow = Flow()
    fill(target, Flow(), 30 * MSEC)
    assert target.send(flow, 3000) == BULK
    due = target.shaper.departs_at_ns
    while target.now < due:
        assert target.send(flow, 60) != SPARSE
        target.now += 5 * MSEC


def test_sparse_flows_together_cannot_crowd_bulk_out(target: Target) -> None:
    """A thousand flows of one full frame each: beyond 5 ms they wait like everybody."""
    verdicts = [target.send(Flow()) for _ in range(100)]
    assert SPARSE in verdicts
    assert verdicts.count(SPARSE) < 10


def test_a_flood_is_cut_to_the_limit(target: Target) -> None:
    """Datagrams at twice the limit: half of them pass, and wait less than 100 ms."""
    flow, passed = Flow(), 0
    for _ in range(20_000):
        passed += target.send(flow, tcp=False) not in (DROP, SIGNAL)
        assert target.delay_ns < 100 * MSEC
        target.now += FRAME * SEC // RATE // 2
    elapsed = target.now - START
    assert passed * FRAME == pytest.approx(RATE * elapsed / SEC, rel=0.01)


def test_a_flow_above_the_target_is_told_once_in_an_interval(target: Target) -> None:
    """Marked, and without ECN dropped, but not again before it could have obeyed."""
    flow = Flow()
    fill(target, flow, 40 * MSEC)
    assert target.send(flow) == SIGNAL
    for _ in range(9):
        target.now += FRAME * SEC // RATE
        assert target.send(flow) == BULK


def test_a_flow_with_little_of_its_own_is_not_told(target: Target) -> None:
    """Another flow's backlog is not its fault, and its loss would cost it a timeout."""
    fill(target, Flow(), 100 * MSEC)
    flow = Flow()
    for _ in range(3):
        assert target.send(flow) in (SPARSE, BULK)


def test_the_last_of_a_window_is_not_dropped_for_a_signal(target: Target) -> None:
    """A GSO packet that is most of what its flow has in flight may be marked, not dropped."""
    flow = Flow()
    fill(target, flow, 30 * MSEC)
    assert target.send(flow, 20 * FRAME) == MARK


def test_tcp_waits_less_than_its_least_timeout(target: Target) -> None:
    """50 flows that send their first windows at once: beyond 200 ms they lose, not wait."""
    for _ in range(50):
        flow = Flow()
        for _ in range(10):
            target.send(flow)
    assert target.delay_ns < 205 * MSEC
    assert target.shaper.dropped_packets > 0


def test_idle_time_is_worth_the_burst(library: ctypes.CDLL) -> None:
    """After a pause that much passes before anything waits, and no more."""
    target = Target(library, link_of(burst_ns=30 * MSEC), Shaper())
    flow, passed = Flow(), 0
    while not target.delay_ns:
        target.c.admit(target.shaper, flow, target.link, FRAME, 1, target.now)
        passed += FRAME
    assert passed == pytest.approx(RATE * 30 * MSEC / SEC, abs=FRAME)


def test_packets_far_below_the_limit_are_charged_at_the_next_look(library: ctypes.CDLL) -> None:
    """While all credit is unused, 100 us of the limit pass between two looks at the clocks."""
    target = Target(library, link_of(12_500_000_000), Shaper())
    full, cost = START - target.link.burst_ns, 60_000 * SEC // 12_500_000_000
    for sent in range(1, 50):
        target.send(Flow(), 60_000)
        assert target.shaper.uncharged_ns <= 100_000
        charged = target.shaper.departs_at_ns - full
        assert charged + target.shaper.uncharged_ns == pytest.approx(sent * cost, abs=sent)
        if charged > cost:
            break
    assert sent == 100_000 // cost + 2
    assert target.shaper.passed_bytes == sent * 60_000
    assert target.shaper.may_pass_ns == 0


def test_a_lowered_limit_charges_the_next_packet(library: ctypes.CDLL) -> None:
    """What was free at 100 Gbit/s is not at 10 Mbit/s."""
    target = Target(library, link_of(12_500_000_000), Shaper())
    target.send(Flow(), 60_000)
    assert target.shaper.may_pass_ns > 0
    assert not library.take_far(target.shaper, link_of(RATE), FRAME)


def test_where_something_waits_every_packet_is_charged(target: Target) -> None:
    """Small ones too, until all credit is back."""
    fill(target, Flow(), 10 * MSEC)
    for _ in range(10):
        target.send(Flow(), 60)
        assert target.shaper.uncharged_ns == 0
        target.now += MSEC


def test_time_at_the_limit_is_counted(target: Target) -> None:
    """Only while something waits."""
    fill(target, Flow(), 20 * MSEC)
    target.now += SEC
    target.send(Flow(), 60)
    assert target.shaper.limited_ns == pytest.approx(20 * MSEC, abs=2 * MSEC)


def test_what_could_not_be_marked_costs_nothing(target: Target) -> None:
    """A packet that is dropped after all gives its time back."""
    fill(target, Flow(), 10 * MSEC)
    before = target.shaper.departs_at_ns, target.shaper.passed_bytes
    target.send(flow := Flow(), 3000)
    target.c.take_back(target.shaper, target.link, 3000)
    assert (target.shaper.departs_at_ns, target.shaper.passed_bytes) == before
    assert flow.bulk_until_ns > 0


packets = st.lists(
    st.tuples(st.integers(0, 7), st.integers(60, 65_549), st.booleans(), st.integers(0, 50 * MSEC)),
    max_size=120,
)


@settings(deadline=None, max_examples=200)
@given(rate=st.integers(125, 10**11), traffic=packets)
def test_whatever_comes_no_more_than_the_limit_and_a_bound_passes(
    *, library: ctypes.CDLL, rate: int, traffic: list[tuple[int, int, bool, int]]
) -> None:
    """Passed bytes fit time and the bound on what may wait, plus one packet."""
    target = Target(library, link_of(rate), Shaper(departs_at_ns=START, seen_at_ns=START))
    flows = [Flow() for _ in range(8)]
    passed = 0
    for number, size, tcp, pause_ns in traffic:
        passed += size * (target.send(flows[number], size, tcp=tcp) not in (DROP, SIGNAL))
        target.now += pause_ns
    waits_ns = 205 * MSEC + 50 * MSEC  # bulk, and small sparse packets ahead of it
    largest = max((size for _, size, _, _ in traffic), default=0)
    allowed = rate * (target.now - START + waits_ns) / SEC + 10 * FRAME + largest
    assert passed <= allowed * 1.001


def test_a_request_beside_many_bulk_flows_does_not_wait(target: Target) -> None:
    """Fifty flows queue all they can; a small packet each millisecond still passes them all."""
    bulk = [Flow() for _ in range(50)]
    for flow in bulk:
        for _ in range(4):
            target.send(flow)
    asking = Flow()
    for _ in range(100):
        assert target.send(asking, 67) == SPARSE
        target.send(bulk[0])
        target.now += MSEC


@pytest.mark.parametrize(("rate", "waits_ms"), [(RATE // 2, 40), (2 * RATE, 10), (RATE // 100, 0)])
def test_what_is_queued_takes_as_long_as_the_new_limit_says(
    target: Target, rate: int, waits_ms: int
) -> None:
    """Twice as long at half the limit; a queue that would be above the bound was thrown away."""
    fill(target, Flow(), 20 * MSEC)
    target.link = link_of(rate)
    target.send(Flow())
    waited = target.delay_ns - target.c.cost_ns(target.link, FRAME)
    assert waited == pytest.approx(waits_ms * MSEC, abs=2 * MSEC * RATE / rate + MSEC)


def test_a_full_frame_of_a_large_mtu_passes_what_waits(library: ctypes.CDLL) -> None:
    """What a sparse flow may have in flight is a frame of its interface."""
    link = link_of()
    link.full_frame_bytes = 9022
    target = Target(library, link, Shaper(departs_at_ns=START, seen_at_ns=START))
    fill(target, Flow(), 20 * MSEC)
    target.now += 5 * MSEC
    assert target.send(Flow(), 9014) == SPARSE
    target.now += 10 * MSEC
    target.link = link_of()
    assert target.send(Flow(), 9014) != SPARSE
