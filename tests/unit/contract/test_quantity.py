"""contract.quantity against Go's parser (by its vectors), and its messages."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.problems import Problem
from contract.quantity import (
    MAX_BITS_PER_SECOND,
    MIN_BITS_PER_SECOND,
    MIN_BURST_BITS,
    canonical_text,
    format_bits_per_second,
    parse_bits_per_second,
    parse_burst_bits,
    parse_value,
)
from tests.vectors.spelt import SPELT

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors/quantities.json").read_text(encoding="utf-8")
)
EXACT = [v for v in VECTORS if not v.get("noise")]
NOISE = [v for v in VECTORS if v.get("noise")]


def _short(vector: dict[str, object]) -> str:
    return ascii(vector["text"])[:40]


@pytest.mark.parametrize("vector", EXACT, ids=_short)
def test_value_is_what_go_gives(vector):
    """Same text, same value, same refusals as resource.ParseQuantity(text).Value()."""
    assert parse_value(vector["text"]) == vector["value"]


@pytest.mark.parametrize("vector", NOISE, ids=_short)
def test_where_go_overflows_nothing_becomes_a_limit(vector):
    """Go takes the text, its value is noise (2^64+10^7 is 10M there); here it is refused."""
    assert parse_value(vector["text"]) is not None
    assert isinstance(parse_bits_per_second("ingress", vector["text"]), Problem)


def test_vectors_hold_enough_of_both_kinds():
    """At least 150, taken and refused ones."""
    assert len(VECTORS) >= 150
    assert sum(v["value"] is None for v in VECTORS) >= 50


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10Mbps", "has a unit in it"),
        ("-1", "is negative"),
        ("0", "is below the smallest limit, 1k"),
        ("5K", "ends in K, which is not a unit"),
        ("1_000k", "has a separator between its digits"),
        (" 5M", "has a space around it"),
        ("", "is empty"),
        ("999", "is below the smallest limit"),
        ("1001T", "is above the largest limit, 1P"),
        ("fast", "is not a quantity"),
    ],
)
def test_a_mistake_is_a_problem_that_says_why_and_what_instead(text, reason):
    """Key and text unchanged, the reason, and a fix."""
    problem = parse_bits_per_second("egress", text)

    assert isinstance(problem, Problem)
    assert (problem.key, problem.text) == ("egress", text)
    assert problem.reason.startswith(reason)
    assert problem.fix.startswith("write ")


def test_bounds_are_inclusive():
    """1k and 1P are limits; one bit beside them is not."""
    assert parse_bits_per_second("k", "1k") == MIN_BITS_PER_SECOND
    assert parse_bits_per_second("k", "1P") == MAX_BITS_PER_SECOND
    assert isinstance(parse_bits_per_second("k", str(MIN_BITS_PER_SECOND - 1)), Problem)
    assert isinstance(parse_bits_per_second("k", str(MAX_BITS_PER_SECOND + 1)), Problem)


def test_burst_holds_a_frame():
    """A burst below one full frame would stop everything."""
    assert parse_burst_bits("b", str(MIN_BURST_BITS)) == MIN_BURST_BITS
    assert isinstance(parse_burst_bits("b", str(MIN_BURST_BITS - 1)), Problem)
    assert isinstance(parse_burst_bits("b", "2P"), Problem)
    assert isinstance(parse_burst_bits("b", "1 kB"), Problem)


@given(st.text(alphabet="0123456789.+-eEinumkKMGTP _\u0661", max_size=60))
def test_any_text_gives_an_integer_or_none(text):
    """No text raises, and what is taken is a value."""
    value = parse_value(text)

    assert value is None or isinstance(value, int)


@given(st.integers(min_value=MIN_BITS_PER_SECOND, max_value=MAX_BITS_PER_SECOND))
def test_plain_integers_are_themselves(number):
    """What the labels carry."""
    assert parse_bits_per_second("k", str(number)) == number


@pytest.mark.parametrize(
    ("bits_per_second", "text"),
    [
        (0, "0 bit/s"),
        (999, "999 bit/s"),
        (1000, "1 kbit/s"),
        (10_000_000, "10 Mbit/s"),
        (2_500_000_000, "2.5 Gbit/s"),
        (10**15, "1000 Tbit/s"),
    ],
)
def test_rates_are_printed_for_people(bits_per_second, text):
    """The largest unit that keeps the number at or above one."""
    assert format_bits_per_second(bits_per_second) == text


@pytest.mark.parametrize(("text", "written"), SPELT.items())
def test_the_api_server_writes_a_quantity_back_in_its_own_kind_of_suffix(text, written):
    """tests/cluster asks the real one of the same list."""
    assert canonical_text(text) == written
