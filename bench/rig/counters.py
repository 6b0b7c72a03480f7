"""Counters that are true: frames, sockets, CPU time, and the cost of BPF programs."""

import ctypes
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.rig.process import Place, RigError
from bench.rig.topology import PEER_PORT, POD_PORT, Rig
from contract.names import Direction


@dataclass(frozen=True, slots=True)
class Frames:
    """Ethernet frames as they would be on the wire, at one moment."""

    at_seconds: float
    """time.monotonic()"""
    frame_bytes: int
    packets: int
    """Segments, not GSO packets."""

    def __sub__(self, earlier: Self) -> "Frames":
        return Frames(
            self.at_seconds - earlier.at_seconds,
            self.frame_bytes - earlier.frame_bytes,
            self.packets - earlier.packets,
        )

    @property
    def bits_per_sec(self) -> float:
        """Of a difference: its rate."""
        return self.frame_bytes * 8 / self.at_seconds


class FrameCounter:
    """Frames that left the node's port towards the peer (egress) or the pod (ingress).

    A veth counts a GSO packet once and its headers once. The qdisc layer knows better
    (``qdisc_pkt_len`` adds the headers of every segment), so the statistics of the root qdisc are
    read: the rig's ``pfifo``, or the limiter that took its place, which counts what it lets out.
    Ingress frames are counted before a program on the pod's cgroup drops some of them: use
    :func:`socket_counters` for what got through.
    """

    def __init__(self, rig: Rig, direction: Direction) -> None:
        self._node = rig.node
        self._port = PEER_PORT if direction is Direction.EGRESS else POD_PORT

    def read(self) -> Frames:
        """The counters now."""
        said = self._node.run("tc", "-s", "-j", "qdisc", "show", "dev", self._port, "root")
        at = time.monotonic()
        root = next(q for q in json.loads(said) if q.get("root"))
        return Frames(at, root["bytes"], root["packets"])


@dataclass(frozen=True, slots=True)
class SocketCounters:
    """Sums over all established TCP sockets of a place."""

    at_seconds: float
    received_bytes: int
    """Payload."""
    received_segments: int
    """Segments the socket saw: after cgroup programs dropped theirs."""
    sent_segments: int
    retransmitted_segments: int

    def __sub__(self, earlier: Self) -> "SocketCounters":
        return SocketCounters(
            self.at_seconds - earlier.at_seconds,
            self.received_bytes - earlier.received_bytes,
            self.received_segments - earlier.received_segments,
            self.sent_segments - earlier.sent_segments,
            self.retransmitted_segments - earlier.retransmitted_segments,
        )

    def received_frame_bytes(self, family: int = 4) -> int:
        """Payload plus the headers of every segment (Ethernet, IP, TCP with timestamps)."""
        return (
            self.received_bytes
            + self.received_segments * {4: 14 + 20 + 32, 6: 14 + 40 + 32}[family]
        )


def socket_counters(place: Place) -> SocketCounters:
    """TCP's own counters, from ``ss -i``. Differences hold while the same sockets are open."""
    said = place.run("ss", "-tinHO", "state", "established")
    at = time.monotonic()

    def total(field: str) -> int:
        return sum(map(int, re.findall(rf"\b{field}:(?:\d+/)?(\d+)", said)))

    return SocketCounters(
        at,
        total("bytes_received"),
        total("segs_in"),
        total("segs_out"),
        total("retrans"),
    )


