"""One transfer whose limit is set and changed while it runs, sampled ten times a second."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from bench.limiters import Limiter
from bench.rig import (
    Rig,
    RigError,
    SocketCounters,
    TcpLoad,
    bulk,
    ping,
    shielded,
    socket_counters,
)
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
    """Samples the receiver's sockets in a thread of its own, also while a limit is being set."""

    def __init__(self, rig: Rig, direction: Direction, watch: Watch) -> None:
        self._sender, self._receiver = rig.ends(direction)
        self._watch = watch
        self._stop = threading.Event()
        self._error: RigError | None = None
        self._thread = threading.Thread(target=self._sample)
        self.limit: int | None = None
        self.samples: list[SocketCounters] = [socket_counters(self._receiver)]

    def __enter__(self) -> Self:
        with shielded():  # the thread inherits the mask: signals stay with the main thread
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def started_at(self) -> float:
        """time.monotonic() of the first sample."""
        return self.samples[0].at_seconds

    def mark(self) -> tuple[int | None, float, int]:
        """(limit, now, retransmits so far). Raises RigError when sampling has failed."""
        if self._error is not None:
            raise self._error
        counted = socket_counters(self._sender)
        return self.limit, time.monotonic(), counted.retransmitted_segments

    def _sample(self) -> None:
        try:
            while not self._stop.wait(SAMPLE_SECONDS):
                last, sample = self.samples[-1], socket_counters(self._receiver)
                self.samples.append(sample)
                at = sample.at_seconds - self.started_at
                self._watch(self.limit, at, _rate(sample - last))
        except RigError as e:
            self._error = e


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
    limited_seconds = phase_seconds * len(limits)
    with ExitStack() as stack:
        # Attaching takes a moment; the load is ended by us and not by its own clock.
        load = TcpLoad(direction, seconds=free_seconds + limited_seconds + 20)
        stack.enter_context(bulk(rig, load))
        _wait_for_flow(rig, direction)
        pings = stack.enter_context(ping(rig, free_seconds + limited_seconds))
        recorder = stack.enter_context(_Recorder(rig, direction, watch))
        marks = [recorder.mark()]
        time.sleep(free_seconds)
        change = None
        for limit in limits:
            if change is None:
                change = stack.enter_context(limiter.applied(rig, direction, limit))
            else:
                change(limit)
            recorder.limit = limit
            marks.append(recorder.mark())
            time.sleep(phase_seconds)
        marks.append(recorder.mark())
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
    last = marks[-1][1]  # what came later saw the limiter taken off again
    pairs = [pair for pair in itertools.pairwise(samples) if pair[1].at_seconds <= last]
    return Timeline(
        limiter,
        direction,
        tuple(later.at_seconds - zero for _, later in pairs),
        tuple(_rate(later - earlier) for earlier, later in pairs),
        tuple(phases),
    )
