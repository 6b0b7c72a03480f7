"""enforcer.reconcile.ways, and plan with interfaces: shaped or policed, and why."""

from dataclasses import replace

import pytest

from contract.limits import Limit, Limits, make_limit
from contract.names import Mode
from enforcer.reconcile.plan import Detach, Shape, Unshape, Write, plan
from enforcer.reconcile.ways import (
    Bypass,
    ingress_way,
    shaped_burst_ns,
    shaping_of,
    way_of,
    with_way,
)
from enforcer.state import (
    Attachment,
    Counters,
    Link,
    Observation,
    ShaperCounters,
    Shaping,
    Surroundings,
    Target,
    TargetCounters,
    Way,
)

MBIT = 10**6
LIMITS = Limits(ingress=make_limit(10 * MBIT))
TARGET = Target("cgroup:/a", "/cg/a", 7, LIMITS)
SHAPED = Shaping(10 * MBIT // 8, 20_000_000)
BARE = Link(4, "veth4")
HELD = replace(BARE, shaping=SHAPED)
ATTACHED = Attachment("/cg/a", 7, current=True, limits=LIMITS)
TOLD = replace(ATTACHED, shaped=True)


def observed(*links: Link, attachment: Attachment | None = ATTACHED, **fields) -> Observation:
    """A cgroup with these interfaces."""
    bypassed = fields.pop("bypassed", False)
    return Observation(7, attachment, Surroundings(links, **fields), bypassed)


def planned(observation: Observation, target: Target | None = TARGET):
    """What is to be done."""
    return plan("/cg/a", target, observation)


def test_a_veth_is_shaped_after_the_limit_is_in_force():
    """The programs hold the limit until the interface does."""
    assert planned(observed(BARE, attachment=None)) == (
        Write(TARGET, Way(), "attached"),
        Shape(TARGET, SHAPED, (BARE,), Way(True)),
    )


def test_what_is_right_is_left_alone():
    """The usual resync."""
    assert planned(observed(HELD, attachment=TOLD)) == ()


def test_programs_that_were_not_told_are_told():
    """A daemon died between the two steps."""
    assert planned(observed(HELD)) == (Shape(TARGET, SHAPED, (HELD,), Way(True)),)


@pytest.mark.parametrize(
    ("bits_per_second", "way"),
    [
        (10**11 - 1, Way(True)),
        (10**11, Way(False, "at 100G and more a queue costs more than it keeps")),
    ],
)
def test_a_limit_that_no_veth_reaches_gets_no_queue(bits_per_second: int, way: Way):
    """The programs on the cgroup hold it."""
    target = replace(TARGET, limits=Limits(ingress=make_limit(bits_per_second)))
    assert ingress_way(target, observed(BARE)) == way


def test_a_limit_raised_out_of_reach_takes_its_queue_away():
    """As a detach does."""
    target = replace(TARGET, limits=Limits(ingress=make_limit(10**12)))
    actions = planned(observed(HELD, attachment=TOLD), target)
    assert [type(action) for action in actions] == [Unshape]


def test_a_new_interface_is_shaped_too():
    """And those that are right stay as they are."""
    links = (HELD, replace(BARE, ifindex=5))
    assert planned(observed(*links, attachment=TOLD)) == (Shape(TARGET, SHAPED, links, Way(True)),)


def test_an_interface_that_is_no_longer_the_targets_is_cleared():
    """Its number may be somebody else's by now."""
    observation = observed(HELD, attachment=TOLD, leftovers=(3,))
    assert planned(observation) == (Shape(TARGET, SHAPED, (HELD,), Way(True)),)


def test_a_live_change_reaches_both_at_once():
    """The record is written once, with the way: never as if nothing held what comes in."""
    before = Limits(ingress=make_limit(5 * MBIT))
    observation = observed(HELD, attachment=replace(TOLD, limits=before))
    assert planned(observation) == (Shape(TARGET, SHAPED, (HELD,), Way(True), before),)


def test_an_upgrade_goes_on_shaped():
    """What holds there goes on holding, so the programs' first record says so."""
    older = replace(ATTACHED, current=False, limits=None)
    held = observed(replace(BARE), attachment=older, leftovers=(4,))
    assert planned(held) == (
        Write(TARGET, Way(True), "replaced"),
        Shape(TARGET, SHAPED, (BARE,), Way(True)),
    )
    bare = observed(BARE, attachment=older)
    assert planned(bare)[0] == Write(TARGET, Way(False), "replaced")


def test_the_programs_are_told_the_largest_packet_of_the_links():
    """And told again when a link's has changed."""
    links = (replace(HELD, mtu_bytes=1280), replace(HELD, ifindex=5, mtu_bytes=9001))
    way = Way(True, mtu_bytes=9001)
    assert planned(observed(*links, attachment=TOLD)) == (Shape(TARGET, SHAPED, links, way),)
    assert planned(observed(*links, attachment=replace(TOLD, mtu_bytes=9001))) == ()

    policed = Target("cgroup:/a", "/cg/a", 7, Limits(egress=make_limit(MBIT)))
    attachment = replace(ATTACHED, limits=policed.limits)
    observation = observed(replace(BARE, mtu_bytes=9001), attachment=attachment)
    (action,) = planned(observation, policed)
    assert isinstance(action, Shape)
    assert (action.way, action.before) == (Way(mtu_bytes=9001), None)


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (observed(obstacle="it uses the host's network"), "it uses the host's network"),
        (observed(HELD, replace(BARE, obstacle="tbf is there")), "tbf is there"),
        (observed(HELD, bypassed=True), "packets reach it that did not pass veth4"),
        (observed(), "it has no interface yet"),
    ],
)
def test_what_cannot_be_shaped_is_policed_and_says_why(observation, why):
    """And nothing of ours stays on an interface."""
    assert ingress_way(TARGET, observation) == Way(False, why)
    for told in (observation, replace(observation, attachment=TOLD)):
        for action in planned(told):
            assert action == Unshape("/cg/a", 7, TARGET, why, Way(False, why))


