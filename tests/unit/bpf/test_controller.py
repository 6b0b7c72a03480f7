"""The share controller: what one greedy flow may send."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.arithmetic import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    START_NS,
    Arithmetic,
    DirectionState,
    limit_of,
)

MBIT = 10**6
RATE_BITS = 80 * MBIT
anything = st.integers(0, 2**64 - 1)
some_credit = st.integers(-(2**62), 2**62)
limits_bits = st.integers(1000, 100_000 * MBIT)


def running(arithmetic: Arithmetic, flows: int, **fields: int) -> DirectionState:
    """A state in the middle of things: so many greedy flows, each at its share."""
    limit = limit_of(RATE_BITS)
    rate = limit.rate_bytes_per_sec
    length_ns = arithmetic.epoch_length(limit, rate // flows, 0)
    known = {
        "refilled_at_ns": START_NS,
        "epoch_started_at_ns": START_NS,
        "epoch_length_ns": length_ns,
        "epoch_enough_bytes": 2 * rate * length_ns // NSEC_PER_SEC,
        "epoch_rate_bytes_per_sec": rate,
        "epoch": 1,
        "active_flows": flows,
        "window_flows": flows,
        "greedy_flows_q8": flows * arithmetic.q8,
        "share_bytes_per_sec": rate // flows,
    }
    return DirectionState(**(known | fields))


def close_epoch(arithmetic: Arithmetic, state: DirectionState, sent_bytes_per_sec: int) -> int:
    """End the running epoch, in which all flows together sent at that rate; its length."""
    length_ns = state.epoch_length_ns
    state.epoch_bytes = sent_bytes_per_sec * length_ns // NSEC_PER_SEC
    arithmetic.tick(state, limit_of(RATE_BITS), 0, state.epoch_started_at_ns + length_ns)
    return length_ns


def balanced_credit(arithmetic: Arithmetic) -> int:
    """The credit at which nothing is corrected."""
    limit = limit_of(RATE_BITS)
    low, high = -limit.rate_bytes_per_sec, limit.rate_bytes_per_sec
    while low < high:
        middle = (low + high) // 2
        if arithmetic.wanted(limit, middle, limit.epoch_ns) < limit.rate_bytes_per_sec:
            low = middle + 1
        else:
            high = middle
    return low


def test_some_credit_is_kept_for_what_is_not_paced(arithmetic: Arithmetic) -> None:
    """The balance is above zero and inside the burst, or the credit could never reach it."""
    assert 0 < balanced_credit(arithmetic) < limit_of(RATE_BITS).burst_bytes


def test_debt_lowers_and_credit_raises_what_is_wanted(arithmetic: Arithmetic) -> None:
    """Below the balance less than the rate is wanted, above it more."""
    limit = limit_of(RATE_BITS)
    rate, balance = limit.rate_bytes_per_sec, balanced_credit(arithmetic)
    assert arithmetic.wanted(limit, balance, limit.epoch_ns) == rate
    assert arithmetic.wanted(limit, balance - 10_000, limit.epoch_ns) < rate
    assert arithmetic.wanted(limit, balance + 10_000, limit.epoch_ns) > rate


@settings(deadline=None)
@given(bits=limits_bits, tokens=some_credit, more=st.integers(0, 2**40))
def test_what_is_wanted_stays_near_the_rate(
    arithmetic: Arithmetic, bits: int, tokens: int, more: int
) -> None:
    """No credit asks for more than 1.25 x rate, no debt for less than a quarter of it."""
    limit = limit_of(bits)
    rate = limit.rate_bytes_per_sec
    # Beyond what a bucket can hold, the product of credit and time may wrap.
    tokens = max(-8 * rate - 2**20, min(tokens, limit.burst_bytes))
    wanted = arithmetic.wanted(limit, tokens, limit.epoch_ns)
    assert rate // 4 <= wanted <= rate + rate // 4
    with_more = min(tokens + more, limit.burst_bytes)
    assert arithmetic.wanted(limit, with_more, limit.epoch_ns) >= wanted


@settings(deadline=None)
@given(wanted=st.integers(1, 2 * 10**10), flows=st.integers(1, 65536))
def test_greedy_flows_share_what_is_wanted(arithmetic: Arithmetic, wanted: int, flows: int) -> None:
    """n greedy flows get want / n each, and never less than the smallest share."""
    share = arithmetic.share(wanted, flows * arithmetic.q8)
    assert share == max(wanted // flows, arithmetic.min_share_bytes_per_sec)


def test_the_first_flow_may_have_it_all(arithmetic: Arithmetic) -> None:
    """The first packet of all is given the whole of what is wanted."""
    limit = limit_of(RATE_BITS)
    state = DirectionState()
    arithmetic.tick(state, limit, 0, START_NS)
    assert state.share_bytes_per_sec == arithmetic.wanted(limit, 0, limit.epoch_ns)
    assert state.epoch_started_at_ns == START_NS


@pytest.mark.parametrize("flows", [1, 2, 7, 100])
def test_flows_at_their_share_keep_it(arithmetic: Arithmetic, flows: int) -> None:
    """While n flows send at their share and the credit is balanced, the share stays rate / n."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, flows, tokens_bytes=balanced_credit(arithmetic))
    for _ in range(30):
        close_epoch(arithmetic, state, state.share_bytes_per_sec * flows)
        state.window_flows = flows
        assert state.share_bytes_per_sec == pytest.approx(rate / flows, rel=0.01)


