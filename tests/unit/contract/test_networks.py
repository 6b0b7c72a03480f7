"""Exempt networks: one spelling and one family each, and no more than a list may hold."""

import pytest

from contract.api import TargetRequest
from contract.networks import MAX_NETWORKS, parse_cidr, parse_cidrs
from contract.policy import parse_policy
from contract.problems import Problem
from contract.requests import parse_limits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.0/33", "is not a network"),
        ("example.org", "is not a network"),
        ("", "is not a network"),
        ("10.0.0.1/8", "has bits set behind its /8"),
        ("fe80::1%eth0", "names an interface"),
    ],
)
def test_a_bad_network_is_a_problem(text, reason):
    """With what to write instead."""
    problem = parse_cidr("exempt", text)

    assert isinstance(problem, Problem)
    assert problem.reason == reason


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::/80", "::/80"),
        ("64:ff9b::/96", "64:ff9b::/96"),
    ],
)
def test_a_mapped_network_is_the_ipv4_one(text, network):
    """What holds the mapped range beside others stays IPv6, and says nothing of IPv4."""
    assert parse_cidr("exempt", text) == network


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("::ffff:172.16.0.0/12", "172.16.0.0/12"),
        ("::ffff:172.16.5.0/12", "172.16.0.0/12"),
        ("::ffff:10.0.0.1/95", "10.0.0.1/32"),
        ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
    ],
)
def test_the_advice_for_a_mapped_network_is_an_ipv4_one(text, advice):
    """Never an IPv6 network of almost everything."""
    problem = parse_cidr("exempt", text)

    assert isinstance(problem, Problem)
    assert problem.fix.startswith(f"write {advice},")


def networks(count):
    """So many different ones."""
    return [f"10.{number // 256}.{number % 256}.0/24" for number in range(count)]


def test_a_list_holds_so_many_networks_and_no_more():
    """Counted as they are kept: each once. What is too long exempts nothing, and is told once."""
    assert parse_cidrs("exempt", networks(MAX_NETWORKS) * 2) == (
        tuple(sorted(networks(MAX_NETWORKS))),
        (),
    )

    kept, problems = parse_cidrs("exempt", networks(100))

    assert kept == ()
    assert [(p.key, p.text) for p in problems] == [("exempt", networks(65)[-1])]
    assert "64 networks" in problems[0].reason


def test_requests_and_policies_are_told_when_a_list_is_too_long():
    """A request is refused; of a policy all but the list counts."""
    request = parse_limits(TargetRequest(egress="1M", exempt_cidrs=tuple(networks(65))))
    policy, problems = parse_policy({"exempt-cidrs": ",".join(networks(65)), "egress.max": "1M"})

    assert isinstance(request, tuple)
    assert [p.key for p in request] == ["exempt"]
    assert policy.exempt_cidrs == ()
    assert policy.egress.max == 1_000_000
    assert [p.key for p in problems] == ["exempt-cidrs"]