def test_observe_mode_shapes_nothing():
    """It only looks."""
    watching = replace(TARGET, limits=replace(LIMITS, mode=Mode.OBSERVE))
    attachment = replace(TOLD, limits=watching.limits)
    assert planned(observed(BARE, attachment=replace(attachment, shaped=False)), watching) == ()
    (action,) = planned(observed(HELD, attachment=attachment), watching)
    assert isinstance(action, Unshape)


def test_a_target_without_a_limit_is_taken_off_everywhere():
    """First the programs, which would not pass unlimited traffic otherwise."""
    detach, unshape = planned(observed(HELD, attachment=TOLD), None)
    assert detach == Detach("/cg/a")
    assert isinstance(unshape, Unshape)
    assert unshape.target is None


def test_the_default_burst_of_a_queue_is_short_and_a_chosen_one_is_given():
    """A queue needs none but for late timers."""
    assert shaped_burst_ns(make_limit(10 * MBIT)) == 20_000_000
    assert shaped_burst_ns(make_limit(10 * MBIT, 5 * MBIT)) == 500_000_000
    assert shaping_of(Limits(egress=Limit(8, 8)), Way(False), Surroundings()) is None


BOTH = Limits(make_limit(10 * MBIT), make_limit(100 * MBIT))


def test_what_is_sent_past_the_sockets_is_bounded_above_their_limit():
    """By five percent, with a short burst; what comes in is held beside that, where it can be."""
    around = Surroundings((BARE,))
    shaping = Shaping(1_250_000, 20_000_000, 0, 13_125_001, 20_000_000)
    assert shaping_of(BOTH, Way(True), around) == shaping
    policed = replace(shaping, rate_bytes_per_sec=0, burst_ns=0)
    assert shaping_of(BOTH, Way(False), around) == policed
    slow = shaping_of(Limits(egress=make_limit(MBIT)), Way(False), around)
    assert slow is not None
    assert slow.sent_burst_ns * slow.sent_rate_bytes_per_sec // 10**9 == pytest.approx(65_536, 0.01)


@pytest.mark.parametrize(
    ("limits", "around"),
    [
        (BOTH, Surroundings()),
        (BOTH, Surroundings((BARE,), "it uses the host's network")),
        (BOTH, Surroundings((BARE, replace(BARE, sent_obstacle="another target")))),
        (replace(BOTH, mode=Mode.OBSERVE), Surroundings((BARE,))),
        (Limits(egress=make_limit(10**11)), Surroundings((BARE,))),
        (Limits(), Surroundings((BARE,))),
    ],
)
def test_what_is_sent_is_not_bounded_where_it_cannot_or_need_not_be(limits, around):
    """Only what is known to be the target's own, and only when it is to be held back."""
    assert shaping_of(limits, Way(False), around) is None


