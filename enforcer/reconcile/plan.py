"""Pure: what should be, against what is, gives what to do."""

from collections.abc import Iterator

from contract.limits import Limit, Limits
from enforcer.reconcile.actions import (
    Action,
    Attach,
    Detach,
    Forget,
    Replace,
    SetLimits,
    Shape,
    Unshape,
)
from enforcer.reconcile.ways import ingress_way, shaping_of
from enforcer.state import Attachment, Observation, Shaping, Surroundings, Target


def plan(path: str, target: Target | None, observation: Observation) -> tuple[Action, ...]:
    """The actions that make of the cgroup at ``path`` what ``target`` asks for; None: no limit.

    Nothing to do gives an empty tuple.
    """
    return tuple(_plan_one(path, target, observation))


def _plan_one(path: str, target: Target | None, observation: Observation) -> Iterator[Action]:
    attachment = observation.attachment
    if target is None:
        if attachment is not None:
            yield Detach(path)
        if observation.cgroup_id is not None and observation.surroundings.holds_anything:
            yield Unshape(path, observation.cgroup_id, None, "the limit was taken off")
        return
    if observation.cgroup_id != target.cgroup_id:
        yield Forget(target)
        return
    yield from _hold(target, attachment)
    yield from _shape(target, observation)


def _hold(target: Target, attachment: Attachment | None) -> Iterator[Action]:
    """Programs and limits on the cgroup."""
    if attachment is None:
        yield Attach(target)
    elif not attachment.current:
        yield Replace(target)
    elif attachment.limits is None or not _same(attachment.limits, target.limits):
        yield SetLimits(target, attachment.limits)


def _shape(target: Target, observation: Observation) -> Iterator[Action]:
    """Incoming traffic, where it comes in; after the cgroup's limits are in force."""
    way = ingress_way(target, observation)
    around, attachment = observation.surroundings, observation.attachment
    shaping = shaping_of(target.limits)
    if not way.is_shaped or shaping is None:
        if around.holds_anything or (attachment is not None and attachment.shaped):
            yield Unshape(
                target.cgroup_path, target.cgroup_id, target, way.why or "no ingress limit"
            )
        return
    if not _is_told(attachment, target) or around.leftovers or _differ(around, shaping):
        yield Shape(target, shaping, around.links)


def _is_told(attachment: Attachment | None, target: Target) -> bool:
    """Whether the programs on the cgroup hold these limits, as those of a shaped target."""
    if attachment is None or not attachment.current or not attachment.shaped:
        return False
    return attachment.limits is not None and _same(attachment.limits, target.limits)


def _differ(around: Surroundings, shaping: Shaping) -> bool:
    return any(link.shaping != shaping for link in around.links)


def _same(a: Limits, b: Limits) -> bool:
    """Compared in bytes, the kernel's unit: it cannot give back a rate of 1001 bits."""
    return (
        _in_bytes(a.ingress) == _in_bytes(b.ingress)
        and _in_bytes(a.egress) == _in_bytes(b.egress)
        and a.mode == b.mode
        and set(a.exempt_cidrs) == set(b.exempt_cidrs)
    )


def _in_bytes(limit: Limit | None) -> tuple[int, int] | None:
    return None if limit is None else (limit.rate_bytes_per_sec, limit.burst_bytes)
