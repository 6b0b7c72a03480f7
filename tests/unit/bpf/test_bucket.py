"""The token bucket: what idle time is worth."""

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
BYTES_PER_MSEC = RATE_BITS // 8 // 1000
MOST_TOKENS = 2**50
limits_bits = st.integers(1000, 10**15)


def within_a_byte(exact: int) -> object:
    """Credit is counted in whole bytes, rounded down."""
    return pytest.approx(exact - 0.5, abs=0.5)


@pytest.mark.parametrize("idle_ms", [1, 2, 5])
def test_idle_time_is_credited_at_the_rate(arithmetic: Arithmetic, idle_ms: int) -> None:
    """Below the burst, n milliseconds are worth n milliseconds of the rate."""
    state = DirectionState(tokens_bytes=7, refilled_at_ns=START_NS)
    arithmetic.refill(state, limit_of(RATE_BITS), START_NS + idle_ms * NSEC_PER_MSEC)
    assert state.tokens_bytes == within_a_byte(7 + idle_ms * BYTES_PER_MSEC)


def test_debt_is_repaid_at_the_rate(arithmetic: Arithmetic) -> None:
    """Credit below zero rises by the same amount as credit above."""
    state = DirectionState(tokens_bytes=-BYTES_PER_MSEC, refilled_at_ns=START_NS)
    arithmetic.refill(state, limit_of(RATE_BITS), START_NS + 2 * NSEC_PER_MSEC)
    assert state.tokens_bytes == within_a_byte(BYTES_PER_MSEC)


def test_credit_stops_at_the_burst(arithmetic: Arithmetic) -> None:
    """However long the pause, the credit is the burst and no byte more."""
    limit = limit_of(RATE_BITS)
    state = DirectionState(tokens_bytes=limit.burst_bytes - 1, refilled_at_ns=START_NS)
    arithmetic.refill(state, limit, START_NS + NSEC_PER_SEC)
    assert state.tokens_bytes == limit.burst_bytes


def test_a_lower_burst_takes_credit_back(arithmetic: Arithmetic) -> None:
    """Credit saved under a larger burst is cut to the new one at the next packet."""
    limit = limit_of(RATE_BITS)
    state = DirectionState(tokens_bytes=10 * limit.burst_bytes, refilled_at_ns=START_NS)
    arithmetic.refill(state, limit, START_NS + NSEC_PER_MSEC)
    assert state.tokens_bytes == limit.burst_bytes


def test_the_first_packet_finds_an_empty_bucket(arithmetic: Arithmetic) -> None:
    """A state never refilled gets no credit for the time since boot."""
    state = DirectionState()
    arithmetic.refill(state, limit_of(RATE_BITS), START_NS)
    assert (state.tokens_bytes, state.refilled_at_ns) == (0, START_NS)


@pytest.mark.parametrize("step_ns", [0, 1, NSEC_PER_SEC])
def test_a_clock_that_steps_back_changes_nothing(arithmetic: Arithmetic, step_ns: int) -> None:
    """Another CPU's clock may be behind: no credit, and the time of the last refill stays."""
    state = DirectionState(tokens_bytes=-5, refilled_at_ns=START_NS)
    arithmetic.refill(state, limit_of(RATE_BITS), START_NS - step_ns)
    assert (state.tokens_bytes, state.refilled_at_ns) == (-5, START_NS)


def test_a_long_pause_repays_at_most_the_longest_refill(arithmetic: Arithmetic) -> None:
    """An hour of idleness repays no more debt than MAX_REFILL_NS does."""
    limit = limit_of(RATE_BITS)
    most = limit.rate_bytes_per_sec * arithmetic.max_refill_ns // NSEC_PER_SEC
    state = DirectionState(
        tokens_bytes=-3 * most,
        refilled_at_ns=START_NS,
        epoch_rate_bytes_per_sec=limit.rate_bytes_per_sec,
    )
    arithmetic.refill(state, limit, START_NS + 3600 * NSEC_PER_SEC)
    assert state.tokens_bytes == within_a_byte(-2 * most)


@pytest.mark.parametrize("gbit", [1, 10, 40, 100, 1000, 1_000_000])
def test_a_second_at_a_fast_rate_does_not_overflow(arithmetic: Arithmetic, gbit: int) -> None:
    """Up to the largest limit there is, 1 Pbit/s, the longest refill is credited."""
    limit = limit_of(gbit * 1000 * MBIT)
    debt = 2 * limit.rate_bytes_per_sec
    state = DirectionState(
        tokens_bytes=-debt,
        refilled_at_ns=START_NS,
        epoch_rate_bytes_per_sec=limit.rate_bytes_per_sec,
    )
    arithmetic.refill(state, limit, START_NS + arithmetic.max_refill_ns)
    assert state.tokens_bytes + debt == pytest.approx(limit.rate_bytes_per_sec, rel=1e-9)


