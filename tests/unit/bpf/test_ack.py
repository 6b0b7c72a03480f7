"""bpf/ack.h, one function at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.arithmetic import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    START_NS,
    Arithmetic,
    DirectionState,
    Flow,
    PodState,
    ingress_limit_of,
)

MBIT = 10**6
FRAME = 1514
SHARE = 1_250_000
LIMIT = ingress_limit_of(10 * MBIT)
HEADERS_V4 = 66
any_share = st.integers(256, 156 * 10**9)
any_time = st.integers(0, 2**62)


def sharing(flows: float, tokens_bytes: int = 0) -> DirectionState:
    """The record of an epoch in which so many greedy flows are known."""
    return DirectionState(
        tokens_bytes=tokens_bytes,
        share_bytes_per_sec=int(LIMIT.rate_bytes_per_sec / flows),
        greedy_flows_q8=int(flows * 256),
    )


def depart(arithmetic: Arithmetic, flow: Flow, frames: int, now_ns: int, share: int = SHARE) -> int:
    """When an ACK for so many frames leaves, in nanoseconds from now."""
    departs_at_ns: int = arithmetic.departure(flow, frames * FRAME, share, now_ns, now_ns)
    return departs_at_ns - now_ns


def test_acks_leave_as_far_apart_as_their_data_is_worth(arithmetic: Arithmetic) -> None:
    """The first leaves at once; each next one when those before it are paid for at the share."""
    flow = Flow()
    waits = [depart(arithmetic, flow, 2, START_NS) for _ in range(5)]
    two_frames_ns = 2 * FRAME * NSEC_PER_SEC // (SHARE + 1)
    assert waits == [number * two_frames_ns for number in range(5)]


def test_a_pause_earns_nothing(arithmetic: Arithmetic) -> None:
    """After a pause one ACK leaves at once, and the next again as far behind it."""
    flow = Flow()
    for _ in range(3):
        depart(arithmetic, flow, 2, START_NS)
    later_ns = START_NS + NSEC_PER_SEC
    assert depart(arithmetic, flow, 2, later_ns) == 0
    assert depart(arithmetic, flow, 2, later_ns) == 2 * FRAME * NSEC_PER_SEC // (SHARE + 1)


@settings(deadline=None)
@given(
    share=any_share,
    now_ns=any_time,
    due_ns=any_time,
    left_ns=any_time,
    turn_ns=any_time,
    frame_bytes=st.integers(0, 2**31),
)
def test_no_ack_waits_longer_than_the_bound(
    *,
    arithmetic: Arithmetic,
    share: int,
    now_ns: int,
    due_ns: int,
    left_ns: int,
    turn_ns: int,
    frame_bytes: int,
) -> None:
    """Whatever the clocks say: 150 ms, and what eight full frames take at the share."""
    # A flow's last ACK cannot be due later than its clock.
    flow = Flow(ack_due_ns=due_ns, ack_left_ns=min(left_ns, due_ns))
    wait_ns = arithmetic.departure(flow, frame_bytes, share, turn_ns, now_ns) - now_ns
    assert 0 <= wait_ns <= arithmetic.max_ack_wait_ns + 8 * FRAME * NSEC_PER_SEC // (share + 1)
    assert arithmetic.longest_wait_ns(share) >= wait_ns


def test_the_time_between_two_acks_stays_below_a_retransmission_timeout(
    arithmetic: Arithmetic,
) -> None:
    """However low the share: 150 ms after the ACK before, and the waits the sender has got used to.

    A sender's timer restarts with each ACK and is its smoothed round trip + 200 ms at least.
    """
    flow, last_ns, smoothed_ns = Flow(), START_NS, 0
    for _ in range(50):
        departs_at_ns = last_ns + depart(arithmetic, flow, 1, last_ns, share=1000)
        assert departs_at_ns - last_ns < smoothed_ns + 200 * NSEC_PER_MSEC
        smoothed_ns += (departs_at_ns - last_ns - smoothed_ns) // 8
        last_ns = departs_at_ns


def test_a_flow_that_waits_as_long_as_it_may_has_outgrown_its_pace(arithmetic: Arithmetic) -> None:
    """After half a second at the bound it must be told otherwise; below it that is forgotten."""
    flow = Flow(ack_due_ns=START_NS + 10 * NSEC_PER_SEC)
    depart(arithmetic, flow, 2, START_NS)
    assert not arithmetic.outgrown(flow, START_NS + arithmetic.outgrown_after_ns)
    assert arithmetic.outgrown(flow, START_NS + arithmetic.outgrown_after_ns + 1)
    later_ns = flow.ack_due_ns + NSEC_PER_SEC
    depart(arithmetic, flow, 2, later_ns)
    assert not arithmetic.outgrown(flow, later_ns + NSEC_PER_SEC)


@pytest.mark.parametrize(
    ("fresh_bytes", "segments", "frame_bytes"),
    [
        (1448, 1, 1514),
        (2 * 1448, 2, 2 * 1514),
        (100, 1, 166),
        (64_000, 45, 64_000 + 45 * HEADERS_V4),
        (0, 3, 0),
        (-1448, 0, 0),
    ],
)
def test_acknowledged_data_counts_as_its_frames(
    arithmetic: Arithmetic, fresh_bytes: int, segments: int, frame_bytes: int
) -> None:
    """Payload and every segment's headers, over the wrap of both counters; nothing new is 0."""
    sequence, count = 2**32 - 700, 2**32 - 1
    flow = Flow(acked_sequence=sequence, acked_segments=count)
    after = (sequence + fresh_bytes) % 2**32, (count + segments) % 2**32
    assert arithmetic.received(flow, *after, HEADERS_V4) == frame_bytes
    assert (flow.acked_sequence, flow.acked_segments) == after


