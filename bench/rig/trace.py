"""Every frame at the host's end of the pod's veth, by the kernel's own clock."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.rig.process import RigError
from bench.rig.topology import POD_PORT, Rig
from contract.names import Direction
from enforcer.net.namespaces import in_namespace

BIN_SECONDS: Final = 0.01
_ALL_PROTOCOLS: Final = 3
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_VNET_HDR = 263, 6, 15
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35  # which Python does not name
_VNET: Final = struct.Struct("=BBHHHH")
_TIMESPEC: Final = struct.Struct("=qq")
_RECEIVE_BYTES: Final = 64 << 20
_SEGMENT_HEADER_BYTES: Final = 66
"""Ethernet, IPv4, TCP with timestamps: what each segment of a GSO packet has."""


class FrameTrace:
    """Frame bytes in bins of 10 ms; times are ``time.time()``."""

    def __init__(self) -> None:
        self._bins: dict[Direction, dict[int, int]] = {d: defaultdict(int) for d in Direction}

    def add(self, direction: Direction, at_seconds: float, frame_bytes: int) -> None:
        """One packet."""
        self._bins[direction][int(at_seconds / BIN_SECONDS)] += frame_bytes

    def _between(self, direction: Direction, start: float, end: float) -> list[int]:
        bins = self._bins[direction]
        return [bins.get(n, 0) for n in range(int(start / BIN_SECONDS), int(end / BIN_SECONDS))]

    def bits_per_sec(self, direction: Direction, start: float, end: float) -> float:
        """The rate of a span."""
        found = self._between(direction, start, end)
        return sum(found) * 8 / (len(found) * BIN_SECONDS) if found else 0.0

    def extremes_bits_per_sec(
        self, direction: Direction, start: float, end: float, seconds: float = 0.1
    ) -> tuple[float, float]:
        """Lowest and highest rate of any interval of that length, wherever it begins."""
        found, length = self._between(direction, start, end), round(seconds / BIN_SECONDS)
        sums = [sum(found[i : i + length]) for i in range(len(found) - length + 1)] or [0]
        return min(sums) * 8 / seconds, max(sums) * 8 / seconds


def _open(rig: Rig) -> socket.socket:
    """A packet socket at that interface."""
    namespace = f"/run/netns/{rig.node.namespace}"
    protocol = socket.htons(_ALL_PROTOCOLS)
    found = in_namespace(
        namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    )
    found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
    found.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    found.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    found.settimeout(0.2)
    found.bind((POD_PORT, _ALL_PROTOCOLS))
    return found


def _read(frames: socket.socket, trace: FrameTrace) -> None:
    """One packet. What the interface sends goes to the pod; what it receives comes from there."""
    start = bytearray(_VNET.size)
    try:
        length, told, _, address = frames.recvmsg_into([start], 64, socket.MSG_TRUNC)
    except TimeoutError:
        return
    _, _, _, segment_bytes, _, _ = _VNET.unpack(start)
    frame_bytes = length - _VNET.size
    if segment_bytes:
        segments = -(-(frame_bytes - _SEGMENT_HEADER_BYTES) // segment_bytes)
        frame_bytes += (segments - 1) * _SEGMENT_HEADER_BYTES
    seconds, nanoseconds = _TIMESPEC.unpack(told[0][2])
    is_outgoing = address[2] == socket.PACKET_OUTGOING
    direction = Direction.INGRESS if is_outgoing else Direction.EGRESS
    trace.add(direction, seconds + nanoseconds / 1e9, frame_bytes)


@contextmanager
def traced(rig: Rig) -> Iterator[FrameTrace]:
    """Traces while the block runs. Raises RigError at its end where frames were missed."""
    trace, ending = FrameTrace(), threading.Event()
    with _open(rig) as frames:

        def follow() -> None:
            while not ending.is_set():
                _read(frames, trace)

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield trace
        finally:
            ending.set()
            thread.join()
        statistics = frames.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, missed = struct.unpack("=II", statistics)
    if missed:
        raise RigError(f"{missed} frames were not traced")
