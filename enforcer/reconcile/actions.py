"""What the daemon may do to the kernel and to its own memory; data, executed in execute.py."""

from dataclasses import dataclass

from contract.limits import Limits
from enforcer.state import Link, Shaping, Target, Way


@dataclass(frozen=True, slots=True)
class Attach:
    """Nothing of ours is on the cgroup: attach and set the limits."""

    target: Target
    way: Way


@dataclass(frozen=True, slots=True)
class Replace:
    """Older or incomplete programs of ours are there: attach today's in their place, gapless."""

    target: Target
    way: Way


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Today's programs are there, with other limits."""

    target: Target
    before: Limits | None
    way: Way


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


Action = Attach | Replace | SetLimits | Detach | Forget | Shape | Unshape
