"""Takes the snapshot that ``graph`` judges: the network namespaces of some processes.

A bounded number of namespaces, and of interfaces in each, whatever is there: a namespace that no
veth joins to this one is not even looked into. Raises OSError.
"""

import errno
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from enforcer.net.graph import Space
from enforcer.net.links import LinkTable
from enforcer.net.namespaces import in_namespace, namespace_of, opened, path_of
from enforcer.net.rtnetlink import NO_ID, Interface, Netlink, interfaces, namespace_id

_PROCESSES: Final = 512
_NAMESPACES: Final = 64
_INTERFACES: Final = 128
_UNJOINED: Final = 4
_HERE: Final = "/proc/thread-self/ns/net"
_KEPT_SECONDS: Final = 300.0
"""Nobody is told when something changes inside a namespace, and it seldom does."""


@dataclass(frozen=True, slots=True)
class _Inside:
    """What is in one namespace."""

    interfaces: tuple[Interface, ...] = ()
    host_number: int = NO_ID
    at_seconds: float = 0.0


class Snapshots:
    """Safe to call from several threads."""

    def __init__(self, table: LinkTable) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._netlink = Netlink()
        self._home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        self._own_inode = os.fstat(self._home).st_ino
        self._insides: dict[tuple[int, int], _Inside] = {}

    def take(self, pids: Sequence[int], *, has_ways: bool) -> tuple[dict[int, Space], int]:
        """By inode, and how many of the processes it took to get there.

        Namespaces without a veth to here are looked into, a few of them, to tell what they have
        instead; not where the target is known to have ways (``has_ways``).
        """
        found: dict[int, Space] = {}
        unjoined = _UNJOINED * (not has_ways)
        for count, pid in enumerate(pids[:_PROCESSES]):
            inode = namespace_of(pid)
            if not inode or inode in found:
                continue
            if len(found) == _NAMESPACES:
                return found, count
            if inode == self._own_inode:
                found[inode] = Space(is_host=True)
                continue
            try:
                with opened(path_of(pid)) as fd:
                    space = self._space(fd, path_of(pid), looks_inside=unjoined > 0)
                    found[os.fstat(fd).st_ino] = space
            except (
                FileNotFoundError,
                ProcessLookupError,
            ):  # it has just ended; perhaps another is there
                continue
            unjoined -= not space.ends
        return found, len(pids[:_PROCESSES])

    def close(self) -> None:
        """Close what is open."""
        self._netlink.close()
        os.close(self._home)

    def number(self, namespace_fd: int) -> int:
        """As this namespace numbers it."""
        with self._lock:
            return namespace_id(self._netlink, namespace_fd)

    def _space(self, fd: int, path: str, *, looks_inside: bool) -> Space:
        number = self.number(fd)
        ends = self._table.ends(number)
        inside = self._inside(fd, number) if ends or looks_inside else _Inside()
        return Space(
            number, ends, inside=inside.interfaces, host_number=inside.host_number, path=path
        )

    def _inside(self, fd: int, number: int) -> _Inside:
        key, now = (os.fstat(fd).st_ino, number), time.monotonic()
        inside = self._insides.get(key)
        if inside is None or now - inside.at_seconds > _KEPT_SECONDS:
            end = now - _KEPT_SECONDS
            for old in [k for k, kept in list(self._insides.items()) if kept.at_seconds < end]:
                self._insides.pop(old, None)
            inside = self._insides[key] = in_namespace(fd, self._look_around)
        return inside

    def _look_around(self) -> _Inside:
        """Runs inside."""
        now = time.monotonic()
        with Netlink() as netlink:
            host_number = namespace_id(netlink, self._home)
            try:
                return _Inside(tuple(interfaces(netlink, _INTERFACES)), host_number, now)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                return _Inside((), host_number, now)  # somebody changes them all the time
