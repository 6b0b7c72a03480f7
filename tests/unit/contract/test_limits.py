"""contract.limits and contract.requests."""

import pytest

from contract.api import TargetRequest
from contract.limits import Limit, Limits, Sharing, default_burst_bits, make_limit
from contract.names import Direction, Mode
from contract.requests import parse_limits

KIB64_BITS = 65536 * 8


@pytest.mark.parametrize(
    ("bits_per_second", "burst_bits"),
    [
        (1_000, 1_000),  # never more than a second
        (1_000_000, 1_000_000),
        (10_000_000, 2 * KIB64_BITS),  # two segments of 64 KiB
        (104_857_600, 2 * KIB64_BITS),  # where both rules meet
        (1_000_000_000, 10_000_000),  # 10 ms
    ],
)
def test_default_burst(bits_per_second, burst_bits):
    """max(10 ms of the rate, 2 x 64 KiB), at most 1 s of the rate."""
    assert default_burst_bits(bits_per_second) == burst_bits


def test_a_given_burst_is_capped_at_one_second():
    """Runtimes ask for gigabytes; that would be no limit."""
    assert make_limit(10_000_000, 10**12) == Limit(10_000_000, 10_000_000)
    assert make_limit(10_000_000, 80_000) == Limit(10_000_000, 80_000)


def test_bytes_are_rounded_down():
    """The limit holds: 15 bits a second are 1 byte."""
    limit = Limit(15, 23)

    assert (limit.rate_bytes_per_sec, limit.burst_bytes) == (1, 2)


def test_limits_by_direction():
    """Each direction has its own; None is not limited."""
    limits = Limits(ingress=Limit(8, 8))

    assert limits.of(Direction.INGRESS) == Limit(8, 8)
    assert limits.of(Direction.EGRESS) is None


def test_a_request_becomes_limits():
    """Quantities are read, bursts filled in, networks sorted and spelled canonically."""
    request = TargetRequest(
        ingress="10M",
        egress="5M",
        egress_burst="80k",
        mode=Mode.OBSERVE,
        exempt_cidrs=("fd00:0::/8", "10.0.0.0/8", "10.0.0.0/8", "192.0.2.1"),
    )

    assert parse_limits(request) == Limits(
        make_limit(10_000_000),
        Limit(5_000_000, 80_000),
        Mode.OBSERVE,
        ("10.0.0.0/8", "192.0.2.1/32", "fd00::/8"),
    )


def test_a_request_tells_every_mistake_at_once():
    """One round is enough to put all of them right."""
    request = TargetRequest(
        ingress="5K", ingress_burst="1", egress_burst="1M", exempt_cidrs=("10.0.0.1/8",)
    )

    problems = parse_limits(request, key_prefix="--")

    assert isinstance(problems, tuple)
    assert [(p.key, p.text) for p in problems] == [
        ("--ingress", "5K"),
        ("--ingress-burst", "1"),
        ("--egress-burst", "1M"),
        ("--exempt", "10.0.0.1/8"),
    ]


def test_no_limits_are_limits_too():
    """A target can be attached only to be counted."""
    assert parse_limits(TargetRequest()) == Limits()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            TargetRequest(egress="100M", egress_request="20M"),
            Limits(egress=make_limit(100_000_000), egress_sharing=Sharing(20_000_000)),
        ),
        (TargetRequest(ingress_request="20M"), Limits(ingress_sharing=Sharing(20_000_000))),
        (
            TargetRequest(group="batch", egress_total="100M"),
            Limits(egress_sharing=Sharing(0, 100_000_000), group="group:batch"),
        ),
        (TargetRequest(egress="10M", egress_request="20M"), "egress-request"),
        (TargetRequest(egress_request="20K"), "egress-request"),
        (TargetRequest(egress_total="20M"), "egress-total"),
        (TargetRequest(egress="10M", group="batch"), "group"),
        (TargetRequest(egress_total="20M", group="-"), "group"),
    ],
)
def test_what_is_shared_is_read(request_, expected):
    """A request is at most the limit; a total is a group's, and a group has a total."""
    found = parse_limits(request_)

    if isinstance(expected, str):
        assert [problem.key for problem in found] == [expected]
    else:
        assert found == expected
        assert found.limits_anything
