"""One cell under one limiter, measured."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.cells import Cell
from bench.limiters import Limiter, Policer, Unlimited
from bench.ours import Podpace
from bench.rig import (
    CpuMeter,
    FrameCounter,
    Rig,
    RigError,
    bpf_stats,
    bulk,
    negotiating_ecn,
    path_delay,
    path_mtu,
    ping,
    socket_counters,
)
from bench.rig.counters import BpfStats
from bench.rig.iperf import RunningBulk
from bench.turns import throughput_left
from contract.names import Direction

HIGH_LIMIT_BITS_PER_SEC = 10**12
"""A limit nobody reaches: what being attached costs."""
# Frames are counted between these, so that neither the start nor the end is in it.
_SKIP_START_SECONDS = 1.2
_SKIP_END_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row of the tables. ``None`` where it does not apply."""

    cell: str
    limiter: str
    seconds: float
    measured_at: float
    """Seconds since 1970."""
    error: str | None = None
    """Why there are no figures."""
    note: str | None = None
    """Why some figures come from another instrument, or are missing."""
    goodput_bits_per_sec: float = 0.0
    """Payload, after the first second."""
    utilisation: float | None = None
    """Goodput as a part of what full frames carry within the limit."""
    frames_of_limit: float | None = None
    """Counted frame bytes as a part of limit x time, after the first second."""
    first_second_frame_bytes: int = 0
    retransmits: int | None = None
    """Over the whole run."""
    resent_part: float | None = None
    """TCP: of the segments after the first second."""
    lost_part: float | None = None
    """UDP: lost of sent."""
    jain_index: float | None = None
    """After two seconds; 1 is fair."""
    ping_p50_ms: float = 0.0
    ping_p99_ms: float = 0.0
    pings_lost: int = 0
    cpu_seconds_per_gigabit: float = 0.0
    program_ns_per_packet: float | None = None
    """Of the direction's skb program, per run: a GSO packet is one."""
    commit: str = ""
    """Podpace's."""
    throughput_left: Sequence[float] = ()
    """No limit: quartiles of what being attached leaves, in turns on the same connections."""

    def to_json(self) -> dict[str, Any]:
        """As it is kept in results.jsonl."""
        return asdict(self)


def measure(rig: Rig, limiter: Limiter, cell: Cell, seconds: float) -> Measurement:
    """Never raises for what a limiter does to the traffic: that is a result too."""
    at = time.time()
    limit = cell.limit_bits_per_sec or HIGH_LIMIT_BITS_PER_SEC
    try:
        with (
            path_mtu(rig, cell.mtu_bytes),
            path_delay(rig, cell.rtt_ms),
            negotiating_ecn(rig, cell.ecn),
            limiter.applied(rig, cell.direction, limit),
            bpf_stats() as stats,
        ):
            measured = _measure(rig, limiter, cell, stats, seconds=seconds, at=at)
        if cell.limit_bits_per_sec or isinstance(limiter, Unlimited):
            return measured
        parts = throughput_left(rig, limiter, cell, limit)
        return replace(measured, throughput_left=statistics.quantiles(parts, n=4))
    except RigError as e:
        return Measurement(cell.key, limiter.name, seconds, at, error=str(e))


def _measure(
    rig: Rig, limiter: Limiter, cell: Cell, stats: BpfStats, *, seconds: float, at: float
) -> Measurement:
    load = cell.load(seconds)
    before = _program_runs(rig, limiter, cell.direction, stats)
    cpu = CpuMeter()
    with ping(rig, seconds, cell.family) as pings, bulk(rig, load) as running:
        steady = _watch(rig, limiter, cell, running, seconds)
        cpu_seconds = cpu.seconds()
        note, result = None, None
        try:
            result = running.result()
        except RigError as e:
            note = f"{e}; goodput is from counted frames"
        answered = pings.result()
    after = _program_runs(rig, limiter, cell.direction, stats)
    frame_bits_per_sec = steady.frame_bits_per_sec
    if result is not None:
        goodput = result.goodput_bits_per_sec()
        if cell.is_udp and cell.direction is Direction.INGRESS:
            frame_bits_per_sec = goodput / load.payload_of_frame
    else:
        goodput = frame_bits_per_sec * load.payload_of_frame
    limit = cell.limit_bits_per_sec
    runs = after[1] - before[1]
    measurement = Measurement(
        cell=cell.key,
        limiter=limiter.name,
        seconds=seconds,
        measured_at=at,
        note=note,
        goodput_bits_per_sec=goodput,
        utilisation=goodput / (load.payload_of_frame * limit) if limit else None,
        frames_of_limit=frame_bits_per_sec / limit if limit else None,
        retransmits=None if cell.is_udp else steady.retransmits,
        resent_part=None if cell.is_udp else steady.resent_part,
        ping_p50_ms=answered.p50_ms,
        ping_p99_ms=answered.p99_ms,
        pings_lost=answered.lost,
        cpu_seconds_per_gigabit=cpu_seconds * 1e9 / (goodput * seconds) if goodput else 0.0,
        program_ns_per_packet=(after[0] - before[0]) / runs if runs else None,
    )
    if result is None:
        return measurement
    return replace(
        measurement,
        first_second_frame_bytes=result.first_second_frame_bytes(),
        retransmits=None if cell.is_udp else result.retransmits,
        lost_part=result.lost_datagrams / max(1, result.sent_datagrams) if cell.is_udp else None,
        jain_index=result.jain_index() if cell.flows > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Steady:
    """Counted between the start and the end of a run, without iperf3's help."""

    frame_bits_per_sec: float
    retransmits: int
    resent_part: float


def _watch(rig: Rig, limiter: Limiter, cell: Cell, running: RunningBulk, seconds: float) -> _Steady:
    """Frames on the wire, or past a program on the pod's cgroup that drops them (ingress, TCP).

    For UDP ingress the frames before the programs: the receiver knows what came through.
    """
    sender, _ = rig.ends(cell.direction)
    behind_programs = (
        isinstance(limiter, Policer) and cell.direction is Direction.INGRESS and not cell.is_udp
    )
    counter = FrameCounter(rig, cell.direction)

    def wait_until(offset_seconds: float) -> None:
        time.sleep(max(0.0, running.started_at + offset_seconds - time.monotonic()))

    wait_until(_SKIP_START_SECONDS)
    sockets, sent, frames = socket_counters(rig.pod), socket_counters(sender), counter.read()
    wait_until(seconds - _SKIP_END_SECONDS)
    sent_until = socket_counters(sender)
    later = sent_until - sent
    if behind_programs:
        counted = socket_counters(rig.pod) - sockets
        bits_per_sec = counted.received_frame_bytes(cell.family) * 8 / counted.at_seconds
    else:
        bits_per_sec = (counter.read() - frames).bits_per_sec
    resent_part = later.retransmitted_segments / max(1, later.sent_segments)
    return _Steady(bits_per_sec, sent_until.retransmitted_segments, resent_part)


def _program_runs(
    rig: Rig, limiter: Limiter, direction: Direction, stats: BpfStats
) -> tuple[int, int]:
    """(ns, runs) of the direction's programs on the pod's cgroup so far."""
    if not isinstance(limiter, Podpace | Policer):
        return 0, 0
    programs = stats.of_cgroup(rig.cgroup, direction).values()
    return sum(p.run_time_ns for p in programs), sum(p.run_count for p in programs)
