"""Where a cgroup's incoming traffic comes from: which interfaces on the host lead to it."""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from enforcer.net.links import (
    NO_ID,
    Interface,
    LinkTable,
    interfaces_inside,
    namespace_id,
)
from enforcer.net.namespaces import processes
from enforcer.net.rtnetlink import Netlink

_SCAN_KEPT_SECONDS: Final = 2.0
_WAYS_KEPT_SECONDS: Final = 30.0
"""Of a target whose processes are where they were, on a host where no interface has changed. What
nobody is told of is seen after that: an interface made inside, or another cgroup that came in."""
_OWN: Final = "/proc/self/ns/net"


@dataclass(frozen=True, slots=True)
class Ways:
    """The interfaces on the host that lead to a target, or why not all of its traffic passes."""

    interfaces: tuple[Interface, ...] = ()
    obstacle: str = ""
    namespace_ids: frozenset[int] = frozenset()
    """As this namespace numbers the target's; for events."""


@dataclass(frozen=True, slots=True)
class _Kept:
    ways: Ways
    namespaces: frozenset[int]
    version: int
    at_seconds: float


class Discovery:
    """Finds them. One user at a time; raises OSError."""

    def __init__(self, netlink: Netlink, table: LinkTable) -> None:
        self._netlink = netlink
        self._table = table
        self._own_inode = Path(_OWN).stat().st_ino
        self._scanned_at = float("-inf")
        self._scan: Mapping[int, frozenset[int]] = {}
        self._paths: dict[int, str] = {}
        self._kept: dict[str, _Kept] = {}

    def find(self, cgroup_path: str, namespaces: Mapping[int, str]) -> Ways:
        """The ways to the processes of a cgroup, which are in these network namespaces."""
        self._table.all()
        version, inodes, now = self._table.version, frozenset(namespaces), time.monotonic()
        kept = self._kept.get(cgroup_path)
        if (
            kept is not None
            and (kept.version, kept.namespaces) == (version, inodes)
            and now - kept.at_seconds < _WAYS_KEPT_SECONDS
        ):
            return kept.ways
        ways = self._find(cgroup_path, namespaces)
        self._kept.pop(cgroup_path, None)
        if not ways.obstacle:  # which may be gone in a moment
            self._kept[cgroup_path] = _Kept(ways, inodes, version, now)
        return ways

    def forget(self, cgroup_path: str) -> None:
        """Keep nothing of a cgroup."""
        self._kept.pop(cgroup_path, None)

    def _find(self, cgroup_path: str, namespaces: Mapping[int, str]) -> Ways:
        if self._own_inode in namespaces:
            return Ways(obstacle="it uses the host's network")
        if self._has_strangers(cgroup_path, namespaces):
            return Ways(obstacle="other cgroups share its network namespace")
        found: list[Interface] = []
        ids: set[int] = set()
        for path in namespaces.values():
            number = namespace_id(self._netlink, path)
            ids.add(number)
            self._paths[number] = path
            ways = self._into(path, number)
            if ways.obstacle:
                return Ways(obstacle=ways.obstacle, namespace_ids=frozenset(ids - {NO_ID}))
            found += ways.interfaces
        return Ways(tuple(found), "", frozenset(ids - {NO_ID}))

    def _into(self, namespace_path: str, number: int) -> Ways:
        """The host's ends of the veths in one namespace."""
        table = self._table.all()
        ends = {
            link.peer_ifindex: link
            for link in table.values()
            if link.kind == "veth" and number != NO_ID and link.peer_namespace_id == number
        }
        found = []
        for inside in interfaces_inside(namespace_path):
            if not inside.is_up:
                continue
            end = ends.get(inside.ifindex)
            if end is not None:
                found.append(end)
            elif _leads_out(inside):
                kind = inside.kind or "hardware"
                return Ways(obstacle=f"its {inside.name} ({kind}) has no veth on the host")
        if not found:
            return Ways(obstacle="no interface of it is a veth of this host")
        return Ways(tuple(found))

    def path_to(self, number: int) -> str | None:
        """A path that opens the namespace with this number; None where no process is in it."""
        known = self._paths.get(number)
        with contextlib.suppress(OSError):
            if known is not None and namespace_id(self._netlink, known) == number:
                return known
        for inode, pids in self._processes().items():
            for pid in pids:
                path = f"/proc/{pid}/ns/net"
                with contextlib.suppress(OSError):
                    if Path(path).stat().st_ino == inode:
                        if namespace_id(self._netlink, path) == number:
                            return path
                        break
        return None

    def _processes(self) -> Mapping[int, frozenset[int]]:
        """Network namespace to processes, from a scan that is up to two seconds old."""
        now = time.monotonic()
        if now - self._scanned_at > _SCAN_KEPT_SECONDS:
            self._scan, self._scanned_at = _scan_processes(), now
        return self._scan

    def _has_strangers(self, cgroup_path: str, namespaces: Mapping[int, str]) -> bool:
        """Whether processes of other cgroups live in these namespaces: they must not be limited."""
        scan = self._processes()
        own = set(processes(cgroup_path))
        for inode in namespaces:
            strangers = scan.get(inode, frozenset()) - own
            if any(
                _namespace_of(pid) == inode and not _is_below(pid, cgroup_path) for pid in strangers
            ):
                return True
        return False


def _leads_out(inside: Interface) -> bool:
    """Hardware, or something that stands on an interface of another namespace.

    A veth whose other end is not on the host belongs to a namespace inside the pod, and what is
    stacked on another interface of the pod passes that one.
    """
    return not inside.kind or (inside.kind != "veth" and inside.peer_namespace_id != NO_ID)


def _namespace_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


def _is_below(pid: int, cgroup_path: str) -> bool:
    """Whether a process belongs to the cgroup or one below; also while it ends, when
    ``cgroup.procs`` does not list it any more. One that has ended belongs to all.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return True
    own = next((line[3:] for line in lines if line.startswith("0::/")), "")
    path = PurePosixPath("/", own.replace("/..", ""))  # seen from a cgroup namespace
    return any(cgroup_path.endswith(str(parent)) for parent in (path, *path.parents) if parent.name)


def _scan_processes() -> dict[int, frozenset[int]]:
    """Network namespace to the processes in it."""
    found: dict[int, set[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - half the time of iterdir
        if entry.isdigit():
            found.setdefault(_namespace_of(int(entry)), set()).add(int(entry))
    return {inode: frozenset(pids) for inode, pids in found.items()}
