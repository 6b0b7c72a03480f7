"""What should be, what is, and what the kernel counted: three different types."""

from dataclasses import dataclass

from contract.limits import Limits


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


@dataclass(frozen=True, slots=True)
class Attachment:
    """Observed: our programs on one cgroup."""

    cgroup_path: str
    cgroup_id: int
    current: bool
    """All hooks carry today's programs, and no older ones of ours are beside them."""
    limits: Limits | None
    """What is in force by the map; None where nothing was written yet. CIDRs included."""


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
    """``paced``, ``shaped`` or ``policed``; ``observed`` in observe mode."""
    why: str


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
