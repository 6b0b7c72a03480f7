"""Implements ``ports.Network``: queues, programs and the shaper's records, on the host's veths."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from enforcer.datapath.shaper import ShaperPrograms
from enforcer.datapath.shaper_abi import LINK_OLD_QUEUES
from enforcer.errors import DatapathError
from enforcer.net import old_queues
from enforcer.net.discovery import Discovery
from enforcer.net.graph import HOST_NETWORK, NO_PROCESS
from enforcer.net.links import LinkTable, LinkWatch
from enforcer.net.namespaces import in_namespace
from enforcer.net.probes import probe_queues
from enforcer.net.veths import WHOLE, Part, Veths
from enforcer.state import Link, Rates, ShaperCounters, Shaping, Surroundings

_IDLE_NS: Final = 10**9
_TIDY_SECONDS: Final = 5.0
_PRUNE_SECONDS: Final = 30.0
"""At most so often where interfaces change, at least so often where none does: each time every
record is looked at."""


class LinkShaper:
    """Safe to call from several threads; does one thing at a time.

    A cgroup without processes has no interface, and is told from its files: who limits one that
    has just been made does not wait.
    """

    def __init__(self, programs: ShaperPrograms) -> None:
        """Raises OSError."""
        self._lock = threading.Lock()
        self._programs = programs
        self._table = LinkTable()
        self._watch = LinkWatch()
        self._discovery = Discovery(self._table)
        self._features = probe_queues()
        self._veths = Veths(programs, self._table)
        self._namespace_ids: dict[str, frozenset[int]] = {}
        self._tidied_at = time.monotonic()
        self._has_news = False
        self._obstacle = programs.refusal
        if not self._obstacle and self._features["htb"] != "supported":
            self._obstacle = f"this kernel cannot shape: {self._features['htb']}"

    def features(self) -> Mapping[str, str]:
        """See ``ports.Network``."""
        tcx = "supported" if self._programs.has_tcx else "this kernel has none, and needs none"
        return {"shaper": self._obstacle or "supported", "tcx": tcx, **self._features}

    def observe(
        self, cgroup_path: str, cgroup_id: int, uses_host_network: bool | None
    ) -> Surroundings:
        """See ``ports.Network``."""
        owned = self._veths.owned(cgroup_id)
        if self._obstacle:
            return Surroundings((), self._obstacle, owned)
        with _failures("look at the interfaces of", cgroup_path):
            ways = self._discovery.find(cgroup_path, cgroup_id, owned, uses_host_network)
            with self._lock:
                links = tuple(self._veths.look(end, cgroup_id) for end in ways.interfaces)
        if ways.obstacle in {HOST_NETWORK, NO_PROCESS}:
            self._namespace_ids.pop(cgroup_path, None)
        else:
            self._namespace_ids[cgroup_path] = ways.namespace_ids
        found = {link.ifindex for link in links}
        left = (ifindex for ifindex in owned if ifindex not in found)
        return Surroundings(links, ways.obstacle, tuple(left))

    def shape(self, cgroup_id: int, shaping: Shaping, links: Sequence[Link]) -> None:
        """See ``ports.Network``."""
        wanted = {link.ifindex for link in links}
        with self._lock, _failures("shape", ", ".join(link.name for link in links)):
            for link in links:
                self._veths.put(link.ifindex, cgroup_id, shaping)
            for ifindex in self._veths.owned(cgroup_id):
                if ifindex not in wanted:
                    self._remove(ifindex)

    def give(self, cgroup_id: int, rates: Rates) -> None:
        """See ``ports.Network``."""
        part = Part.of(rates)
        if self._veths.given.get(cgroup_id, WHOLE) == part:
            return
        with self._lock, _failures("change the rate of", f"cgroup {cgroup_id}"):
            if part == WHOLE:
                self._veths.given.pop(cgroup_id, None)
            else:
                self._veths.given[cgroup_id] = part
            for ifindex in self._veths.owned(cgroup_id):
                self._veths.give(ifindex, part)

    def sent_past_bytes(self, cgroup_id: int) -> int:
        """See ``ports.Network``."""
        with _failures("read the shaper of", f"cgroup {cgroup_id}"):
            record = self._programs.shaper(cgroup_id)
        return 0 if record is None else record.sent_past_bytes - record.sent_dropped_bytes

    def unshape(self, cgroup_id: int) -> None:
        """See ``ports.Network``."""
        owned = self._veths.owned(cgroup_id)
        if not owned:
            return
        with self._lock, _failures("take the queues off", f"interfaces {owned}"):
            for ifindex in owned:
                self._remove(ifindex)
            self._programs.remove_shaper(cgroup_id)

    def counters(self, cgroup_id: int) -> ShaperCounters | None:
        """See ``ports.Network``."""
        with _failures("read the shaper of", f"cgroup {cgroup_id}"):
            record = self._programs.shaper(cgroup_id)
            if record is None:
                return None
            own_bytes = sum(map(self._programs.own_bytes, self._veths.owned(cgroup_id)))
        idle = time.monotonic_ns() - record.seen_at_ns > _IDLE_NS
        return ShaperCounters(
            active_flows=0 if idle else max(record.active_flows, record.window_flows),
            delay_ns=0 if idle else record.delay_ns,
            passed_bytes=record.passed_bytes,
            dropped_bytes=record.dropped_bytes,
            dropped_packets=record.dropped_packets,
            marked_packets=record.marked_packets,
            limited_ns=record.limited_ns,
            sent_bytes=record.sent_past_bytes + own_bytes,
            sent_dropped_bytes=record.sent_dropped_bytes,
            sent_dropped_packets=record.sent_dropped_packets,
        )

    def shaped(self) -> frozenset[int]:
        """See ``ports.Network``."""
        return frozenset(record.cgroup_id for record in list(self._veths.records.values()))

    def sweep(self) -> list[str]:
        """See ``ports.Network``."""
        with self._lock, _failures("look at", "every interface"):
            return [*self._veths.sweep(), *old_queues.sweep()]

    def changed(self, timeout_seconds: float) -> frozenset[str] | None:
        """See ``ports.Network``."""
        changes = self._watch.wait(timeout_seconds)
        if changes is None:
            return None
        self._has_news |= bool(changes)
        pause = _TIDY_SECONDS if self._has_news else _PRUNE_SECONDS
        if time.monotonic() - self._tidied_at > pause:
            self._tidy()
        if not changes:
            return frozenset()
        numbers = {change.interface.peer_namespace_id for change in changes}
        known = self._namespace_ids.copy()
        return frozenset(path for path, ids in known.items() if numbers & ids or not ids)

    def _tidy(self) -> None:
        """Keep nothing of cgroups that are gone, and no queue of an older version in a pod."""
        self._tidied_at, self._has_news = time.monotonic(), False
        for ifindex, record in list(self._veths.records.items()):
            if record.flags & LINK_OLD_QUEUES:
                with self._lock, contextlib.suppress(OSError):
                    self._take_out_old(ifindex, whatever_waits=False)
        with self._lock:
            if not any(self._programs.link(ifindex) is None for ifindex in self._veths.records):
                self._programs.close_older()
        for path in [p for p in self._namespace_ids.copy() if not os.path.isdir(p)]:  # noqa: PTH112
            self._namespace_ids.pop(path, None)
        self._discovery.prune()

    def _take_out_old(self, ifindex: int, *, whatever_waits: bool) -> None:
        """Take the queues of an older version out of the pod, once no program of it fills them."""
        is_todays = self._programs.link(ifindex) is not None
        if not is_todays and not whatever_waits:
            return
        end = self._table.get(ifindex)
        if end is not None:
            take_out = partial(old_queues.take_out, end.peer_ifindex, whatever_waits=whatever_waits)
            with self._discovery.opened(end.peer_namespace_id) as fd:
                if fd is not None and not in_namespace(fd, take_out):
                    return
        if is_todays:
            self._veths.forget_old_queues(ifindex)

    def _remove(self, ifindex: int) -> None:
        if self._veths.records[ifindex].flags & LINK_OLD_QUEUES:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a pod that ends
                self._take_out_old(ifindex, whatever_waits=True)
        self._veths.remove(ifindex)


@contextmanager
def _failures(doing: str, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatapathError(f"cannot {doing} {where}: {error}") from error
