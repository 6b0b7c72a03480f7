"""What travels over the control socket: HTTP with JSON, one dataclass per body.

    PUT    /targets/{target}   TargetRequest -> TargetStatus   sets or changes limits, live
    GET    /targets/{target}                 -> TargetStatus
    DELETE /targets/{target}                 -> 204
    GET    /targets                          -> TargetList
    GET    /healthz                          -> Health

A refusal is 4xx with ``Refusal``: 404 no such target or nothing attached to it, 409 it cannot be
done on this target or kernel, 422 the request itself is wrong. ``{target}`` is percent-encoded.
"""

from dataclasses import dataclass, field

from contract.names import Mode
from contract.problems import Problem


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """Limits as the user wrote them; a direction left out is not limited."""

    ingress: str | None = None
    egress: str | None = None
    ingress_burst: str | None = None
    egress_burst: str | None = None
    mode: Mode = Mode.ENFORCE
    exempt_cidrs: tuple[str, ...] = ()
    group: str | None = None
    """The name of a group, that is bounded together by the totals."""
    ingress_total: str | None = None
    egress_total: str | None = None
    ingress_request: str | None = None
    """What is guaranteed of the node's capacity, and of the group's total."""
    egress_request: str | None = None


@dataclass(frozen=True, slots=True)
class DirectionStatus:
    """One direction: what is in force, how, and what it has done since it was attached."""

    bits_per_second: int | None
    """None: no limit of its own, only what it shares."""
    burst_bits: int
    enforcement: str
    """``paced``, ``shaped`` or ``policed``; ``observed`` in observe mode."""
    why: str
    """Why it is enforced this way and not a better one; empty for the best."""
    share_bytes_per_sec: int
    """What one greedy flow may send now."""
    active_flows: int
    """Far below a limit, where nobody is held back, not all are counted."""
    passed_bytes: int
    passed_packets: int
    dropped_bytes: int
    dropped_packets: int
    marked_packets: int
    limited_seconds: float
    """Time spent at the limit."""
    delay_ms: float = 0.0
    """That a packet meets which has to wait its turn; sparse flows do not wait."""
    request_bits_per_second: int = 0
    """Guaranteed when something is short; 0: nothing."""
    total_bits_per_second: int | None = None
    """Its group's on this node; None: not bounded."""
    current_bits_per_second: int | None = None
    """What it may use now, as its group or its node is short; None: nothing is."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target as the daemon and the kernel see it."""

    target: str
    cgroup_path: str
    cgroup_id: int
    mode: Mode
    exempt_cidrs: tuple[str, ...]
    ingress: DirectionStatus | None
    egress: DirectionStatus | None
    earlier_sockets: str
    """How sockets that were open before the limit are paced."""
    group: str = ""
    """``namespace:NAME`` or ``group:NAME``; empty where no total is set."""


@dataclass(frozen=True, slots=True)
class TargetList:
    """All targets, sorted by name."""

    targets: tuple[TargetStatus, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Everything that is wrong, at once."""

    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Answers only when the daemon can attach."""

    version: str
    abi: int
    source_hash: str
    cgroup_root: str
    """Where the daemon sees cgroup v2."""
    features: dict[str, str] = field(default_factory=dict)
    """Kernel feature to ``supported`` or why not."""
