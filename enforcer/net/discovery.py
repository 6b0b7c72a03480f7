"""Where a cgroup's incoming traffic comes from: which interfaces on the host lead to it.

However much a tenant builds, a look costs little: it goes through some of the processes, the next
one goes on from there, and what was found stays true while not all were seen. Raises OSError.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from enforcer.net.graph import NO_PROCESS, Space, Ways, ways_out
from enforcer.net.links import LinkTable
from enforcer.net.namespaces import all_network_namespaces, first_processes, opened
from enforcer.net.owners import is_owner
from enforcer.net.rtnetlink import Interface
from enforcer.net.snapshot import Snapshots
from enforcer.targets import cgroup_id

_DOUBT_SECONDS: Final = 1.0
"""Between the two looks that must both see less than before."""
_KEPT_SECONDS: Final = 55.0
"""What all of a target's processes said, while the veths into their namespaces are the same."""
_GUEST_SECONDS: Final = 60.0
"""Until it is asked again who was first in a namespace."""


@dataclass(slots=True)
class _Known:
    """Of one target, from earlier looks."""

    cgroup_path: str
    ways: Ways = field(default_factory=Ways)
    kept_until: float = 0.0
    """When to look again, if nothing is heard before."""
    own: set[int] = field(default_factory=set)
    """Inodes of the namespaces that belong to it."""
    others: dict[int, float] = field(default_factory=dict)
    """Inodes of those that do not, and when that was asked."""
    offset: int = 0
    """Where the next look begins, among its processes."""
    doubted_at: float | None = None
    """When a look first saw less than the one before."""


class Discovery:
    """Safe to call from several threads, for one cgroup by one at a time."""

    def __init__(self, table: LinkTable) -> None:
        self._table = table
        self._snapshots = Snapshots(table)
        self._known: dict[int, _Known] = {}
        self._paths: dict[int, str] = {}

    def find(
        self,
        cgroup_path: str,
        number: int,
        held: Collection[int] = (),
        uses_host_network: bool | None = None,
    ) -> Ways:
        """The ways to the processes of a cgroup; None for what nobody has said.

        ``held``: interfaces where its traffic is held already, be it from before a restart.
        """
        if uses_host_network:
            self._known.pop(number, None)
            return ways_out((), uses_host_network)
        known = self._known.setdefault(number, _Known(cgroup_path))
        standing = self._standing(known, held)
        if time.monotonic() < known.kept_until and self._is_as_it_was(known, standing):
            return known.ways
        spaces, is_whole = self._look(known, standing, uses_host_network)
        ways = ways_out(spaces, uses_host_network)
        known.kept_until = 0.0
        if standing.keys() <= {end.ifindex for end in ways.interfaces}:
            known.doubted_at = None
            if ways.interfaces and is_whole:
                known.kept_until = time.monotonic() + _KEPT_SECONDS
        elif not is_whole or ways.obstacle == NO_PROCESS or _is_first_doubt(known):
            both = {end.ifindex: end for end in ways.interfaces} | standing
            ids = frozenset(end.peer_namespace_id for end in both.values())
            ways = Ways(tuple(both.values()), "", ways.namespace_ids | ids)
        known.ways = ways
        return ways

    def _is_as_it_was(self, known: _Known, standing: Mapping[int, Interface]) -> bool:
        """Whether the same veths lead to the same namespaces, and nothing is held elsewhere."""
        ids = known.ways.namespace_ids
        ends = {end.ifindex: end for number in ids for end in self._table.ends(number)}
        return standing == ends == {end.ifindex: end for end in known.ways.interfaces}

    @contextmanager
    def opened(self, number: int) -> Iterator[int | None]:
        """A descriptor of the namespace with this number; None where no process is in it."""
        with ExitStack() as stack:
            for path in self._candidates(number):
                with suppress(OSError):
                    fd = stack.enter_context(opened(path))
                    if self._snapshots.number(fd) == number:
                        break
                stack.close()
            else:
                fd = None
            yield fd

    def _candidates(self, number: int) -> Iterator[str]:
        yield self._paths.get(number, "")
        yield from all_network_namespaces().values()

    def prune(self) -> None:
        """Keep nothing of cgroups that are gone."""
        for number, known in list(self._known.items()):
            if cgroup_id(known.cgroup_path) != number:
                self._known.pop(number, None)

    def close(self) -> None:
        """Close what is open."""
        self._snapshots.close()

    def _standing(self, known: _Known, held: Collection[int]) -> dict[int, Interface]:
        """What its ways were, as far as they lead to the same namespace."""
        led_to = dict.fromkeys(held) | {
            end.ifindex: end.peer_namespace_id for end in known.ways.interfaces
        }
        found = {}
        for ifindex, number in led_to.items():
            end = self._table.get(ifindex)
            if end is not None and number in {None, end.peer_namespace_id}:
                found[ifindex] = end
        return found

    def _look(
        self, known: _Known, standing: Collection[int], uses_host_network: bool | None
    ) -> tuple[list[Space], bool]:
        """The namespaces of some of its processes, and whether those are all."""
        pids, are_all = first_processes(known.cgroup_path)
        some = pids[known.offset :] or pids
        found, seen = self._snapshots.take(some, has_ways=bool(standing))
        is_whole = seen == len(pids) and are_all
        known.offset = (known.offset + seen) if seen < len(some) else 0
        joined = [inode for inode, space in found.items() if space.ends]
        for inode in joined:
            space = found[inode]
            self._paths[space.number] = space.path
            is_only = uses_host_network is False and len(joined) == 1
            is_own = is_only or self._is_own(known, inode, space, standing)
            found[inode] = replace(space, is_owned=is_own)
        if is_whole:
            known.own &= found.keys()
        return list(found.values()), is_whole

    def _is_own(self, known: _Known, inode: int, space: Space, standing: Collection[int]) -> bool:
        """Whether a namespace belongs to the target; once it does, it does until it is left."""
        now = time.monotonic()
        if inode in known.own or any(end.ifindex in standing for end in space.ends):
            known.own.add(inode)
        elif now - known.others.get(inode, float("-inf")) > _GUEST_SECONDS:
            if is_owner(known.cgroup_path, inode):
                known.own.add(inode)
            else:
                known.others[inode] = now
        return inode in known.own


def _is_first_doubt(known: _Known) -> bool:
    """Whether a weaker answer has to be seen once more before it counts."""
    now = time.monotonic()
    known.doubted_at = known.doubted_at or now
    return now - known.doubted_at < _DOUBT_SECONDS