def test_data_acknowledged_without_waiting_is_paid_for_by_the_next(arithmetic: Arithmetic) -> None:
    """An ACK that tells of a hole leaves at once, and its data still delays what follows."""
    flow = Flow()
    arithmetic.charge(flow, 10 * FRAME, SHARE, START_NS)
    assert depart(arithmetic, flow, 2, START_NS) == 10 * FRAME * NSEC_PER_SEC // (SHARE + 1)


@pytest.mark.parametrize("waiting", [0, 1, 2, 10, 50])
def test_flows_that_set_in_share_at_once(arithmetic: Arithmetic, waiting: int) -> None:
    """Where one flow is known and more wait, each gets a part of one share, from its ACK on."""
    alone, together = (
        arithmetic.share_received(sharing(1), LIMIT, number) for number in (1, waiting)
    )
    assert together == pytest.approx(alone / max(waiting, 1), rel=0.01)


def test_nobody_is_held_back_while_credit_is_left(arithmetic: Arithmetic) -> None:
    """With the burst unused, waiting flows change no share: they may want less than one."""
    full = sharing(1, LIMIT.burst_bytes)
    assert arithmetic.share_received(full, LIMIT, 50) == full.share_bytes_per_sec
    arithmetic.learn(full, LIMIT, 50)
    assert full.greedy_flows_q8 == 256


def test_the_controller_learns_how_many_waited(arithmetic: Arithmetic) -> None:
    """At an epoch's end seven eighths of them are known; what is known already stays."""
    state = sharing(1)
    arithmetic.learn(state, LIMIT, 48)
    assert state.greedy_flows_q8 == 42 * 256
    assert state.share_bytes_per_sec == LIMIT.rate_bytes_per_sec // 42
    arithmetic.learn(state, LIMIT, 10)
    assert state.greedy_flows_q8 == 42 * 256


@pytest.mark.parametrize(("seen", "believed", "known"), [(1, 2, 1), (10, 11, 10), (3, 3, 3)])
def test_a_burst_is_not_taken_for_more_flows(
    arithmetic: Arithmetic, seen: int, believed: int, known: int
) -> None:
    """There are no more greedy flows than receive anything; together they keep what they had."""
    state = sharing(believed)
    state.window_flows = seen
    together = state.share_bytes_per_sec * state.greedy_flows_q8
    arithmetic.learn(state, LIMIT, 0)
    assert state.greedy_flows_q8 == known * 256
    assert state.share_bytes_per_sec * known * 256 == pytest.approx(together, rel=0.01)


def test_newcomers_share_one_clock(arithmetic: Arithmetic) -> None:
    """Fifty first ACKs for two frames leave as far apart as the limit brings those frames."""
    pod = PodState(newcomers=50)
    share = LIMIT.rate_bytes_per_sec // 50
    turns = [arithmetic.turn(pod, 2 * FRAME, share, START_NS) for _ in range(50)]
    gap_ns = 2 * FRAME * NSEC_PER_SEC / LIMIT.rate_bytes_per_sec
    assert turns[-1] - START_NS == pytest.approx(50 * gap_ns, rel=0.01)


def test_a_newcomer_is_one_for_two_epochs(arithmetic: Arithmetic) -> None:
    """The epoch in which it began to receive, and the next; a flow that never did is none."""
    flow = Flow(joined_epoch=7 + 1)
    assert [bool(arithmetic.newcomer(flow, epoch)) for epoch in (7, 8, 9)] == [True, True, False]
    assert not arithmetic.newcomer(Flow(), 0)


def test_a_window_holds_the_path_and_twenty_milliseconds(arithmetic: Arithmetic) -> None:
    """At the flow's share, but never less than four segments nor more than TCP can tell."""
    least = arithmetic.min_receive_segments
    assert arithmetic.window_wanted(12_500_000, 50_000, 1448, least) == 12_500_000 * 70 // 1000
    assert arithmetic.window_wanted(25_000, 0, 1448, least) == 4 * 1448
    assert arithmetic.window_wanted(25_000, 0, 8948, least) == 4 * 8948
    assert arithmetic.window_wanted(10**11, 10**6, 1448, least) == arithmetic.max_window_bytes