def test_an_egress_limit_alone_is_bounded_at_the_interface():
    """And the programs on the cgroup are not told of a queue."""
    target = replace(TARGET, limits=Limits(egress=make_limit(10 * MBIT)))
    told = replace(ATTACHED, limits=target.limits)
    (action,) = planned(observed(BARE, attachment=told), target)
    assert isinstance(action, Shape)
    assert action.shaping.rate_bytes_per_sec == 0
    bound = replace(BARE, shaping=action.shaping)
    assert planned(observed(bound, attachment=told), target) == ()


def test_a_foreign_queue_keeps_nobody_from_bounding_what_is_sent():
    """It stands on the other way."""
    target = replace(TARGET, limits=BOTH)
    link = replace(BARE, obstacle="tbf is there")
    told = replace(ATTACHED, limits=BOTH)
    (action,) = planned(observed(link, attachment=told), target)
    assert isinstance(action, Shape)
    assert (action.shaping.rate_bytes_per_sec, action.shaping.sent_rate_bytes_per_sec) == (
        0,
        13_125_001,
    )


COUNTED = TargetCounters(
    ingress=Counters(1, 2, 3, 4, 5, 6, 7, 8, "policed", "nothing shapes"),
    egress=Counters(1, 2, 3, 4, 5, 6, 7, 8, "paced", ""),
    earlier_sockets="",
)
SHAPER = ShaperCounters(12, 13_000_000, 14, 15, 16, 17, 18)


def test_a_shaped_target_counts_what_was_dropped_at_both_places():
    """And tells the delay of what waits."""
    told = with_way(COUNTED, Way(True), SHAPER).ingress
    assert (told.enforcement, told.why, told.delay_ns) == ("shaped", "", 13_000_000)
    assert (told.passed_bytes, told.dropped_bytes, told.marked_packets) == (3, 5 + 15, 7 + 17)
    assert (told.active_flows, told.limited_ns) == (12, 18)


def test_a_policed_target_says_why_it_is_not_shaped():
    """The programs' own reason gives way to the way's."""
    assert with_way(COUNTED, Way(False, "ipvlan"), None).ingress.why == "ipvlan"
    assert with_way(COUNTED, None, None) == COUNTED


def noted(bypass: Bypass, shaped_bytes: int, received_bytes: int) -> bool:
    """Whether the target is taken for bypassed after this look."""
    shaper = replace(SHAPER, passed_bytes=shaped_bytes)
    ingress = replace(COUNTED.ingress, passed_bytes=received_bytes, dropped_bytes=0)
    counted = replace(COUNTED, ingress=ingress)
    return bypass.noted("/cg/a", observed(HELD), shaper, counted, Way(True)).bypassed


def test_more_received_than_shaped_is_a_bypass_until_interfaces_change():
    """Counted from one look to the next."""
    bypass = Bypass()
    assert not noted(bypass, 0, 50_000_000)
    assert not noted(bypass, 10_000_000, 60_500_000)
    assert noted(bypass, 20_000_000, 80_000_000)
    assert bypass.known("/cg/a", observed(HELD)).bypassed
    assert not bypass.known("/cg/a", observed(replace(HELD, ifindex=9))).bypassed
    bypass.forget("/cg/a")
    assert not bypass.known("/cg/a", observed(HELD)).bypassed


def test_what_passed_while_nothing_was_shaped_is_no_bypass():
    """The count begins anew when shaping does."""
    bypass = Bypass()
    assert not noted(bypass, 0, 0)
    bypass.known("/cg/a", observed(BARE))
    assert not noted(bypass, 0, 90_000_000)


@pytest.mark.parametrize("before", [(10**6, 2 * 10**6), (0, 0)], ids=["some", "nothing"])
def test_more_sent_than_by_its_sockets_is_told(before: tuple[int, int]) -> None:
    """Whatever it had sent before, until its interfaces change; what was dropped is counted."""
    bypass, egress = Bypass(), COUNTED.egress
    for passed, sent, outsent in ((*before, False), (2 * 10**6, 9 * 10**6, True)):
        counted = replace(COUNTED, egress=replace(egress, passed_bytes=passed))
        shaper = replace(SHAPER, sent_bytes=sent)
        observation = bypass.noted("/cg/a", observed(HELD), shaper, counted, Way(False))
        assert observation.outsent == outsent
    way = way_of(TARGET, observation)
    assert way.why_sent == "more leaves than its sockets send, bounded at veth4"
    shaper = replace(SHAPER, sent_dropped_bytes=100, sent_dropped_packets=10)
    told = with_way(COUNTED, way, shaper).egress
    assert (told.why, told.dropped_bytes, told.dropped_packets) == (way.why_sent, 105, 16)
    assert not bypass.known("/cg/a", observed(replace(HELD, ifindex=9))).outsent
