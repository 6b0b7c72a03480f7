"""What the programs keep of a socket: struct flow of bpf/limit.h, which the daemon never reads."""

import struct
from dataclasses import dataclass
from typing import Final

_FLOW: Final = struct.Struct("=4Q4I5Q8I")
FLOW_BYTES: Final = _FLOW.size


@dataclass(frozen=True, slots=True)
class Flow:
    """struct flow."""

    paced_by: int = 0
    share_bytes_per_sec: int = 0
    window: int = 0
    outer_window: int = 0
    pacing_bytes_per_sec: int = 0
    app_pacing_bytes_per_sec: int = 0
    cwnd_clamp: int = 0
    pace_passed_over: int = 0
    bounded_by: int = 0
    window_share_bytes_per_sec: int = 0
    received_window: int = 0
    outer_received_window: int = 0
    window_received: int = 0
    window_bytes: int = 0
    app_window_bytes: int = 0
    receive_buffer_bytes: int = 0
    window_passed_over: int = 0
    acked_sequence: int = 0
    heard: int = 0
    acks_heard: int = 0
    on_loopback: int = 0


def decode_flow(value: bytes) -> Flow:
    """A value of flows."""
    return Flow(*_FLOW.unpack(value))


def encode_flow(flow: Flow) -> bytes:
    """The inverse of :func:`decode_flow`."""
    return _FLOW.pack(*(getattr(flow, name) for name in Flow.__slots__))
