"""A request that may not be kept says so, and why."""

import pytest

from contract.api import TargetRequest
from contract.limits import Limits, Sharing
from contract.names import DIRECTIONS, Direction, Mode
from enforcer.sharing.fit import requested, why_unkept
from enforcer.state import NOT_LOOKED, Capacity, CapacitySource, Target
from tests.unit.enforcer.fake_link import FakeLink

GIGABIT = 10**9
EGRESS = Direction.EGRESS
KNOWN = Capacity(GIGABIT // 8, CapacitySource.OPTION)
NO_SPEED = Capacity(None, CapacitySource.UNKNOWN, "eth0: no speed")


def target(number, request, *, total=None, group="", mode=Mode.ENFORCE):
    """Egress only."""
    sharing = Sharing(request, total)
    limits = Limits(mode=mode, egress_sharing=sharing, group=group)
    return Target(f"cgroup:/{number}", f"/{number}", number, limits)


HALF, MORE = target(1, GIGABIT // 2), target(2, GIGABIT * 6 // 10)


@pytest.mark.parametrize(
    ("about", "capacity", "others", "words"),
    [
        ("fits", KNOWN, [], ""),
        ("fits exactly", KNOWN, [target(2, GIGABIT // 2)], ""),
        ("others have too much", KNOWN, [MORE], "requests here exceed the 1 Gbit/s"),
        ("others are observed", KNOWN, [target(2, GIGABIT, mode=Mode.OBSERVE)], ""),
        (
            "not known",
            Capacity(None, CapacitySource.UNKNOWN, "eth0: no speed"),
            [],
            "eth0: no speed",
        ),
        ("not known yet", Capacity(None, CapacitySource.UNKNOWN, NOT_LOOKED), [], ""),
        ("above", Capacity(GIGABIT // 32, CapacitySource.OPTION), [], "above the 250 Mbit/s"),
    ],
)
def test_a_request_is_held_against_what_the_node_has(about, capacity, others, words):
    """And against those of the others there."""
    said = why_unkept(HALF, EGRESS, capacity, requested([HALF, *others]))

    assert words in said if words else not said


def test_requests_are_held_against_their_groups_total():
    """Of the group alone."""
    ours = [target(n, 60 * 10**6, total=10**8, group="namespace:a") for n in (1, 2)]
    other = target(3, 60 * 10**6, total=10**8, group="namespace:b")
    sums = requested([*ours, other])

    assert "requests of its group exceed the 100 Mbit/s" in why_unkept(ours[0], EGRESS, KNOWN, sums)
    assert not why_unkept(other, EGRESS, KNOWN, sums)
    assert "kept within the total only" in why_unkept(other, EGRESS, NO_SPEED, sums)


def test_without_a_request_nothing_is_said():
    """Whatever is known of the link."""
    free, unknown = target(1, 0), Capacity(None, CapacitySource.UNKNOWN)

    assert [why_unkept(free, way, unknown, requested([MORE])) for way in DIRECTIONS] == ["", ""]


def test_who_attaches_and_who_was_there_are_told_that_requests_do_not_fit(bench):
    """At once, and within a resync; and that they do again."""
    bench.link = FakeLink()
    bench.restart()
    (bench.tree / "kubepods/pod2").mkdir()
    small = TargetRequest(egress="1G", egress_request="600M")

    _, alone = bench.requests.set_target("/kubepods/pod1", small)
    _, second = bench.requests.set_target("/kubepods/pod2", small)
    bench.resync()
    _, first = bench.requests.show_target("/kubepods/pod1")

    assert alone.egress.why == ""
    assert "requests here exceed the 1 Gbit/s that the node has" in second.egress.why
    assert first.egress.why == second.egress.why
    bench.requests.remove_target("/kubepods/pod2")
    bench.resync()
    assert bench.requests.show_target("/kubepods/pod1")[1].egress.why == ""


def test_who_attaches_where_nothing_is_known_is_told_what_to_do(bench):
    """Nothing is guaranteed then, and the answer says so."""
    bench.link = FakeLink()
    bench.link.capacity = None
    bench.restart()

    _, counters = bench.requests.set_target("/kubepods/pod1", TargetRequest(egress_request="1M"))

    assert "nothing is guaranteed" in counters.egress.why
    assert "--egress-capacity" in counters.egress.why
