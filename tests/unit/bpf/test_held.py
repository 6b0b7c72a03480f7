"""bpf/held.h: the windows of flows that a queue at the veth holds, in simulated time."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.arithmetic import (
    NSEC_PER_SEC,
    START_NS,
    Arithmetic,
    DirectionState,
    held_limit_of,
)

LIMIT_BYTES_PER_SEC = 10_000_000 // 8
LIMIT = held_limit_of(10_000_000)
SEGMENT = 1448


@dataclass
class Queue:
    """A queue at the limit, and flows that send what their windows let them."""

    arithmetic: Arithmetic
    greedy: int = 1
    rtt_seconds: float = 0.0
    """Of the flows' paths, beyond the queue."""
    wanted_bytes_per_sec: float = 0.0
    """By flows that want less than a share, all together."""
    sparse: int = 0
    path_seconds: float | None = None
    """What the windows take the path for, where that is not what it is."""
    record: DirectionState = field(default_factory=DirectionState)
    now_ns: int = START_NS
    achieved: list[float] = field(default_factory=list)

    @property
    def window_bytes(self) -> int:
        """Of each greedy flow."""
        path = self.rtt_seconds if self.path_seconds is None else self.path_seconds
        share: int = self.arithmetic.share_held(self.record, LIMIT)
        window: int = self.arithmetic.window_wanted(share, int(path * 1e6), SEGMENT)
        return window

    @property
    def queued_seconds(self) -> float:
        """What the windows hold beyond the path, as time at the limit."""
        return self.greedy * self.window_bytes / LIMIT_BYTES_PER_SEC - self.rtt_seconds

    def step(self) -> None:
        """One epoch: all flows are seen, and bring the limit at most."""
        self.record.window_flows = self.greedy + self.sparse
        left = LIMIT_BYTES_PER_SEC - self.wanted_bytes_per_sec
        rate = left
        if self.rtt_seconds:
            rate = min(left, self.greedy * self.window_bytes / self.rtt_seconds)
        rate += self.wanted_bytes_per_sec
        epoch_ns = max(self.record.epoch_length_ns, 1_000_000)
        self.record.epoch_bytes = int(rate * epoch_ns / NSEC_PER_SEC)
        self.now_ns += epoch_ns
        self.arithmetic.tick_held(self.record, LIMIT, self.now_ns)
        self.achieved.append(rate / LIMIT_BYTES_PER_SEC)

    def run(self, seconds: float) -> None:
        """So long."""
        end_ns = self.now_ns + int(seconds * NSEC_PER_SEC)
        while self.now_ns < end_ns:
            self.step()


@pytest.mark.parametrize("flows", [1, 3, 10])
@pytest.mark.parametrize("rtt_ms", [0, 10, 50])
def test_equal_flows_queue_twenty_milliseconds(
    arithmetic: Arithmetic, flows: int, rtt_ms: int
) -> None:
    """Their windows are the path and 20 ms together, give or take how exactly the limit is used."""
    queue = Queue(arithmetic, flows, rtt_ms / 1000)
    queue.run(5)
    least = flows * 2 * SEGMENT / LIMIT_BYTES_PER_SEC
    assert queue.queued_seconds <= max(0.022 + 0.1 * queue.rtt_seconds, least)
    assert min(queue.achieved[-20:]) > 0.9


def test_many_flows_keep_two_segments_each(arithmetic: Arithmetic) -> None:
    """Fifty of them are 121 ms of frames at 10M: below what the queue holds, so none is lost."""
    queue = Queue(arithmetic, 50)
    queue.run(5)
    assert queue.window_bytes == 2 * SEGMENT


def test_one_greedy_flow_among_many_sparse_gets_what_they_leave(arithmetic: Arithmetic) -> None:
    """Over a long path a tenth of the limit would hold it back: windows grow until it is used."""
    queue = Queue(arithmetic, 1, 0.05, sparse=9, wanted_bytes_per_sec=LIMIT_BYTES_PER_SEC / 20)
    queue.run(5)
    last = queue.achieved[-100:]
    assert sum(last) / len(last) > 0.96
    assert queue.queued_seconds < 0.03


def test_a_path_longer_than_at_the_handshake_is_filled(arithmetic: Arithmetic) -> None:
    """One flow, taken for 5 ms away and 60 ms away."""
    queue = Queue(arithmetic, 1, 0.06, path_seconds=0.005)
    queue.run(10)
    last = queue.achieved[-100:]
    assert sum(last) / len(last) > 0.96


def test_a_start_that_does_not_use_the_limit_does_not_grow_windows(arithmetic: Arithmetic) -> None:
    """Half a second of slow start leaves the queue at 30 ms at most."""
    queue = Queue(arithmetic, 1, 0.05, path_seconds=0.0)
    queue.run(0.5)
    queue.path_seconds = 0.05
    assert queue.queued_seconds < 0.03