def test_a_flow_that_wants_little_leaves_the_rest(arithmetic: Arithmetic) -> None:
    """Three greedy flows beside one that uses a tenth get 0.3 of the rate each."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, 4, tokens_bytes=balanced_credit(arithmetic))
    for _ in range(60):
        close_epoch(arithmetic, state, 3 * state.share_bytes_per_sec + rate // 10)
        state.window_flows = 4
    assert state.share_bytes_per_sec == pytest.approx(0.3 * rate, rel=0.02)


def test_a_crowd_of_newcomers_lowers_the_share_at_once(arithmetic: Arithmetic) -> None:
    """When the flows become three times as many, one epoch cuts the share to a third."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, 4, tokens_bytes=balanced_credit(arithmetic), window_flows=12)
    close_epoch(arithmetic, state, 12 * state.share_bytes_per_sec)
    assert state.share_bytes_per_sec == pytest.approx(rate / 12, rel=0.02)


def test_leavers_raise_the_share_slowly(arithmetic: Arithmetic) -> None:
    """One epoch at half raises the share by a part of the gap only: it may be a pause."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, 8, tokens_bytes=balanced_credit(arithmetic))
    close_epoch(arithmetic, state, 4 * state.share_bytes_per_sec)
    assert rate / 8 < state.share_bytes_per_sec < 1.3 * rate / 8
    for _ in range(40):
        close_epoch(arithmetic, state, 4 * state.share_bytes_per_sec)
    assert state.share_bytes_per_sec == pytest.approx(rate / 4, rel=0.02)


def test_one_overrun_is_not_taken_for_a_crowd(arithmetic: Arithmetic) -> None:
    """Flows that have not heard of a lower share yet count as no more flows than were seen."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, 4, tokens_bytes=balanced_credit(arithmetic))
    close_epoch(arithmetic, state, 10 * rate)
    assert state.share_bytes_per_sec >= 0.99 * rate / 5


def test_an_epoch_lasts_as_long_as_the_flows_need_to_follow(arithmetic: Arithmetic) -> None:
    """It spans a round trip, and what the flows send at once at a low share."""
    limit = limit_of(RATE_BITS)
    rtt_ns = 10 * limit.epoch_ns
    low_share = 100_000
    assert arithmetic.epoch_length(limit, limit.rate_bytes_per_sec, 0) == limit.epoch_ns
    assert arithmetic.epoch_length(limit, limit.rate_bytes_per_sec, rtt_ns) == rtt_ns
    slow_ns = arithmetic.epoch_length(limit, low_share, 0)
    assert slow_ns >= 1514 * NSEC_PER_SEC // low_share > limit.epoch_ns


