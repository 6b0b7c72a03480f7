"""Pure: a target and its counters, as the control socket tells them."""

from contract.api import DirectionStatus, TargetStatus
from contract.limits import BITS_PER_BYTE, Limits
from contract.names import Direction
from enforcer.state import Counters, Target, TargetCounters

_NS_PER_SECOND = 1e9
_NS_PER_MILLISECOND = 1e6


def to_status(target: Target, counters: TargetCounters) -> TargetStatus:
    """One target's line in ``list`` and ``show``."""
    return TargetStatus(
        target=target.name,
        cgroup_path=target.cgroup_path,
        cgroup_id=target.cgroup_id,
        mode=target.limits.mode,
        exempt_cidrs=target.limits.exempt_cidrs,
        ingress=_direction(target.limits, Direction.INGRESS, counters.ingress),
        egress=_direction(target.limits, Direction.EGRESS, counters.egress),
        earlier_sockets=counters.earlier_sockets,
        group=target.limits.group,
    )


def _direction(limits: Limits, direction: Direction, counters: Counters) -> DirectionStatus | None:
    if not limits.concerns(direction):
        return None
    limit, sharing = limits.of(direction), limits.sharing(direction)
    return DirectionStatus(
        bits_per_second=None if limit is None else limit.bits_per_second,
        burst_bits=0 if limit is None else limit.burst_bits,
        enforcement=counters.enforcement,
        why=counters.why,
        share_bytes_per_sec=counters.share_bytes_per_sec,
        active_flows=counters.active_flows,
        passed_bytes=counters.passed_bytes,
        passed_packets=counters.passed_packets,
        dropped_bytes=counters.dropped_bytes,
        dropped_packets=counters.dropped_packets,
        marked_packets=counters.marked_packets,
        limited_seconds=counters.limited_ns / _NS_PER_SECOND,
        delay_ms=counters.delay_ns / _NS_PER_MILLISECOND,
        request_bits_per_second=sharing.request_bits_per_second,
        total_bits_per_second=sharing.total_bits_per_second,
        current_bits_per_second=None
        if counters.current_bytes_per_sec is None
        else counters.current_bytes_per_sec * BITS_PER_BYTE,
    )
