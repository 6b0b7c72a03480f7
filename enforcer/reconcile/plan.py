"""Pure: what should be, against what is, gives what to do; as data, executed in execute.py."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from contract.limits import Limit, Limits
from contract.names import Direction
from enforcer.reconcile.ways import shaping_of, way_of
from enforcer.state import (
    Attachment,
    Link,
    Observation,
    Shaping,
    Surroundings,
    Target,
    Way,
    bound,
)


@dataclass(frozen=True, slots=True)
class Write:
    """Today's programs and these limits are to be on the cgroup, without a gap."""

    target: Target
    way: Way
    what: str
    """``attached`` where nothing of ours was, ``replaced`` where older or incomplete programs were,
    ``changed`` where other limits were."""
    before: Limits | None = None
    """Those."""


@dataclass(frozen=True, slots=True)
class Detach:
    """Programs of ours are there and should not be."""

    cgroup_path: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The cgroup is gone, and the kernel has dropped its programs with it."""

    target: Target


@dataclass(frozen=True, slots=True)
class Shape:
    """Incoming traffic can be held at these interfaces, and is not, or not so."""

    target: Target
    shaping: Shaping
    links: tuple[Link, ...]
    way: Way
    before: Limits | None = None
    """Other limits that were in force so far."""


@dataclass(frozen=True, slots=True)
class Unshape:
    """Something of ours is on interfaces and should not be."""

    cgroup_path: str
    cgroup_id: int
    target: Target | None
    """Who goes on, policed; None when it is not limited any more."""
    why: str
    way: Way


Action = Write | Detach | Forget | Shape | Unshape


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
            yield Unshape(path, observation.cgroup_id, None, "the limit was taken off", Way())
        return
    if observation.cgroup_id != target.cgroup_id:
        yield Forget(target)
        return
    yield from _hold(target, observation)


def _hold(target: Target, observation: Observation) -> Iterator[Action]:
    """Programs and limits on the cgroup, and incoming traffic where it comes in.

    The record is written once, with the way: where a queue holds what comes in, after that queue.
    """
    way, around = way_of(target, observation), observation.surroundings
    attachment, shaping = observation.attachment, shaping_of(target.limits, way, around)
    bound = replace(way, is_shaped=False)
    if attachment is None:
        yield Write(target, bound, "attached")
    elif not attachment.current:
        yield Write(target, way if around.holds_anything else bound, "replaced")
    if shaping is not None:
        if not _is_told(attachment, target, way) or around.leftovers or _differ(around, shaping):
            before = attachment.limits if attachment is not None and attachment.current else None
            other = before is not None and not is_same(before, target.limits)
            yield Shape(target, shaping, around.links, way, before if other else None)
        return
    if around.holds_anything or (attachment is not None and attachment.shaped):
        why = way.why or "no ingress limit"
        yield Unshape(target.cgroup_path, target.cgroup_id, target, why, way)
    elif attachment is not None and attachment.current and _is_other(attachment, target, way):
        yield Write(target, way, "changed", attachment.limits)


def _is_other(attachment: Attachment, target: Target, way: Way) -> bool:
    """Whether the record of a target that nothing shapes is another one than it should be."""
    if attachment.limits is None:  # nothing is limited
        return any(bound(target.limits, direction) for direction in Direction)
    return attachment.mtu_bytes != way.mtu_bytes or not is_same(attachment.limits, target.limits)


def _is_told(attachment: Attachment | None, target: Target, way: Way) -> bool:
    """Whether the programs on the cgroup hold these limits, in the way that it is."""
    if attachment is None or not attachment.current or attachment.shaped != way.is_shaped:
        return False
    if attachment.limits is None or attachment.mtu_bytes != way.mtu_bytes:
        return False
    return is_same(attachment.limits, target.limits)


def _differ(around: Surroundings, shaping: Shaping) -> bool:
    return any(link.shaping != shaping for link in around.links)


def is_same(a: Limits, b: Limits) -> bool:
    """Compared in bytes, the kernel's unit: it cannot give back a rate of 1001 bits."""
    return (
        all(_in_bytes(bound(a, way)) == _in_bytes(bound(b, way)) for way in Direction)
        and a.mode == b.mode
        and set(a.exempt_cidrs) == set(b.exempt_cidrs)
    )


def _in_bytes(limit: Limit | None) -> tuple[int, int] | None:
    return None if limit is None else (limit.rate_bytes_per_sec, limit.burst_bytes)