def test_an_epoch_ends_when_its_time_is_up(arithmetic: Arithmetic) -> None:
    """A nanosecond before nothing happens; then the share is computed and counting starts anew."""
    limit = limit_of(RATE_BITS)
    state = running(arithmetic, 1, epoch_bytes=limit.rate_bytes_per_sec // 1000)
    ends_at_ns = START_NS + state.epoch_length_ns
    before = bytes(state)
    arithmetic.tick(state, limit, 0, ends_at_ns - 1)
    assert bytes(state) == before
    arithmetic.tick(state, limit, 0, ends_at_ns)
    assert (state.epoch, state.epoch_bytes) == (2, 0)
    assert state.epoch_started_at_ns == ends_at_ns


def test_an_epoch_is_planned_for_the_new_share(arithmetic: Arithmetic) -> None:
    """It is as long as the flows need, and twice what they may send in it ends it early."""
    limit = limit_of(RATE_BITS)
    state = running(arithmetic, 100)
    close_epoch(arithmetic, state, limit.rate_bytes_per_sec)
    assert state.epoch_length_ns == arithmetic.epoch_length(limit, state.share_bytes_per_sec, 0)
    twice = 2 * limit.rate_bytes_per_sec * state.epoch_length_ns / NSEC_PER_SEC
    assert state.epoch_enough_bytes == pytest.approx(twice, rel=0.001)


def test_a_burst_ends_an_epoch_early(arithmetic: Arithmetic) -> None:
    """Enough bytes end it, though not in its first eighth; a byte less does not."""
    limit = limit_of(RATE_BITS)
    enough = running(arithmetic, 1).epoch_enough_bytes
    eighth_ns = running(arithmetic, 1).epoch_length_ns // 8
    for sent, elapsed_ns, epoch in (
        (enough, eighth_ns, 2),
        (enough - 1, eighth_ns, 1),
        (enough, eighth_ns - 1, 1),
    ):
        state = running(arithmetic, 1, epoch_bytes=sent)
        arithmetic.tick(state, limit, 0, START_NS + elapsed_ns)
        assert state.epoch == epoch


@pytest.mark.parametrize("factor", [0.1, 10])
def test_a_changed_limit_is_followed_soon(arithmetic: Arithmetic, factor: float) -> None:
    """After a live change by 10 x a new share is there within 200 ms, at 1 Mbit/s too."""
    old, new = limit_of(MBIT), limit_of(int(MBIT * factor))
    state = DirectionState(refilled_at_ns=START_NS)
    arithmetic.tick(state, old, 0, START_NS)
    share = state.share_bytes_per_sec
    changed = False
    for number in range(1, 21):
        now_ns = START_NS + number * 10 * NSEC_PER_MSEC
        state.epoch_bytes += old.rate_bytes_per_sec // 100
        arithmetic.tick(state, new, 0, now_ns)
        changed = changed or state.share_bytes_per_sec != share
    assert changed


def test_a_clock_that_steps_back_ends_no_epoch(arithmetic: Arithmetic) -> None:
    """A CPU whose clock is behind the epoch's start leaves the state alone."""
    state = running(arithmetic, 1)
    before = bytes(state)
    arithmetic.tick(state, limit_of(RATE_BITS), 0, START_NS - NSEC_PER_MSEC)
    assert bytes(state) == before


def test_silence_after_a_drop_raises_no_share(arithmetic: Arithmetic) -> None:
    """A socket whose segment was refused is silent for a while: its share is not given away."""
    state = running(arithmetic, 8, tokens_bytes=balanced_credit(arithmetic))
    state.dropped_at_ns = START_NS + 1
    share = state.share_bytes_per_sec
    while state.epoch_started_at_ns < START_NS + arithmetic.silent_after_drop_ns * 0.9:
        close_epoch(arithmetic, state, 2 * share)
        state.window_flows = 2
        assert state.share_bytes_per_sec <= share * 1.01
    for _ in range(100):
        close_epoch(arithmetic, state, 2 * state.share_bytes_per_sec)
    assert state.share_bytes_per_sec > 2 * share


def test_flows_are_counted_by_windows_of_epochs(arithmetic: Arithmetic) -> None:
    """At a window's end what it saw becomes the number of active flows, and counting restarts."""
    last = arithmetic.epochs_per_window - 1
    state = running(arithmetic, 4, epoch=last, window_flows=6, active_flows=4)
    close_epoch(arithmetic, state, limit_of(RATE_BITS).rate_bytes_per_sec)
    assert (state.active_flows, state.window_flows) == (6, 0)
    close_epoch(arithmetic, state, limit_of(RATE_BITS).rate_bytes_per_sec)
    assert (state.active_flows, state.window_flows) == (6, 0)


def test_time_at_the_limit_is_counted_only_there(arithmetic: Arithmetic) -> None:
    """An epoch that used the limit up adds its length to limited_ns, one at half of it nothing."""
    rate = limit_of(RATE_BITS).rate_bytes_per_sec
    state = running(arithmetic, 2)
    close_epoch(arithmetic, state, rate // 2)
    assert state.limited_ns == 0
    length_ns = close_epoch(arithmetic, state, rate)
    assert state.limited_ns == length_ns


@settings(deadline=None)
@given(
    bits=limits_bits,
    rtt_ns=st.integers(0, 100 * NSEC_PER_MSEC),
    now_ns=anything,
    tokens=some_credit,
    fields=st.tuples(*[anything] * (len(DirectionState._fields_) - 1)),
)
def test_no_state_breaks_the_controller(
    *,
    arithmetic: Arithmetic,
    bits: int,
    rtt_ns: int,
    now_ns: int,
    tokens: int,
    fields: tuple[int, ...],
) -> None:
    """Whatever the record holds: no division by zero, no share of 0 or above 1.25 x rate."""
    limit = limit_of(bits)
    rate = limit.rate_bytes_per_sec
    state = DirectionState(tokens, *fields)
    epoch = state.epoch
    arithmetic.tick(state, limit, rtt_ns, now_ns)
    assert state.tokens_bytes <= tokens
    if state.epoch == epoch:
        assert bytes(state) == bytes(DirectionState(tokens, *fields))
        return
    most = max(rate + rate // 4, arithmetic.min_share_bytes_per_sec)
    assert arithmetic.min_share_bytes_per_sec <= state.share_bytes_per_sec <= most
    assert arithmetic.q8 <= state.greedy_flows_q8
    assert state.epoch_bytes == 0
