"""Pure: which links lead out of a target, by a snapshot of the network namespaces it is in.

The namespaces are nodes; veth pairs, and what stands on an interface of another namespace, are
edges. Only an edge to the host's namespace, or a wire, brings a target traffic from outside. What
ends in the same namespace, in another of the target's or in one that nobody knows does not count:
a tenant can build any number of those.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from enforcer.net.rtnetlink import NO_ID, Interface

NO_PROCESS: Final = "no process runs in it yet"
HOST_NETWORK: Final = "it uses the host's network"
NOT_ITS_OWN: Final = "its network namespace belongs to another cgroup"
NO_VETH: Final = "no interface of it is a veth of this host"


@dataclass(frozen=True, slots=True)
class Space:
    """A network namespace that has processes of the target: a node."""

    number: int = NO_ID
    """As the daemon's namespace numbers it; NO_ID where nothing joins them."""
    ends: tuple[Interface, ...] = ()
    """The host's ends of the veths into it."""
    is_host: bool = False
    """It is the daemon's."""
    is_owned: bool = True
    """The target was there first."""
    inside: tuple[Interface, ...] = ()
    """Its own interfaces, as far as they were looked at."""
    host_number: int = NO_ID
    """As it numbers the daemon's namespace."""
    path: str = ""
    """What opens it, while that process lives."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The interfaces on the host that lead to a target, or why not all of its traffic passes."""

    interfaces: tuple[Interface, ...] = ()
    obstacle: str = ""
    namespace_ids: frozenset[int] = frozenset()
    """As this namespace numbers the target's; for events."""


def ways_out(spaces: Sequence[Space], uses_host_network: bool | None) -> Ways:
    """What brings the target its traffic. ``uses_host_network``: None where nobody has said.

    * A namespace without a way out (a sandbox, a container in a container) is of no account.
    * Neither is the host's, for a target that has one with a way out, too: the container
      runtime's helpers are there. Should they receive much, their bytes show it (``Bypass``).
    * Nor is one where the target is a guest: what is held there is its owner's.
    """
    ids = frozenset(space.number for space in spaces) - {NO_ID}
    if uses_host_network:
        return Ways((), HOST_NETWORK, ids)
    own = [space for space in spaces if not space.is_host]
    joined = [space for space in own if space.ends]
    owned = [space for space in joined if space.is_owned]
    for past in (past for space in owned or own for past in _past_the_veths(space)):
        what = past.kind or "hardware"
        return Ways((), f"its {past.name} ({what}) has no veth on the host", ids)
    if owned:
        return Ways(tuple(end for space in owned for end in space.ends), "", ids)
    if uses_host_network is None and len(own) < len(spaces):
        return Ways((), HOST_NETWORK, ids)
    if joined:
        return Ways((), NOT_ITS_OWN, ids)
    return Ways((), NO_VETH if own else NO_PROCESS, ids)


def _past_the_veths(space: Space) -> Iterator[Interface]:
    """What brings traffic into a namespace and passes no veth."""
    for inside in space.inside:
        is_wire = not inside.kind
        is_on_the_host = NO_ID != inside.peer_namespace_id == space.host_number
        if inside.is_up and (is_wire or (is_on_the_host and inside.kind != "veth")):
            yield inside
