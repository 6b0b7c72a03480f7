"""Paced flows under one controller, in simulated time.

A flow sends what a socket paced by TCP sends: a millisecond of its pace at once, two frames at
least, and follows a new share one round trip late. The accounting is the egress program's.
"""

import bisect
import heapq
from dataclasses import dataclass, field

from tests.unit.bpf.arithmetic import (
    NSEC_PER_SEC,
    START_NS,
    Arithmetic,
    DirectionLimit,
    DirectionState,
)

FRAME_BYTES = 1514
_LEAST_FRAMES = 2
_MOST_FRAMES = 43
_BURSTS_PER_SEC = 1024


@dataclass
class Flow:
    """One sender."""

    wants_bytes_per_sec: int | None = None
    """None: greedy."""
    starts_at_ns: int = 0
    stops_at_ns: int = 2**62
    window: int = 0
    sent: list[tuple[int, int]] = field(default_factory=list)
    """(time since the start, bytes)."""

    def bytes_between(self, from_ns: int, until_ns: int) -> int:
        """What it sent in that time."""
        return sum(size for at_ns, size in self.sent if from_ns <= at_ns < until_ns)


class Simulation:
    """Runs flows; time counts from 0."""

    def __init__(self, arithmetic: Arithmetic, limit: DirectionLimit, rtt_ns: int = 0) -> None:
        self.limit = limit
        self.state = DirectionState()
        self.dropped_bytes = 0
        self.shares: list[tuple[int, int]] = [(-1, limit.rate_bytes_per_sec)]
        """(time, share), one for each epoch."""
        self.tokens: list[tuple[int, int]] = []
        """(time, credit) after each burst."""
        self._arithmetic = arithmetic
        self._rtt_ns = rtt_ns

    def run(self, flows: list[Flow], until_ns: int) -> None:
        """Run from time 0."""
        events = [(flow.starts_at_ns, number) for number, flow in enumerate(flows)]
        heapq.heapify(events)
        while events[0][0] < until_ns:
            now_ns, number = heapq.heappop(events)
            flow = flows[number]
            if now_ns >= flow.stops_at_ns:
                heapq.heappush(events, (until_ns, number))
                continue
            pace = self._share_at(now_ns - self._rtt_ns)
            if flow.wants_bytes_per_sec is not None:
                pace = min(pace, flow.wants_bytes_per_sec)
            frames = min(_MOST_FRAMES, max(_LEAST_FRAMES, pace // _BURSTS_PER_SEC // FRAME_BYTES))
            size = frames * FRAME_BYTES
            self._send(flow, size, now_ns)
            heapq.heappush(events, (now_ns + size * NSEC_PER_SEC // pace, number))

    def _send(self, flow: Flow, size: int, now_ns: int) -> None:
        state, clock_ns = self.state, START_NS + now_ns
        self._arithmetic.refill(state, self.limit, clock_ns)
        window = state.epoch // self._arithmetic.epochs_per_window + 1
        if flow.window != window:
            flow.window = window
            state.window_flows += 1
        if state.tokens_bytes < -self.limit.debt_bytes:
            self.dropped_bytes += size
            state.dropped_at_ns = clock_ns
        else:
            state.tokens_bytes -= size
            state.epoch_bytes += size
            flow.sent.append((now_ns, size))
        epoch = state.epoch
        self._arithmetic.tick(state, self.limit, self._rtt_ns, clock_ns)
        if state.epoch != epoch:
            self.shares.append((now_ns, state.share_bytes_per_sec))
        self.tokens.append((now_ns, state.tokens_bytes))

    def _share_at(self, at_ns: int) -> int:
        return self.shares[bisect.bisect(self.shares, (max(at_ns, 0), 2**62)) - 1][1]
