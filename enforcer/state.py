"""What should be, what is, and what the kernel counted: three different types."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.limits import Limit, Limits, make_limit
from contract.names import Direction


def exempt_list_id(cidrs: Iterable[str]) -> int:
    """What the kernel knows a list of exempt networks by: its hash, 64 bits; 0 is no network."""
    networks = ",".join(sorted(cidrs))
    digest = hashlib.sha256(networks.encode()).digest()[:8]
    return int.from_bytes(digest, "little") or 1 if networks else 0


UNBOUNDED_BITS_PER_SEC: Final = 99 * 10**9
"""Of a request without a limit: it is counted, and held where its node is short. From 100G on
nothing is held at interfaces (``reconcile.ways``)."""


def bound(limits: Limits, direction: Direction) -> Limit | None:
    """The most that one direction may ever have: its own limit, and its group's total."""
    own, sharing = limits.of(direction), limits.sharing(direction)
    total = sharing.total_bits_per_second
    if total is None and own is None and sharing.request_bits_per_second:
        total = UNBOUNDED_BITS_PER_SEC
    if total is None or (own is not None and own.bits_per_second <= total):
        return own
    return make_limit(total)


@dataclass(frozen=True, slots=True)
class Given:
    """What one direction may use of what it shares, in bytes per second."""

    current: int
    later: int
    """Once nobody has said so for too long."""

    def least(self, other: "Given | None") -> "Given":
        """What both allow."""
        if other is None:
            return self
        return Given(min(self.current, other.current), min(self.later, other.later))


@dataclass(frozen=True, slots=True)
class Rates:
    """Both directions of a target; None: it does not share, its limit holds."""

    ingress: Given | None = None
    egress: Given | None = None
    until_ns: int = 0
    """When the current ones end, by CLOCK_MONOTONIC; 0: they do not."""
    local_list: int = 0
    """The networks that are counted apart, by :func:`exempt_list_id`; 0: none."""

    def of(self, direction: Direction) -> Given | None:
        """One direction's."""
        return self.ingress if direction is Direction.INGRESS else self.egress


NO_RATES: Final = Rates()


_SENT_PERCENT: Final = 105
_SENT_BURST_NS: Final = 20_000_000
_SENT_BURST_BYTES: Final = 65_536


