"""One target's records in the maps of a generation. Everything here raises OSError."""

import time
from collections.abc import Iterable
from typing import Final

from contract.limits import Limits
from contract.names import Direction, Mode
from enforcer.datapath import abi, libbpf, state_abi
from enforcer.datapath.layout import layout_of
from enforcer.datapath.pins import Generation
from enforcer.state import Counters, Rates, Used, Way, bound

_IDLE_NS: Final = 2 * abi.NSEC_PER_SEC
_WHY_POLICED: Final = "nothing shapes or paces incoming traffic on this target"


def put_limits(generation: Generation, cgroup_id: int, record: bytes) -> None:
    """Write every CPU's copy of a target's limits: in force from here on."""
    copies = record * libbpf.possible_cpus()
    libbpf.map_update(generation.fds["target_limits"], abi.map_key(cgroup_id), copies)


def read_limits(generation: Generation, cgroup_id: int) -> bytes | None:
    """One CPU's copy of a target's limits; None where nothing was ever written."""
    value = libbpf.map_lookup(
        generation.fds["target_limits"],
        abi.map_key(cgroup_id),
        abi.LIMITS_BYTES * libbpf.possible_cpus(),
    )
    return None if value is None else value[: abi.LIMITS_BYTES]


def frees_sockets(before: bytes | None, limits: Limits, way: Way) -> bool:
    """Whether a change takes the pace or the window bound off, which silent sockets keep else."""
    held = abi.decode_limits(before, ()) if before is not None else None
    if before is None or held is None or held.mode is Mode.OBSERVE:
        return False
    bounded = held.ingress and abi.decode_flags(before) & abi.FLAG_INGRESS_SHAPED
    paced = bound(limits, Direction.EGRESS)
    bounds = bound(limits, Direction.INGRESS) and way.is_shaped
    if limits.mode is Mode.OBSERVE:
        paced, bounds = None, None
    return bool((held.egress and not paced) or (bounded and not bounds))


def read_state(generation: Generation, cgroup_id: int) -> state_abi.PodState | None:
    """A target's state, consistent; None where there is no record."""
    value = libbpf.map_lookup(
        generation.fds["target_state"], abi.map_key(cgroup_id), state_abi.STATE_BYTES, locked=True
    )
    return None if value is None else state_abi.decode_state(value)


def start_state(generation: Generation, cgroup_id: int, older: Iterable[Generation]) -> None:
    """Fresh state, or what an older generation, of any ABI, had counted; the last one's counts."""
    value = bytes(state_abi.STATE_BYTES)
    for other in older:
        state = _older_state(other, cgroup_id)
        if state is not None:
            value = state_abi.encode_state(state)
    libbpf.map_update(generation.fds["target_state"], abi.map_key(cgroup_id), value, locked=True)


def _older_state(generation: Generation, cgroup_id: int) -> state_abi.PodState | None:
    if "target_state" not in generation.fds:
        return None
    map_fd = generation.fds["target_state"]
    try:
        layout = layout_of(map_fd)
    except OSError:  # a kernel that keeps no type info: counters and share start anew
        return None
    value = libbpf.map_lookup(
        map_fd,
        abi.map_key(cgroup_id),
        layout.value_bytes,
        locked=any(name.startswith("lock") for name in layout.numbers),
    )
    return None if value is None else state_abi.take_over_state(value, layout.numbers)


def read_used(generation: Generation, cgroup_id: int) -> Used | None:
    """Bytes that have passed; None where there is no record."""
    value = libbpf.map_lookup(
        generation.fds["target_state"], abi.map_key(cgroup_id), state_abi.STATE_BYTES, locked=True
    )
    return None if value is None else state_abi.decode_used(value)


def read_wanted_ns(generation: Generation) -> int:
    """When somebody that shares last used all it has; 0: never."""
    value = libbpf.map_lookup(generation.fds["sharing_wanted"], bytes(4), 8)
    return 0 if value is None else abi.decode_count(value)


def counters(
    direction: Direction, state: state_abi.DirectionState, limits: Limits, rates: Rates
) -> Counters:
    """One direction for people: an idle target's last share and flows are not news."""
    idle = time.monotonic_ns() - state.refilled_at_ns > _IDLE_NS
    limit, given = bound(limits, direction), rates.of(direction)
    rate = limit.rate_bytes_per_sec if limit else 0
    if given is not None:
        rate = min(rate or given.current, given.current)
    if limits.mode is Mode.OBSERVE:
        enforcement, why = "observed", "observe mode: nothing is paced or dropped"
    elif direction is Direction.EGRESS:
        enforcement, why = "paced", ""
    else:
        enforcement, why = "policed", _WHY_POLICED
    return Counters(
        share_bytes_per_sec=rate if idle else min(state.share_bytes_per_sec, rate),
        active_flows=0 if idle else max(state.active_flows, state.window_flows),
        passed_bytes=state.passed_bytes + state.taken_bytes,
        passed_packets=state.passed_packets + state.taken_packets,
        dropped_bytes=state.dropped_bytes,
        dropped_packets=state.dropped_packets,
        marked_packets=state.marked_packets,
        limited_ns=state.limited_ns,
        enforcement=enforcement,
        why=why,
        current_bytes_per_sec=given.current if given is not None and rates.until_ns else None,
        local_bytes=state.local_bytes,
    )