def test_flows_that_begin_together_are_counted_as_they_come(arithmetic: Arithmetic) -> None:
    """Beside one known flow, nine new ones: a tenth each, before any epoch ends, and after it."""
    queue = Queue(arithmetic)
    queue.run(5)
    queue.record.window_flows = 10
    assert arithmetic.share_held(queue.record, LIMIT) == pytest.approx(
        LIMIT.rate_bytes_per_sec / 10, rel=0.1
    )
    queue.greedy = 10
    for _ in range(arithmetic.epochs_per_window):
        queue.step()
        queue.record.window_flows = max(queue.record.window_flows, queue.record.active_flows)
        assert arithmetic.share_held(queue.record, LIMIT) == pytest.approx(
            LIMIT.rate_bytes_per_sec / 10, rel=0.2
        )


def test_flows_that_go_leave_their_part(arithmetic: Arithmetic) -> None:
    """Of ten nine go: within a second the tenth's window is that of one flow."""
    queue = Queue(arithmetic, 10, 0.05)
    queue.run(5)
    queue.greedy = 1
    queue.run(1)
    last = queue.achieved[-5:]
    assert sum(last) / len(last) > 0.94


def test_a_pause_forgets(arithmetic: Arithmetic) -> None:
    """After it the first flow may have it all."""
    queue = Queue(arithmetic, 10)
    queue.run(5)
    queue.now_ns += 60 * NSEC_PER_SEC
    arithmetic.tick_held(queue.record, LIMIT, queue.now_ns)
    assert queue.record.greedy_flows_q8 == arithmetic.q8


def test_a_window_holds_the_path_and_twenty_milliseconds(arithmetic: Arithmetic) -> None:
    """At the flow's share, but never less than two segments nor more than TCP can tell."""
    assert arithmetic.min_held_segments == 2
    assert arithmetic.window_wanted(12_500_000, 50_000, 1448) == 12_500_000 * 70 // 1000
    assert arithmetic.window_wanted(25_000, 0, 1448) == 2 * 1448
    assert arithmetic.window_wanted(25_000, 0, 8948) == 2 * 8948
    assert arithmetic.window_wanted(10**11, 10**6, 1448) == arithmetic.max_window_bytes


def test_a_window_grows_by_what_has_arrived(arithmetic: Arithmetic) -> None:
    """No faster than the data comes, and down at once."""
    assert arithmetic.window_next(25_000, 5_792, 2_896) == 8_688
    assert arithmetic.window_next(25_000, 24_000, 2_896) == 25_000
    assert arithmetic.window_next(5_792, 25_000, 2_896) == 5_792


@given(part=st.integers(1, 255), buffer_bytes=st.integers(4096, 64 << 20))
def test_a_bound_that_the_kernel_sets_is_told_from_an_applications(
    arithmetic: Arithmetic, part: int, buffer_bytes: int
) -> None:
    """The kernel's is so many 256ths of the buffer, rounded down; no other is taken for one."""
    kernels = part * buffer_bytes // 256
    assert arithmetic.part_of(kernels, buffer_bytes)
    assert not arithmetic.part_of(kernels + 1, buffer_bytes)
    assert not arithmetic.part_of(buffer_bytes + 1, buffer_bytes)


@pytest.mark.parametrize(
    ("sample_us", "rtt_us"), [(0, 0), (40_000, 40_000), (2**31, 10**6), (2**32 - 1, 50_000)]
)
def test_a_path_without_a_sample_counts_as_a_middling_one(
    arithmetic: Arithmetic, sample_us: int, rtt_us: int
) -> None:
    """The least round trip seen, a second at most; the kernel's ~0 is no sample."""
    assert arithmetic.rtt_us(sample_us) == rtt_us


any_number = st.integers(0, 2**40)


@settings(deadline=None)
@given(
    flows_q8=any_number,
    active=st.integers(0, 2**20),
    window=st.integers(0, 2**20),
    epoch_bytes=any_number,
    rate=st.integers(1_000, 10**12),
)
def test_no_record_breaks_the_share(
    *,
    arithmetic: Arithmetic,
    flows_q8: int,
    active: int,
    window: int,
    epoch_bytes: int,
    rate: int,
) -> None:
    """Whatever was there before, nobody counts on more than eight times the limit."""
    limit = held_limit_of(rate)
    record = DirectionState(
        greedy_flows_q8=flows_q8,
        active_flows=active,
        window_flows=window,
        epoch_bytes=epoch_bytes,
        share_bytes_per_sec=1,
        epoch_started_at_ns=START_NS,
        epoch_length_ns=1_000_000,
    )
    arithmetic.tick_held(record, limit, START_NS + 2_000_000)
    most = arithmetic.max_share_of_limit * limit.rate_bytes_per_sec
    assert record.share_bytes_per_sec <= max(most, arithmetic.min_share_bytes_per_sec)
    assert arithmetic.share_held(record, limit) <= most
    assert record.epoch_length_ns > 0