def sent_bound(rate_bytes_per_sec: int) -> tuple[int, int]:
    """Bytes per second, and ns of them at once: of all that a target sends, however it does.

    What passes its sockets has what those leave of it; paced traffic comes at the rate.
    """
    rate = rate_bytes_per_sec * _SENT_PERCENT // 100 + 1
    return rate, max(_SENT_BURST_NS, _SENT_BURST_BYTES * 10**9 // rate)


@dataclass(frozen=True, slots=True)
class Used:
    """Bytes of one target that have passed, and those of them that did not leave the node."""

    ingress: int
    egress: int
    local_ingress: int = 0
    local_egress: int = 0

    def of(self, direction: Direction) -> tuple[int, int]:
        """(passed, local) of one direction."""
        if direction is Direction.INGRESS:
            return self.ingress, self.local_ingress
        return self.egress, self.local_egress


@dataclass(frozen=True, slots=True)
class Uplink:
    """By what a node's traffic leaves it."""

    ifindex: int = 0
    """0: that cannot be told."""
    why: str = ""
    """Why not."""
    local_networks: tuple[str, ...] = ()
    """What is reached without it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Desired: one cgroup and its limits."""

    name: str
    """As the user named it: ``cgroup:/path``, ``pid:N``, ``container:ID``."""
    cgroup_path: str
    """Absolute, in the cgroup v2 tree."""
    cgroup_id: int
    """The directory's inode number: the kernel's cgroup id."""
    limits: Limits
    uses_host_network: bool | None = None
    """As a pod's spec says; None where nobody does."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a target's traffic is held, and what the programs on its cgroup need to know of that."""

    is_shaped: bool = False
    """Incoming traffic is held before it comes to the programs; they bound what passed that by."""
    why: str = ""
    """Why not."""
    mtu_bytes: int = 1500
    """The largest packet of the links that it uses."""
    why_sent: str = ""
    """What is known of packets that leave past the programs."""
    unkept: tuple[str, str] = ("", "")
    """Why what is requested of ingress and of egress may not be had; empty: it is."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Observed: our programs on one cgroup."""

    cgroup_path: str
    cgroup_id: int
    current: bool
    """All hooks carry today's programs, and no older ones of ours are beside them."""
    limits: Limits | None
    """What is in force by the map; None where nothing was written yet. CIDRs included."""
    shaped: bool = False
    """The programs know that incoming traffic is shaped before it reaches them."""
    mtu_bytes: int = 1500
    """What they take the links' for."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """What holds a target's traffic at an interface."""

    rate_bytes_per_sec: int
    """Of what comes in; 0: it is not held there."""
    burst_ns: int
    """Credit after idleness, as time at the rate."""
    exempt_list: int = 0
    """See :func:`exempt_list_id`; the networks are the datapath's to write."""
    sent_rate_bytes_per_sec: int = 0
    """Of what is sent past the programs on the cgroup, with what they see; 0: not bounded."""
    sent_burst_ns: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """Observed: an interface on the host, by which a target's incoming traffic comes."""

    ifindex: int
    name: str
    shaping: Shaping | None = None
    """What of ours holds there for this target, whole and of today; else None."""
    obstacle: str = ""
    """Why incoming traffic cannot be held there."""
    sent_obstacle: str = ""
    """Why what is sent cannot be bounded there."""
    mtu_bytes: int = 1500


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Observed: how a target's incoming traffic comes."""

    links: tuple[Link, ...] = ()
    obstacle: str = ""
    """Why it does not come by interfaces on the host, or not by them alone."""
    leftovers: tuple[int, ...] = ()
    """Interfaces that carry something of ours for this target and should not, or not any more."""

    @property
    def holds_anything(self) -> bool:
        """Something of ours is on some interface for this target."""
        return bool(self.leftovers) or any(link.shaping is not None for link in self.links)


@dataclass(frozen=True, slots=True)
class ShaperCounters:
    """What the shaper of one target counted."""

    active_flows: int
    delay_ns: int
    """That a packet meets that has to wait its turn."""
    passed_bytes: int
    dropped_bytes: int
    dropped_packets: int
    marked_packets: int
    limited_ns: int
    sent_bytes: int = 0
    """All that left by the interfaces, and what was dropped of it there."""
    sent_dropped_bytes: int = 0
    sent_dropped_packets: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """One direction's counters, as read from the kernel."""

    share_bytes_per_sec: int
    active_flows: int
    passed_bytes: int
    passed_packets: int
    dropped_bytes: int
    dropped_packets: int
    marked_packets: int
    limited_ns: int
    enforcement: str
    """``paced`` (egress), ``shaped`` or ``policed`` (ingress); ``observed`` in observe mode."""
    why: str
    delay_ns: int = 0
    """That a packet meets which has to wait its turn."""
    current_bytes_per_sec: int | None = None
    """What it may use now, while something that it shares is short."""
    local_bytes: int = 0
    """Of those that passed, what did not leave the node; counted where its link is shared."""


@dataclass(frozen=True, slots=True)
class TargetCounters:
    """Both directions of one target, and what was done about older sockets."""

    ingress: Counters
    egress: Counters
    earlier_sockets: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One cgroup as found: whether it is there, and what of ours is on it."""

    cgroup_id: int | None
    """None: there is no such cgroup (any more)."""
    attachment: Attachment | None
    surroundings: Surroundings = Surroundings()
    bypassed: bool = False
    """Clearly more reached the target than passed its shaped interfaces."""
    outsent: bool = False
    """Clearly more left by its interfaces than its sockets sent."""


@dataclass(frozen=True, slots=True)
class DeviceSpeed:
    """Observed: the device that packets to the world leave by."""

    name: str
    bits_per_second: int | None
    why: str = ""
    """Why its speed is not known."""


class CapacitySource(StrEnum):
    """Where a capacity is known from; the first that says something holds."""

    ANNOTATION = "annotation"
    OPTION = "option"
    DEVICE = "device"
    UNKNOWN = "unknown"


NOT_LOOKED: Final = "not looked yet"
"""The detail of a capacity that is about to be known."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """One direction's."""

    bytes_per_sec: int | None
    """None: not known, so nothing is shared by it."""
    source: CapacitySource
    detail: str = ""
    """The device, why nothing is known, and what of people's words cannot be read."""