class CpuMeter:
    """CPU seconds the machine was busy since the meter was made.

    From /proc/stat, because softirqs and pacing timers run outside every cgroup. Processes with a
    positive nice value are left out: whatever else runs on the machine meanwhile should have one.
    """

    def __init__(self) -> None:
        self._start = self._busy_seconds()

    @staticmethod
    def _busy_seconds() -> float:
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, _nice, system, _idle, _iowait, irq, softirq = map(int, first.split()[1:8])
        return (user + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    def seconds(self) -> float:
        """Busy seconds until now, over all cores."""
        return self._busy_seconds() - self._start


class _ProgramInfo(ctypes.Structure):
    """``struct bpf_prog_info`` up to the run-time counters."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("lengths", ctypes.c_uint32 * 2),
        ("instructions", ctypes.c_uint64 * 2),
        ("load_time_ns", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("between", ctypes.c_uint8 * 112),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
    )


_RUN_TIME_OFFSET = 192
_ATTACH_TYPES: dict[Direction | None, tuple[int, ...]] = {
    Direction.INGRESS: (0,),
    Direction.EGRESS: (1,),
    None: (0, 1, 3),
}
"""BPF_CGROUP_INET_INGRESS, BPF_CGROUP_INET_EGRESS; without a direction BPF_CGROUP_SOCK_OPS too."""


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """One program's run-time counters since statistics were switched on."""

    name: str
    run_time_ns: int
    run_count: int

    @property
    def ns_per_run(self) -> float:
        """Average; a GSO packet of up to 64 KiB is one run."""
        return self.run_time_ns / self.run_count if self.run_count else 0.0


class BpfStats:
    """Reads the counters of the programs attached to a cgroup."""

    def __init__(self, libbpf: ctypes.CDLL) -> None:
        self._libbpf = libbpf

    def of_cgroup(
        self, cgroup: Path, direction: Direction | None = None
    ) -> dict[int, ProgramStats]:
        """By program id, for the programs attached to ``cgroup`` itself.

        With a direction its skb programs only, else all skb and sock_ops programs.
        """
        found = {}
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for attach_type in _ATTACH_TYPES[direction]:
                ids = (ctypes.c_uint32 * 64)()
                count = ctypes.c_uint32(len(ids))
                refused = self._libbpf.bpf_prog_query(
                    directory, attach_type, 0, None, ids, ctypes.byref(count)
                )
                if refused:
                    raise RigError(f"BPF_PROG_QUERY on {cgroup}: {os.strerror(-refused)}")
                for program_id in ids[: count.value]:
                    found[program_id] = self._stats(program_id)
        finally:
            os.close(directory)
        return found

    def of_pins(self, directory: Path) -> dict[int, ProgramStats]:
        """By program id, for every program that is pinned below ``directory``."""
        found = {}
        for path in directory.rglob("*"):
            pinned = self._libbpf.bpf_obj_get(os.fsencode(path)) if path.is_file() else -1
            if pinned < 0:
                continue
            if "bpf-prog" in str(Path(f"/proc/self/fd/{pinned}").readlink()):
                info = self._info(pinned)
                found[info.id] = _as_stats(info)
            else:
                os.close(pinned)
        return found

    def _stats(self, program_id: int) -> ProgramStats:
        program = self._libbpf.bpf_prog_get_fd_by_id(program_id)
        if program < 0:
            raise RigError(f"BPF program {program_id} went away while it was measured")
        return _as_stats(self._info(program))

    def _info(self, program: int) -> _ProgramInfo:
        """Of a program's descriptor, which is closed."""
        try:
            info = _ProgramInfo()
            length = ctypes.c_uint32(ctypes.sizeof(info))
            self._libbpf.bpf_obj_get_info_by_fd(program, ctypes.byref(info), ctypes.byref(length))
        finally:
            os.close(program)
        return info


def _as_stats(info: _ProgramInfo) -> ProgramStats:
    return ProgramStats(info.name.decode(), info.run_time_ns, info.run_count)


@contextmanager
def bpf_stats() -> Iterator[BpfStats]:
    """Switches the kernel's BPF statistics on for as long as the block runs (no sysctl is left)."""
    assert _ProgramInfo.run_time_ns.offset == _RUN_TIME_OFFSET
    libbpf = ctypes.CDLL("libbpf.so.1")
    switch = libbpf.bpf_enable_stats(0)
    if switch < 0:
        raise RigError(f"BPF statistics cannot be switched on: {os.strerror(-switch)}: be root")
    try:
        yield BpfStats(libbpf)
    finally:
        os.close(switch)
