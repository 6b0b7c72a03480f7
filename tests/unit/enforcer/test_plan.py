"""enforcer.reconcile.plan: what should be, against what is."""

from dataclasses import replace

from contract.limits import Limit, Limits
from contract.names import Mode
from enforcer.reconcile.plan import Detach, Forget, Write, plan
from enforcer.state import Attachment, Observation, Target, Way

LIMITS = Limits(ingress=Limit(10_000_000, 80_000), exempt_cidrs=("10.0.0.0/8", "fd00::/8"))
TARGET = Target("cgroup:/a", "/cg/a", 7, LIMITS)
WAY = Way(why="it has no interface yet")
ATTACHED = Attachment("/cg/a", 7, current=True, limits=LIMITS)


def _plan(attachment, target=TARGET, cgroup_id=7):
    return plan("/cg/a", target, Observation(cgroup_id, attachment))


def test_nothing_is_done_when_everything_is_right():
    """The usual resync."""
    assert _plan(ATTACHED) == ()


def test_a_bare_cgroup_is_attached():
    """Also when somebody took our programs off."""
    assert _plan(None) == (Write(TARGET, WAY, "attached"),)


def test_older_programs_are_replaced():
    """An upgrade, or half of ours missing."""
    assert _plan(replace(ATTACHED, current=False)) == (Write(TARGET, WAY, "replaced"),)


def test_other_limits_are_set():
    """A live change, with what was there before for the log."""
    other = replace(LIMITS, egress=Limit(8_000, 8_000))

    assert _plan(replace(ATTACHED, limits=other)) == (Write(TARGET, WAY, "changed", other),)
    assert _plan(replace(ATTACHED, limits=None)) == (Write(TARGET, WAY, "changed", None),)


def test_mode_and_exempt_networks_are_limits_too():
    """Each makes a change of its own."""
    observing = replace(LIMITS, mode=Mode.OBSERVE)
    fewer = replace(LIMITS, exempt_cidrs=("10.0.0.0/8",))

    assert _plan(replace(ATTACHED, limits=observing)) == (Write(TARGET, WAY, "changed", observing),)
    assert _plan(replace(ATTACHED, limits=fewer)) == (Write(TARGET, WAY, "changed", fewer),)


def test_what_the_kernel_cannot_tell_apart_is_no_change():
    """Bits below a byte, and the order of networks, would be set again for ever."""
    odd = replace(TARGET, limits=replace(LIMITS, ingress=Limit(10_000_007, 80_001)))
    turned = replace(ATTACHED, limits=replace(LIMITS, exempt_cidrs=("fd00::/8", "10.0.0.0/8")))

    assert _plan(turned, odd) == ()


def test_a_removed_cgroup_is_forgotten():
    """Gone, or another one of the same name: its programs went with it."""
    assert _plan(None, cgroup_id=None) == (Forget(TARGET),)
    assert _plan(None, cgroup_id=8) == (Forget(TARGET),)


def test_what_nobody_wants_is_detached():
    """And a bare cgroup that nobody wants is left alone."""
    assert _plan(ATTACHED, target=None) == (Detach("/cg/a"),)
    assert _plan(None, target=None) == ()
