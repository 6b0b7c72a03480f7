"""enforcer.sharing.allocate: what any division of something short must keep to."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.sharing.allocate import Member, allocate

RATES = st.integers(0, 10**10)


@st.composite
def members(draw: st.DrawFn) -> Member:
    """Any member; requests are at most limits, as the contract says."""
    limit = draw(RATES)
    return Member(draw(RATES), limit, draw(st.integers(0, limit)))


CROWDS = st.lists(members(), min_size=1, max_size=40)
TOTALS = st.integers(0, 10**11)


@settings(deadline=None)
@given(TOTALS, CROWDS)
def test_the_sum_is_at_most_the_total_and_nobody_gets_more_than_is_of_use(total, crowd) -> None:
    """Whatever is wanted."""
    parts = allocate(total, crowd)
    assert sum(parts) <= total
    assert all(0 <= part <= one.wants for part, one in zip(parts, crowd, strict=True))


@settings(deadline=None)
@given(TOTALS, CROWDS)
def test_requests_that_fit_are_met_and_others_scaled_in_proportion(total, crowd) -> None:
    """min(wants, request) for each, or the same part of it for all."""
    met = [min(one.wants, one.request) for one in crowd]
    parts = allocate(total, crowd)
    if sum(met) <= total:
        assert all(part >= least for part, least in zip(parts, met, strict=True))
    else:
        assert parts == [least * total // sum(met) for least in met]


@settings(deadline=None)
@given(TOTALS, CROWDS)
def test_nothing_is_left_while_somebody_wants(total, crowd) -> None:
    """But for less than a byte a second for each, which no packet is."""
    wanted = sum(one.wants for one in crowd)
    assert sum(allocate(total, crowd)) > min(total, wanted) - len(crowd) - 1


@settings(deadline=None)
@given(TOTALS, st.integers(0, 10**9), CROWDS)
def test_more_to_divide_is_less_for_nobody(total, more, crowd) -> None:
    """But for a byte of rounding; weights do not change meanwhile."""
    crowd = [replace(one, weight=one.request or 1000) for one in crowd]
    before, after = allocate(total, crowd), allocate(total + more, crowd)
    assert all(now >= was - 1 for was, now in zip(before, after, strict=True))


@settings(deadline=None)
@given(TOTALS, CROWDS, RATES, st.data())
def test_one_who_wants_more_takes_from_the_others_what_he_gets_and_no_more(
    total, crowd, demand, data
) -> None:
    """Nobody else's part grows by it, and together they lose what he gains."""
    which = data.draw(st.integers(0, len(crowd) - 1))
    crowd[which] = replace(crowd[which], demand=min(crowd[which].demand, demand))
    before = allocate(total, crowd)
    crowd[which] = replace(crowd[which], demand=demand)
    after = allocate(total, crowd)
    moved = [now - was for was, now in zip(before, after, strict=True)]
    gain, slack = moved.pop(which), len(crowd) + 1
    assert gain >= -1
    assert all(change <= 1 for change in moved)
    assert -slack <= -sum(moved) <= gain + slack


@settings(deadline=None)
@given(TOTALS, st.integers(1, 40), RATES)
def test_equals_get_the_same(total, number, limit) -> None:
    """To a byte."""
    parts = allocate(total, [Member(limit, limit)] * number)
    assert max(parts) - min(parts) <= 1


def test_what_is_left_is_divided_by_requests_and_a_little_goes_to_those_without() -> None:
    """1,000 among requests of 100 and 200, and one that has none: it weighs as one of 10."""
    crowd = [Member(10**6, 10**6, 100), Member(10**6, 10**6, 200), Member(10**6, 10**6)]
    assert allocate(1000, crowd) == [326, 651, 23]
