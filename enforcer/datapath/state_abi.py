"""User space's view of the state in bpf/limit.h; tests/kernel/test_layout.py compares the two."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.names import Direction
from enforcer.state import Used

_DIRECTION: Final = struct.Struct("=q23Q")
_STATE: Final = struct.Struct(f"=II4Q8x{_DIRECTION.size}s{_DIRECTION.size}s")
STATE_BYTES: Final = _STATE.size


@dataclass(frozen=True, slots=True)
class DirectionState:
    """struct direction_state."""

    tokens_bytes: int
    granted_bytes: int
    taken_bytes: int
    taken_packets: int
    epoch_rate_bytes_per_sec: int
    refilled_at_ns: int
    epoch_started_at_ns: int
    epoch_length_ns: int
    epoch_bytes: int
    epoch_enough_bytes: int
    passed_bytes: int
    passed_packets: int
    epoch: int
    window_flows: int
    stray_window: int
    share_bytes_per_sec: int
    active_flows: int
    greedy_flows_q8: int
    dropped_at_ns: int
    dropped_bytes: int
    dropped_packets: int
    marked_packets: int
    limited_ns: int
    local_bytes: int


@dataclass(frozen=True, slots=True)
class PodState:
    """struct pod_state."""

    rtt_ns: int
    multicast_packet: int
    multicast_at_ns: int
    multicast_refused: int
    ingress: DirectionState
    egress: DirectionState


def decode_state(value: bytes) -> PodState:
    """A value of target_state."""
    _lock, _reserved, *words, ingress, egress = _STATE.unpack(value)
    directions = (DirectionState(*_DIRECTION.unpack(side)) for side in (ingress, egress))
    return PodState(*(*words, *directions))


def encode_state(state: PodState) -> bytes:
    """The inverse of :func:`decode_state`, lock free."""
    directions = [
        _DIRECTION.pack(*(getattr(side, name) for name in DirectionState.__slots__))
        for side in (state.ingress, state.egress)
    ]
    words = [getattr(state, name) for name in PodState.__slots__[:-2]]
    return _STATE.pack(0, 0, *words, *directions)


def take_over_state(value: bytes, numbers: Mapping[str, slice]) -> PodState:
    """What a record of any ABI holds of a state; 0 where it has no number of that name."""

    def number(name: str) -> int:
        signed = name.endswith("tokens_bytes")
        return int.from_bytes(value[numbers.get(name, slice(0))], "little", signed=signed)

    def direction(side: Direction) -> DirectionState:
        return DirectionState(*(number(f"{side}.{name}") for name in DirectionState.__slots__))

    words: list[Any] = [number(name) for name in PodState.__slots__[:-2]]
    return PodState(*words, *map(direction, Direction))


_USED_WORDS: Final = tuple(
    map(DirectionState.__slots__.index, ("taken_bytes", "passed_bytes", "local_bytes"))
)
_USED: Final = tuple(
    struct.Struct(f"={_STATE.size - (2 - number) * _DIRECTION.size + 8 * word}xQ")
    for number in range(2)
    for word in _USED_WORDS
)


def decode_used(value: bytes) -> Used:
    """Of :func:`decode_state` what is asked often."""
    words = [one.unpack_from(value)[0] for one in _USED]
    return Used(words[0] + words[1], words[3] + words[4], words[2], words[5])
