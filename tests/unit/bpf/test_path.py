"""bpf/path.h: a path that is longer than at the handshake, with a sender in simulated time."""

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.arithmetic import NSEC_PER_MSEC, NSEC_PER_SEC, START_NS, Arithmetic, Flow

FRAME = 1514
SHARE = 1_250_000
HANDSHAKE_US = 5000
STALL_EVERY_NS = 200 * NSEC_PER_MSEC
any_time = st.integers(0, 2**62)


@dataclass
class Sender:
    """A greedy one that nothing but the flow's window and ACKs hold back; a frame is a segment."""

    arithmetic: Arithmetic
    flow: Flow = field(default_factory=lambda: Flow(joined_ns=START_NS))
    now_ns: int = START_NS
    credit_is_unused: bool = True
    _arrivals: list[int] = field(default_factory=list)

    def run(self, seconds: float, path_ms: int, stall_ms: int = 0) -> float:
        """Sends over a path of that round trip, which at the end of every fifth of a second carries
        nothing for so long; the part of the share that was used."""
        until_ns = self.now_ns + int(seconds * NSEC_PER_SEC)
        if not self._arrivals:
            self._arrivals = [self.now_ns] * self._window_frames()
        received = 0
        while self._arrivals[0] < until_ns:
            self.now_ns = max(self.now_ns, heapq.heappop(self._arrivals))
            received += 1
            departs_at_ns = self.acknowledge()
            while len(self._arrivals) < self._window_frames():
                arrives_at_ns = departs_at_ns + path_ms * NSEC_PER_MSEC
                left_ns = STALL_EVERY_NS - arrives_at_ns % STALL_EVERY_NS
                stalls = left_ns <= stall_ms * NSEC_PER_MSEC
                heapq.heappush(self._arrivals, arrives_at_ns + (left_ns if stalls else 0))
        self.now_ns = until_ns
        return received * FRAME / (SHARE * seconds)

    def _window_frames(self) -> int:
        path_us = self.arithmetic.path_us(self.flow, HANDSHAKE_US)
        window_bytes: int = self.arithmetic.window_wanted(SHARE, path_us, 1448, 4)
        return window_bytes // 1448

    def acknowledge(self) -> int:
        """A frame has arrived; when the ACK for it leaves."""
        self.arithmetic.lengthen(self.flow, self.credit_is_unused, self.now_ns)
        departs_at_ns: int = self.arithmetic.departure(
            self.flow, FRAME, SHARE, self.now_ns, self.now_ns
        )
        self.arithmetic.shorten(self.flow, departs_at_ns, self.now_ns)
        return departs_at_ns


def test_a_path_as_long_as_at_the_handshake_is_left_as_it_is(arithmetic: Arithmetic) -> None:
    """Its window is enough, so nothing is added."""
    sender = Sender(arithmetic)
    sender.run(1, path_ms=5)
    assert sender.run(3, path_ms=5) >= 0.99
    assert sender.flow.path_extra_ns == 0


@pytest.mark.parametrize("path_ms", [30, 60, 90])
def test_a_path_that_grows_longer_is_followed(arithmetic: Arithmetic, path_ms: int) -> None:
    """Within two seconds the share is used again; when it shrinks, the window does."""
    sender = Sender(arithmetic)
    sender.run(1, path_ms=5)
    sender.run(2, path_ms=path_ms)
    assert sender.run(3, path_ms=path_ms) >= 0.97
    sender.run(2, path_ms=5)
    assert sender.flow.path_extra_ns <= 5 * NSEC_PER_MSEC


@pytest.mark.parametrize("stall_ms", [30, 60, 90])
def test_a_path_that_stands_still_now_and_then_is_used(
    arithmetic: Arithmetic, stall_ms: int
) -> None:
    """Such as one that leads through a busy virtual machine: what it delays is not lost."""
    sender = Sender(arithmetic)
    sender.run(3, path_ms=5, stall_ms=stall_ms)
    assert sender.run(5, path_ms=5, stall_ms=stall_ms) >= 0.97


def test_a_flow_that_sets_in_keeps_to_the_path_of_its_handshake(arithmetic: Arithmetic) -> None:
    """It is late because its sender starts slowly, and fifty larger windows would be too much."""
    sender = Sender(arithmetic)
    sender.run(0.9, path_ms=60)
    assert sender.flow.path_extra_ns == 0


def test_a_path_is_not_followed_for_ever(arithmetic: Arithmetic) -> None:
    """Not beyond 80 ms: with the slack, ACKs would wait longer than they may once it is short."""
    sender = Sender(arithmetic)
    sender.run(1, path_ms=5)
    sender.run(5, path_ms=400)
    assert sender.flow.path_extra_ns == arithmetic.max_path_extra_ns
    slack_ns = arithmetic.receive_slack_us * 1000
    assert arithmetic.max_path_extra_ns + slack_ns < arithmetic.max_ack_wait_ns


def test_no_window_grows_while_others_use_the_credit(arithmetic: Arithmetic) -> None:
    """A flow that is late because the limit is used up needs no larger window."""
    sender = Sender(arithmetic, credit_is_unused=False)
    sender.run(1, path_ms=5)
    sender.run(2, path_ms=60)
    assert sender.flow.path_extra_ns == 0


def test_a_flow_that_wants_little_keeps_its_path(arithmetic: Arithmetic) -> None:
    """An answer of four frames every 100 ms is late each time, and not because of its window."""
    sender = Sender(arithmetic)
    most_ns = 0
    for number in range(100):
        sender.now_ns = START_NS + number * 100 * NSEC_PER_MSEC
        for _ in range(4):
            sender.acknowledge()
        most_ns = max(most_ns, sender.flow.path_extra_ns)
    assert most_ns <= NSEC_PER_MSEC


@settings(deadline=None)
@given(now_ns=any_time, due_ns=any_time, run_ns=any_time, extra_ns=st.integers(0, 80_000_000))
def test_no_clock_takes_a_path_out_of_its_bounds(
    *, arithmetic: Arithmetic, now_ns: int, due_ns: int, run_ns: int, extra_ns: int
) -> None:
    """Whatever they say: between nothing and 80 ms more than at the handshake."""
    flow = Flow(ack_due_ns=due_ns, run_ns=run_ns, path_extra_ns=extra_ns)
    arithmetic.lengthen(flow, True, now_ns)
    assert 0 <= flow.path_extra_ns <= arithmetic.max_path_extra_ns