@settings(deadline=None)
@given(
    bits=limits_bits,
    burst_bits=st.integers(8, 10**15),
    tokens=st.integers(-MOST_TOKENS, MOST_TOKENS),
    refilled_at_ns=st.integers(0, 2**62),
    now_ns=st.integers(1, 2**62),
)
def test_no_state_yields_more_than_burst_and_rate_allow(
    *,
    arithmetic: Arithmetic,
    bits: int,
    burst_bits: int,
    tokens: int,
    refilled_at_ns: int,
    now_ns: int,
) -> None:
    """A refill never passes the burst, never takes from credit below it, never beats the rate."""
    limit = limit_of(bits, burst_bits)
    state = DirectionState(
        tokens_bytes=tokens,
        refilled_at_ns=refilled_at_ns,
        epoch_rate_bytes_per_sec=limit.rate_bytes_per_sec,
    )
    rate, burst = limit.rate_bytes_per_sec, limit.burst_bytes
    arithmetic.refill(state, limit, now_ns)
    assert refilled_at_ns <= state.refilled_at_ns <= max(refilled_at_ns, now_ns)
    if now_ns <= refilled_at_ns:
        assert state.tokens_bytes == tokens
        return
    idle_ns = now_ns - refilled_at_ns if refilled_at_ns else 0
    assert min(tokens, burst) <= state.tokens_bytes <= max(tokens, burst)
    assert state.tokens_bytes <= tokens + rate * idle_ns // NSEC_PER_SEC


@settings(deadline=None)
@given(bits=limits_bits, steps_ns=st.lists(st.integers(0, NSEC_PER_SEC), max_size=50))
def test_many_refills_give_no_more_than_one(
    arithmetic: Arithmetic, bits: int, steps_ns: list[int]
) -> None:
    """However packets cut time up, what they are credited together is at most rate x time."""
    limit = limit_of(bits)
    limit.burst_bytes = 2**62
    state = DirectionState(refilled_at_ns=START_NS)
    now_ns = START_NS
    for step_ns in steps_ns:
        now_ns += step_ns
        arithmetic.refill(state, limit, now_ns)
    exact = limit.rate_bytes_per_sec * (now_ns - START_NS) // NSEC_PER_SEC
    assert exact * (1 - 1e-9) - len(steps_ns) - 1514 <= state.tokens_bytes <= exact


@pytest.mark.parametrize(("bits", "packets_per_sec"), [(10_000, 2000), (MBIT, 200_000)])
def test_a_flood_does_not_keep_the_bucket_empty(
    arithmetic: Arithmetic, bits: int, packets_per_sec: int
) -> None:
    """Packets closer together than a byte of credit still find a second's credit after a second."""
    limit = limit_of(bits, bits)
    state = DirectionState(refilled_at_ns=START_NS)
    for number in range(1, packets_per_sec + 1):
        now_ns = START_NS + number * NSEC_PER_SEC // packets_per_sec
        arithmetic.refill(state, limit, now_ns)
    assert state.tokens_bytes == pytest.approx(limit.burst_bytes, rel=0.02, abs=256)


@pytest.mark.parametrize(("before", "now"), [(1000, 1), (1000, 10), (100, 99), (1, 1000)])
def test_another_limit_starts_from_its_own_debt(
    arithmetic: Arithmetic, before: int, now: int
) -> None:
    """After 1G, 1M does not drop for the minutes that it would take to repay 1G's debt."""
    earlier, limit = limit_of(before * MBIT), limit_of(now * MBIT)
    state = DirectionState(
        tokens_bytes=-earlier.debt_bytes,
        refilled_at_ns=START_NS,
        epoch_rate_bytes_per_sec=earlier.rate_bytes_per_sec,
    )
    arithmetic.refill(state, limit, START_NS)
    assert state.tokens_bytes == max(-limit.debt_bytes, -earlier.debt_bytes)


def test_the_same_limit_keeps_its_debt(arithmetic: Arithmetic) -> None:
    """What small packets have overdrawn is repaid."""
    limit = limit_of(RATE_BITS)
    state = DirectionState(
        tokens_bytes=-2 * limit.debt_bytes,
        refilled_at_ns=START_NS,
        epoch_rate_bytes_per_sec=limit.rate_bytes_per_sec,
    )
    arithmetic.refill(state, limit, START_NS)
    assert state.tokens_bytes == -2 * limit.debt_bytes