def test_a_window_grows_by_what_has_arrived(arithmetic: Arithmetic) -> None:
    """No faster than the data comes, and down at once."""
    assert arithmetic.window_next(25_000, 5_792, 2_896) == 8_688
    assert arithmetic.window_next(25_000, 24_000, 2_896) == 25_000
    assert arithmetic.window_next(5_792, 25_000, 2_896) == 5_792


@given(part=st.integers(1, 255), buffer_bytes=st.integers(4096, 64 << 20))
def test_a_bound_that_the_kernel_sets_is_told_from_an_applications(
    arithmetic: Arithmetic, part: int, buffer_bytes: int
) -> None:
    """The kernel's is so many 256ths of the buffer, rounded down; no other is taken for one."""
    kernels = part * buffer_bytes // 256
    assert arithmetic.part_of(kernels, buffer_bytes)
    assert not arithmetic.part_of(kernels + 1, buffer_bytes)
    assert not arithmetic.part_of(buffer_bytes + 1, buffer_bytes)


def test_a_window_waits_until_those_who_begin_together_are_seen(arithmetic: Arithmetic) -> None:
    """A tenth of a second; where its ACKs are never seen, as on loopback, two windows' worth."""
    flow = Flow(joined_ns=START_NS, window_bytes=5_792)
    assert arithmetic.sets_in(flow, 10**6, START_NS + 99_000_000)
    assert not arithmetic.sets_in(flow, 0, START_NS + 100_000_000)
    unseen = Flow(window_bytes=5_792)
    assert arithmetic.sets_in(unseen, 2 * 5_792 - 1, START_NS)
    assert not arithmetic.sets_in(unseen, 2 * 5_792, START_NS)


@pytest.mark.parametrize(
    ("sample_us", "rtt_us"), [(0, 0), (40_000, 40_000), (2**31, 10**6), (2**32 - 1, 50_000)]
)
def test_a_path_without_a_sample_counts_as_a_middling_one(
    arithmetic: Arithmetic, sample_us: int, rtt_us: int
) -> None:
    """The least round trip seen, a second at most; the kernel's ~0 is no sample."""
    assert arithmetic.rtt_us(sample_us) == rtt_us


def test_a_second_brings_no_more_than_it_may(arithmetic: Arithmetic) -> None:
    """1.1 s of the limit and 150 kB from its first packet on, and so does the next second."""
    pod = PodState()
    allowed = LIMIT.rate_bytes_per_sec * 11 // 10 + 150_000
    for second in range(2):
        start_ns = START_NS + second * NSEC_PER_SEC
        passed = 0
        for number in range(2 * allowed // FRAME):
            now_ns = start_ns + number * (NSEC_PER_SEC // 10_000)
            if not arithmetic.second_exceeded(pod, LIMIT, FRAME, now_ns):
                passed += FRAME
        assert allowed - FRAME < passed <= allowed


def test_a_second_begins_with_the_first_packet_after_a_pause(arithmetic: Arithmetic) -> None:
    """What came while all credit was unused is no part of it."""
    pod = PodState(second_started_at_ns=START_NS, second_bytes=10**9)
    now_ns = START_NS + NSEC_PER_SEC // 2
    pod.ingress.tokens_bytes = LIMIT.burst_bytes - 1
    assert arithmetic.second_exceeded(pod, LIMIT, FRAME, now_ns)
    pod.ingress.tokens_bytes = LIMIT.burst_bytes
    assert not arithmetic.second_exceeded(pod, LIMIT, FRAME, now_ns)
    assert (pod.second_started_at_ns, pod.second_bytes) == (now_ns, FRAME)


@settings(deadline=None)
@given(
    rate_bits=st.integers(1_000, 10**12),
    tokens=st.integers(-(2**40), 2**40),
    share=st.integers(0, 156 * 10**9),
    greedy_q8=st.integers(0, 65536 * 256),
    waiting=st.integers(0, 2**20),
    seen=st.integers(0, 2**20),
)
def test_no_record_breaks_the_shares(
    *,
    arithmetic: Arithmetic,
    rate_bits: int,
    tokens: int,
    share: int,
    greedy_q8: int,
    waiting: int,
    seen: int,
) -> None:
    """Whatever is in the record: no division by zero; more waiting flows raise no share."""
    limit = ingress_limit_of(rate_bits)
    state = DirectionState(
        tokens_bytes=tokens, share_bytes_per_sec=share, greedy_flows_q8=greedy_q8
    )
    alone = arithmetic.share_received(state, limit, 0)
    assert arithmetic.share_received(state, limit, waiting) <= alone
    state.active_flows = seen
    arithmetic.learn(state, limit, waiting)
    mistaken = max(1, greedy_q8 / (256 * seen)) if seen else 1
    assert state.share_bytes_per_sec <= max(share * mistaken, arithmetic.min_share_bytes_per_sec)
