"""One transfer whose limit is set and changed while it runs, sampled ten times a second."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.limiters import Limiter
from bench.rig import Rig, RigError, SocketCounters, TcpLoad, bulk, ping, socket_counters
from bench.rig.probes import PingResult
from contract.names import Direction

SAMPLE_SECONDS = 0.1
# Rates and pings of a phase are taken after this: they show the limit and not the change.
_SETTLE_SECONDS = 1.0
_START_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a timeline under one limit; times count from the first limit."""

    limit_bits_per_sec: int | None
    start_seconds: float
    end_seconds: float
    goodput_bits_per_sec: float
    retransmits: int
    pings: PingResult


@dataclass(frozen=True, slots=True)
class Timeline:
    """What one limiter made of the transfer."""

    limiter: str
    direction: Direction
    at_seconds: tuple[float, ...]
    """Zero is when the first limit was in force."""
    goodput_bits_per_sec: tuple[float, ...]
    phases: tuple[Phase, ...]


Watch = Callable[[int | None, float, float], None]
"""Told at every sample: the limit, seconds since the start, bits per second."""


class _Recorder:
    """Samples the receiver's and the sender's sockets until told to stop."""

    def __init__(self, rig: Rig, direction: Direction, watch: Watch) -> None:
        self._sender, self._receiver = rig.ends(direction)
        self._watch = watch
        self.samples: list[SocketCounters] = [socket_counters(self._receiver)]
        self.started_at = self.samples[0].at_seconds

    def retransmits(self) -> int:
        return socket_counters(self._sender).retransmitted_segments

    def until(self, end_seconds: float, limit: int | None) -> None:
        """Samples up to a moment of time.monotonic()."""
        while (now := time.monotonic()) < end_seconds:
            time.sleep(min(SAMPLE_SECONDS, end_seconds - now))
            last, sample = self.samples[-1], socket_counters(self._receiver)
            self.samples.append(sample)
            self._watch(limit, sample.at_seconds - self.started_at, _rate(sample - last))


def _rate(difference: SocketCounters) -> float:
    return max(0.0, difference.received_bytes * 8 / difference.at_seconds)


def record(
    rig: Rig,
    limiter: Limiter,
    direction: Direction,
    limits: Sequence[int],
    *,
    phase_seconds: float,
    free_seconds: float,
    watch: Watch,
) -> Timeline:
    """Runs one flow without a limit, then under each limit in turn. Raises RigError."""
    # Attaching takes a moment; the load is ended by us and not by its own clock.
    longest = free_seconds + phase_seconds * len(limits) + 10
    with ExitStack() as stack:
        stack.enter_context(bulk(rig, TcpLoad(direction, seconds=longest)))
        _wait_for_flow(rig, direction)
        ping_seconds = free_seconds + phase_seconds * len(limits)
        pings = stack.enter_context(ping(rig, ping_seconds))
        recorder = _Recorder(rig, direction, watch)
        retransmits = recorder.retransmits()
        marks: list[tuple[int | None, float, int]] = [(None, recorder.started_at, retransmits)]
        recorder.until(recorder.started_at + free_seconds, None)
        change = None
        for limit in limits:
            if change is None:
                change = stack.enter_context(limiter.applied(rig, direction, limit))
            else:
                change(limit)
            marks.append((limit, time.monotonic(), recorder.retransmits()))
            recorder.until(time.monotonic() + phase_seconds, limit)
        marks.append((None, time.monotonic(), recorder.retransmits()))
        answered = pings.result()
    return _timeline(limiter.name, direction, recorder.samples, marks, answered)


def _wait_for_flow(rig: Rig, direction: Direction) -> None:
    """iperf3's data connection carries data: sampling can begin."""
    _, receiver = rig.ends(direction)
    end = time.monotonic() + _START_TIMEOUT_SECONDS
    while socket_counters(receiver).received_bytes < 100_000:
        if time.monotonic() > end:
            raise RigError("iperf3 started no transfer: run iperf3 by hand to see why")
        time.sleep(0.02)


def _timeline(
    limiter: str,
    direction: Direction,
    samples: list[SocketCounters],
    marks: list[tuple[int | None, float, int]],
    answered: PingResult,
) -> Timeline:
    zero = marks[1][1]
    phases = []
    for (limit, start, before), (_, end, after) in itertools.pairwise(marks):
        settled = start + (_SETTLE_SECONDS if limit else 0)
        inside = [s for s in samples if settled <= s.at_seconds <= end]
        rate = _rate(inside[-1] - inside[0]) if len(inside) > 1 else 0.0
        pings = answered.between(settled, end)
        phases.append(Phase(limit, start - zero, end - zero, rate, after - before, pings))
    pairs = list(itertools.pairwise(samples))
    return Timeline(
        limiter,
        direction,
        tuple(later.at_seconds - zero for _, later in pairs),
        tuple(_rate(later - earlier) for earlier, later in pairs),
        tuple(phases),
    )
