"""What is ours on single interfaces of the host, and the records of it."""

import errno
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Final, Self

from enforcer.datapath.shaper import ShaperPrograms
from enforcer.datapath.shaper_abi import (
    LINK_OLD_QUEUES,
    LINK_OWN_CLSACT,
    LinkRecord,
)
from enforcer.net import filters, queues
from enforcer.net.filters import IN, OUT, Filters
from enforcer.net.links import LinkTable
from enforcer.net.rtnetlink import Interface, Netlink
from enforcer.state import Link, Rates, Shaping, sent_bound

_LONGEST_QUEUE_NS: Final = 100_000_000
"""What waits longer at a new limit is thrown away: below the bound at which the program takes a
queue to be gone (aqm_follow_rate in bpf/aqm.h)."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a target may use now, in bytes per second; None: its limit."""

    ingress: int | None
    egress: int | None

    @classmethod
    def of(cls, rates: Rates) -> Self:
        """What was given."""
        ingress, egress = (
            None if given is None else given.current for given in (rates.ingress, rates.egress)
        )
        return cls(ingress, egress)


WHOLE: Final = Part(None, None)


class Veths:
    """One user at a time; raises OSError."""

    def __init__(self, programs: ShaperPrograms, table: LinkTable) -> None:
        self._programs = programs
        self._table = table
        self._netlink = Netlink()
        self.given: dict[int, Part] = {}
        """By cgroup id: less than its limits."""
        self._shapings: dict[int, Shaping] = {}
        """By ifindex: what was put there, whatever is given now."""
        self.records: dict[int, LinkRecord] = {}
        """By ifindex; an older version's, too, until :meth:`put`."""
        self._owned: defaultdict[int, set[int]] = defaultdict(set)
        for ifindex, record in programs.links().items():
            self._keep(ifindex, record)

    def owned(self, cgroup_id: int) -> tuple[int, ...]:
        """The interfaces where something of ours is for a target. Any thread may ask."""
        return tuple(self._owned.get(cgroup_id, ()))

    def _keep(self, ifindex: int, record: LinkRecord) -> None:
        self._drop(ifindex)
        self.records[ifindex] = record
        self._owned[record.cgroup_id].add(ifindex)

    def _drop(self, ifindex: int) -> None:
        record = self.records.pop(ifindex, None)
        if record is not None:
            self._owned[record.cgroup_id].discard(ifindex)
            if not self._owned[record.cgroup_id]:
                del self._owned[record.cgroup_id]

    def look(self, interface: Interface, cgroup_id: int) -> Link:
        """What is on an interface that leads to a target."""
        ifindex, name = interface.ifindex, interface.name
        root = queues.root(self._netlink, ifindex)
        found = filters.look(self._netlink, ifindex)
        record = self.records.get(ifindex)
        obstacle = sent_obstacle = ""
        if record is not None and record.cgroup_id != cgroup_id:
            obstacle = sent_obstacle = f"another target is held at {name}"
        elif root[1] not in {0, queues.HANDLE}:
            obstacle = f"{root[0]} on {name} is somebody else's"
        elif found.place == filters.INGRESS_ONLY and not self._programs.has_tcx:
            obstacle = f"somebody's ingress qdisc on {name} leaves the shaper no place"
        shaping = None
        if (
            record is not None
            and not sent_obstacle
            and self._programs.link(ifindex) == record
            and record.full_frame_bytes == queues.largest_frame_bytes(interface.mtu_bytes)
            and record.rate_bytes_per_sec == self._expected(record)
            and (root == (queues.KIND, queues.HANDLE)) == bool(record.rate_bytes_per_sec)
            and self._is_there(ifindex, found, OUT, wanted=bool(record.rate_bytes_per_sec))
            and self._is_there(ifindex, found, IN, wanted=bool(record.sent_rate_bytes_per_sec))
        ):
            sent_rate, sent_burst_ns = record.sent_rate_bytes_per_sec, record.sent_burst_ns
            if cgroup_id in self.given and ifindex in self._shapings:
                put = self._shapings[ifindex]
                sent_rate, sent_burst_ns = put.sent_rate_bytes_per_sec, put.sent_burst_ns
            shaping = Shaping(
                record.limit_bytes_per_sec,
                record.burst_ns,
                record.exempt_list,
                sent_rate,
                sent_burst_ns,
            )
        return Link(ifindex, name, shaping, obstacle, sent_obstacle, interface.mtu_bytes)

    def _expected(self, record: LinkRecord) -> int:
        given, limit = self.given.get(record.cgroup_id, WHOLE).ingress, record.limit_bytes_per_sec
        return limit if given is None else min(limit, max(1, given))

    def _is_there(self, ifindex: int, found: Filters, name: str, *, wanted: bool) -> bool:
        """Today's program once, by tcx or by a filter; or none."""
        there = (*found.programs[name], *self._programs.by_tcx(ifindex, name))
        return there == ((self._programs.id_of(name),) if wanted else ())

    def put(self, ifindex: int, cgroup_id: int, shaping: Shaping) -> None:
        """Hold a target there, in place of what held before, without a gap."""
        interface = self._table.get(ifindex)
        if interface is None:
            raise OSError(errno.ENODEV, "the interface is gone")
        found, before = filters.look(self._netlink, ifindex), self.records.get(ifindex)
        kept = 0 if before is None else before.flags & (LINK_OWN_CLSACT | LINK_OLD_QUEUES)
        # Never both in one direction: kernels of 2024 free clsact's memory under tcx. Where there
        # is a choice, clsact: tcx waits for an RCU grace period (12 to 58 ms against 1).
        has_neighbours = not found.place and self._programs.has_tcx_neighbours(ifindex)
        if found.is_own or not (found.place or has_neighbours):
            kept |= LINK_OWN_CLSACT
        self._shapings[ifindex] = shaping
        rate, sent_rate, sent_burst_ns = _given(shaping, self.given.get(cgroup_id, WHOLE))
        record = LinkRecord(
            cgroup_id,
            rate,
            shaping.burst_ns,
            sent_rate,
            sent_burst_ns,
            shaping.exempt_list,
            shaping.rate_bytes_per_sec,
            queues.largest_frame_bytes(interface.mtu_bytes),
            kept,
            queues.SPARSE,
            queues.BULK,
            queues.DIRECT,
        )
        self._put_queue(ifindex, before, record)
        own, has_way_out = bool(kept & LINK_OWN_CLSACT), found.place != filters.INGRESS_ONLY
        if record.sent_rate_bytes_per_sec:
            self._put_program(ifindex, IN, by_tcx=has_neighbours, own=own)
        if record.rate_bytes_per_sec:
            self._put_program(ifindex, OUT, by_tcx=has_neighbours or not has_way_out, own=own)
        for name, wanted in (
            (IN, record.sent_rate_bytes_per_sec),
            (OUT, record.rate_bytes_per_sec),
        ):
            if not wanted:
                self._remove_program(ifindex, name)
        if not record.rate_bytes_per_sec:
            queues.remove_root(self._netlink, ifindex)

    def give(self, ifindex: int, part: Part) -> None:
        """Other rates of what is held there already."""
        before, shaping = self.records[ifindex], self._shapings.get(ifindex)
        if shaping is None:
            return  # an earlier daemon's: it is put anew before long
        rate, sent_rate, sent_burst_ns = _given(shaping, part)
        record = replace(
            before,
            rate_bytes_per_sec=rate,
            sent_rate_bytes_per_sec=sent_rate,
            sent_burst_ns=sent_burst_ns,
        )
        if rate != before.rate_bytes_per_sec:
            self._put_queue(ifindex, before, record)
        elif record != before:
            self._keep(ifindex, record)
            self._programs.put_link(ifindex, record)

    def _put_queue(self, ifindex: int, before: LinkRecord | None, record: LinkRecord) -> None:
        is_too_long = before is not None and self._queues_too_long(before, record)
        self._keep(ifindex, record)
        self._programs.put_link(ifindex, record)
        if record.rate_bytes_per_sec:
            if is_too_long:
                queues.empty_bulk(self._netlink, ifindex)
            queues.put_htb(
                self._netlink,
                ifindex,
                record.rate_bytes_per_sec,
                record.burst_ns,
                record.full_frame_bytes,
            )

    def _queues_too_long(self, before: LinkRecord, after: LinkRecord) -> bool:
        shaper = self._programs.shaper(after.cgroup_id)
        if shaper is None or not after.rate_bytes_per_sec:
            return False
        queued_ns = max(0, shaper.departs_at_ns - time.monotonic_ns())
        longer_ns = queued_ns * before.rate_bytes_per_sec // after.rate_bytes_per_sec
        return longer_ns > max(queued_ns, _LONGEST_QUEUE_NS)

    def _put_program(self, ifindex: int, name: str, *, by_tcx: bool, own: bool) -> None:
        if by_tcx:
            self._programs.attach_tcx(ifindex, name)
        else:
            program_fd = self._programs.program_fd(name)
            filters.put(self._netlink, ifindex, name, program_fd, own=own)
            self._programs.detach_tcx(ifindex, name)

    def _remove_program(self, ifindex: int, name: str) -> None:
        self._programs.detach_tcx(ifindex, name)
        filters.remove(self._netlink, ifindex, name)

    def remove(self, ifindex: int) -> None:
        """Take everything off that is ours, and forget the interface, which may be gone."""
        record = self.records[ifindex]
        if self._table.get(ifindex) is not None:
            try:
                self._clear(ifindex, own_clsact=bool(record.flags & LINK_OWN_CLSACT))
            except OSError as error:
                if error.errno != errno.ENODEV:  # it went meanwhile, and all on it
                    raise
        self._programs.remove_link(ifindex)
        self._shapings.pop(ifindex, None)
        self._drop(ifindex)

    def _clear(self, ifindex: int, *, own_clsact: bool) -> None:
        own_clsact |= filters.look(self._netlink, ifindex).is_own
        for name in (OUT, IN):
            self._remove_program(ifindex, name)
        if own_clsact:
            filters.remove_clsact(self._netlink, ifindex)
        queues.remove_root(self._netlink, ifindex)

    def sweep(self) -> list[str]:
        """Take off every interface here what is ours by its handle or name, whatever records say.

        Returns the interfaces' names.
        """
        with_root = set(queues.interfaces_with(self._netlink))
        swept = []
        for ifindex, interface in sorted(self._table.all().items()):
            found = filters.look(self._netlink, ifindex)
            by_tcx = [self._programs.by_tcx(ifindex, name) for name in (IN, OUT)]
            if ifindex in with_root or any(found.programs.values()) or any(by_tcx):
                self._clear(ifindex, own_clsact=False)
                self._programs.remove_link(ifindex)
                self._drop(ifindex)
                swept.append(interface.name)
        return swept

    def forget_old_queues(self, ifindex: int) -> None:
        """The queues of an older version are gone from the other end."""
        record = self.records[ifindex]
        record = replace(record, flags=record.flags & ~LINK_OLD_QUEUES)
        self._keep(ifindex, record)
        self._programs.put_link(ifindex, record)


def _given(shaping: Shaping, part: Part) -> tuple[int, int, int]:
    """(rate, sent rate, sent burst in ns): of what is held at an interface, where less is given."""
    rate, sent_rate = shaping.rate_bytes_per_sec, shaping.sent_rate_bytes_per_sec
    if rate and part.ingress is not None:
        rate = max(1, min(rate, part.ingress))
    if sent_rate and part.egress is not None:
        less, burst_ns = sent_bound(part.egress)
        if less < sent_rate:
            return rate, less, burst_ns
    return rate, sent_rate, shaping.sent_burst_ns
