"""Pure: what should be, against what is, gives what to do."""

from collections.abc import Iterator, Mapping

from contract.limits import Limit, Limits
from enforcer.actions import Action, Attach, Detach, Forget, Replace, SetLimits
from enforcer.state import Observation, Target


def plan(desired: Mapping[str, Target], observed: Mapping[str, Observation]) -> tuple[Action, ...]:
    """The actions that lead from ``observed`` to ``desired``; both keyed by cgroup path.

    A cgroup that was not observed is left alone. Nothing to do gives an empty tuple.
    """
    return tuple(
        action
        for path in sorted(observed)
        for action in _plan_one(path, desired.get(path), observed[path])
    )


def _plan_one(path: str, target: Target | None, observation: Observation) -> Iterator[Action]:
    attachment = observation.attachment
    if target is None:
        if attachment is not None:
            yield Detach(path)
    elif observation.cgroup_id != target.cgroup_id:
        yield Forget(target)
    elif attachment is None:
        yield Attach(target)
    elif not attachment.current:
        yield Replace(target)
    elif attachment.limits is None or not _same(attachment.limits, target.limits):
        yield SetLimits(target, attachment.limits)


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
