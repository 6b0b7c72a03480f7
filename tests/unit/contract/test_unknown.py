"""Unknown keys: a near miss of a known one is a mistake, anything else may be a newer version's."""

import pytest

from contract.policy import NO_POLICY, POLICY_KEYS, parse_policy, unread_keys
from contract.unknown import MAX_UNKNOWN, Vocabulary

KEYS = ("x.io/ingress-bandwidth", "x.io/egress-bandwidth", "x.io/egress-burst", "x.io/mode")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("x.io/egres-bandwidth", "x.io/egress-bandwidth"),
        ("x.io/egress-bandwith", "x.io/egress-bandwidth"),
        ("x.io/egress-badnwith", "x.io/egress-bandwidth"),
        ("x.io/egressBandwidth", "x.io/egress-bandwidth"),
        ("x.io/EGRESS_BANDWIDTH", "x.io/egress-bandwidth"),
        ("x.io/engress-bandwidth", "x.io/egress-bandwidth"),
        ("x.io/egress-brust", "x.io/egress-burst"),
        ("x.io/modes", "x.io/mode"),
        ("x.io/node", "x.io/mode"),
        ("x.io/egress-request", None),
        ("x.io/egress-capacity", None),
        ("x.io/colour", None),
        ("x.io/", None),
        ("x.io/mo", None),
        ("x.io/egress-bandwidth" + "h" * 60, None),
    ],
)
def test_a_key_is_misspelt_when_it_is_nearly_a_known_one(key, meant):
    """One letter in a short key, two in a long one; signs between words and case do not count."""
    assert Vocabulary(KEYS, "x.io/").nearest(key) == meant


def test_only_the_first_few_keys_are_looked_at():
    """And that there are more is told, once."""
    taken = iter(f"key-{n}" for n in range(10**9))

    found = Vocabulary(KEYS).sort(taken)

    assert len(found.others) == MAX_UNKNOWN
    assert found.too_many
    assert next(taken) == f"key-{MAX_UNKNOWN + 1}"


@pytest.mark.parametrize("key", ["egress.quota", "egress.quota.period", "calendar", "x"])
def test_a_newer_versions_policy_key_is_no_problem_and_is_told(key):
    """Helm writes the policy before it replaces the webhook that reads it."""
    policy, problems = parse_policy({key: "1G"})

    assert (policy, problems) == (NO_POLICY, ())
    assert unread_keys({key: "1G", "egress.max": "1G"}) == (
        f"{key} is a key that this version of podpace does not know; it has no effect",
    )


def test_a_policy_of_very_many_keys_is_one_problem_more():
    """Not one for each of them, and none of the known ones is lost."""
    data = {f"k{n:06d}": "x" * 1000 for n in range(150_000)} | {"egress.max": "1M"}

    policy, problems = parse_policy(data)

    assert [p.reason for p in problems] == ["are more than 16 keys that policies do not have"]
    assert policy.egress.max == 1_000_000
    assert len(unread_keys(data)) == MAX_UNKNOWN


def test_what_a_problem_keeps_of_a_policy_is_short():
    """Bad policies are kept as long as they are bad."""
    long = "9" * 10**6
    data = dict.fromkeys(POLICY_KEYS, long) | {"exempt-cidrs": ",".join([long] * 2000)}

    _, problems = parse_policy(data)

    assert len(problems) < 100
    assert max(len(str(p)) for p in problems) < 500
