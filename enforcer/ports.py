"""What the daemon needs from the outside, as Protocols; only ``__main__.py`` builds real ones."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from contract.names import Direction, EventReason
from enforcer.pods.pod import Condition, Pod
from enforcer.state import (
    Attachment,
    Capacity,
    Link,
    Rates,
    ShaperCounters,
    Shaping,
    Surroundings,
    Target,
    TargetCounters,
    Uplink,
    Used,
    Way,
)


class Datapath(Protocol):
    """The kernel side of limiting. Raises ``errors.DatapathError`` and nothing else.

    Called from several threads, but for one cgroup never by two at once.
    """

    @property
    def source_hash(self) -> str:
        """Identifies the programs that :meth:`attach` attaches."""
        ...

    def features(self) -> Mapping[str, str]:
        """Kernel feature to ``supported`` or the reason why not."""
        ...

    def observe(self, cgroup_path: str) -> Attachment | None:
        """Our programs on this cgroup, of any age; None when there are none or it is gone."""
        ...

    def mark(self, cgroup_path: str) -> Hashable:
        """What is on this cgroup, unread: equal as long as nothing there changes; None: unknown.

        A tenth of what :meth:`observe` costs.
        """
        ...

    def write(self, target: Target, way: Way) -> None:
        """Put today's programs, the limits and the way in force: one record, written at once.

        Replaces older programs, or other limits, without a gap; open connections follow. When it
        raises, what was in force is still: nothing new is attached, no record is changed.
        """
        ...

    def detach(self, cgroup_path: str) -> None:
        """Take our programs off, of any age, and let open sockets run free again."""
        ...

    def forget(self, cgroup_id: int) -> None:
        """Drop what is still kept for a cgroup that is gone; the kernel took the programs."""
        ...

    def counters(self, target: Target) -> TargetCounters:
        """What the kernel counted since the target was attached."""
        ...

    def give(self, target: Target, rates: Rates) -> None:
        """Put other rates in force where a target shares with others; kept for :meth:`write`.

        For one thread, which need not be that of :meth:`write`.
        """
        ...

    def used(self, cgroup_id: int) -> Used | None:
        """Bytes that have passed; None where nothing is counted."""
        ...

    def note_local(self, networks: Iterable[str]) -> None:
        """These are reached without leaving the node; see ``state.Rates.local_list``."""
        ...

    def wanted_ns(self) -> int:
        """When a target that shares, and is given no current rate, last used all it has.

        By CLOCK_MONOTONIC; 0: never.
        """
        ...

    def tend(self, targets: Iterable[Target]) -> None:
        """Periodic work (about ten times a second): paces sockets older than their limit."""
        ...

    def prune(self) -> None:
        """Drop what earlier versions left. Call when every target has been replaced."""
        ...

    def unpin(self) -> None:
        """Remove every pin of ours: the end of ``--cleanup``. Nothing else works afterwards."""
        ...


class Network(Protocol):
    """Interfaces on the host. Raises ``errors.DatapathError`` and nothing else.

    Called from several threads, but for one cgroup never by two at once.
    """

    def features(self) -> Mapping[str, str]:
        """Feature to ``supported`` or the reason why not."""
        ...

    def observe(
        self, cgroup_path: str, cgroup_id: int, uses_host_network: bool | None
    ) -> Surroundings:
        """How this cgroup's incoming traffic comes, and what of ours is there.

        ``uses_host_network``: what is known of it, see ``Target``.
        """
        ...

    def shape(self, cgroup_id: int, shaping: Shaping, links: Sequence[Link]) -> None:
        """Hold incoming traffic at these interfaces, and at no others for this target.

        Replaces what is there without a gap. When it raises, some may hold already.
        """
        ...

    def give(self, cgroup_id: int, rates: Rates) -> None:
        """Hold so much less than its limits, now and later: its queue, and what passes its sockets.

        They keep to this also when nobody renews it: the programs on the cgroup hold less then,
        where less is due.
        """
        ...

    def sent_past_bytes(self, cgroup_id: int) -> int:
        """What has left past its sockets, as far as that is looked at."""
        ...

    def unshape(self, cgroup_id: int) -> None:
        """Take everything of ours off this target's interfaces: they are as they were found."""
        ...

    def counters(self, cgroup_id: int) -> ShaperCounters | None:
        """What was counted for this target; None where nothing is shaped."""
        ...

    def shaped(self) -> frozenset[int]:
        """The cgroup ids for which something of ours is on some interface."""
        ...

    def sweep(self) -> list[str]:
        """Take what is ours off every interface, also where nothing of ours tells of it.

        Says where something was. For the end of ``--cleanup``.
        """
        ...

    def changed(self, timeout_seconds: float) -> frozenset[str] | None:
        """Wait for interfaces to come or go; the cgroups that were looked at and are concerned.

        None when it cannot be told which. The only method for a thread of its own.
        """
        ...


class SharedLink(Protocol):
    """The node's link; ``net.uplink.NodeLink`` is the real one. For one thread."""

    @property
    def uplink(self) -> Uplink:
        """By what traffic leaves the node, as of the last :meth:`look`."""
        ...

    def look(self) -> None:
        """See what has changed of it; what fails is said by :meth:`of`."""
        ...

    def of(self, direction: Direction) -> Capacity:
        """What can be shared of it."""
        ...

    def counted_bytes(self) -> tuple[int, int] | None:
        """What it has received and sent; None where that cannot be told."""
        ...


class Shares(Protocol):
    """What targets share; ``sharing.loop.Sharing`` is the real one."""

    def adopt(self, targets: Iterable[Target]) -> None:
        """These were limited before a restart: give each its part before it is looked at."""
        ...

    def admit(self, target: Target) -> None:
        """Its limits are about to be put in force: give it what it may begin with."""
        ...

    def unkept(self, target: Target) -> tuple[str, str]:
        """Why its requests of ingress and egress may not be kept; empty: they are."""
        ...


class CapacityProvider(Protocol):
    """Tells the scheduler what pods can book on this node, and keeps it told.

    Extended resources of the Node are one (``kube/advertise.py``); a driver of dynamic resource
    allocation could be another.
    """

    def advertised(self, direction: Direction) -> int | None:
        """What the scheduler has to give, in bits per second; None: nothing, or not known."""
        ...

    def booked(self, direction: Direction) -> int:
        """What this node's pods have of it."""
        ...

    def step(self) -> None:
        """Put it right, and wait until something may have changed."""
        ...

    def withdraw(self) -> None:
        """Offer nothing any more, for good, without harm to pods that have booked."""
        ...


class Reporter(Protocol):
    """Where conditions and Events go; ``reports.Reports`` is the real one."""

    def want(self, pod: Pod, condition: Condition | None) -> None:
        """The condition that is true of ``pod`` now; None: it should have none."""
        ...

    def event(self, pod: Pod, reason: EventReason, text: str) -> None:
        """Something happened to ``pod`` that people may ask about."""
        ...

    def forget(self, pod: Pod) -> None:
        """The pod is gone, or not limited any more."""
        ...

    def ask(self, pod: Pod) -> None:
        """Find out whether there is still a pod of this name; the answer comes as news."""
        ...


class Log(Protocol):
    """One line per decision, with its facts as fields; structlog's loggers fit."""

    def info(self, event: str, **fields: Any) -> Any:
        """A decision."""
        ...

    def warning(self, event: str, **fields: Any) -> Any:
        """Something could not be done; limits that are in force stay in force."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """A fault of ours."""
        ...
