"""Loops in threads, and what is said of those that fail, hang or are dead."""

import threading
from collections.abc import Callable, Iterator

import pytest

from kube.errors import ApiError
from webhook.loops import FAULTY_SECONDS, STALE_SECONDS, Loop, Loops
from webhook.metrics import Metrics


class Clock:
    """One that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """At a moment."""
    return Clock()


@pytest.fixture
def loops() -> Iterator[Loops]:
    """Stopped at the end."""
    found = Loops(Metrics())
    yield found
    found.stop.set()


def running(loops: Loops, clock: Clock, step: Callable[[], float | None]) -> Loop:
    """A started one, on a clock."""
    loop = Loop("test", loops.metrics, loops.stop, clock)
    loops._all.append(loop)
    loop.start(step)
    return loop


@pytest.mark.parametrize("error", [ApiError("first time"), ValueError("a bug"), KeyError("x")])
def test_a_loop_survives_whatever_fails_in_it_and_stops_when_told(
    loops: Loops, error: Exception
) -> None:
    """With a pause, a count, and not one thread left."""
    done = threading.Event()
    calls = iter(range(10))

    def step() -> float:
        if next(calls) == 0:
            raise error
        done.set()
        return 60

    thread = loops.add("test").start(step)
    assert done.wait(60)
    loops.stop.set()
    thread.join(60)

    value = loops.metrics.registry.get_sample_value
    assert value("podpace_loop_failures_total", {"loop": "test"}) == 1
    assert value("podpace_loop_last_success_timestamp_seconds", {"loop": "test"})
    assert not thread.is_alive()


def test_a_loop_that_hangs_is_a_fault_and_one_that_waits_is_not(loops: Loops, clock: Clock) -> None:
    """A pause of minutes was asked for; a step that never returns was not."""
    hanging, waiting = threading.Event(), threading.Event()
    release = threading.Event()

    def hang() -> None:
        hanging.set()
        release.wait(60)

    def wait() -> float:
        waiting.set()
        return 10_000

    running(loops, clock, hang)
    other = running(loops, clock, wait)
    assert hanging.wait(60)
    assert waiting.wait(60)
    while other._alive_until < 10_000:
        release.wait(0.001)
    before = loops.faults()
    clock.now += STALE_SECONDS + 1
    after = loops.faults()
    release.set()

    assert before == []
    assert after == [f"test: no sign of life for {STALE_SECONDS + 1:.0f} s"]


def test_a_step_of_minutes_that_makes_progress_is_no_fault(loops: Loops, clock: Clock) -> None:
    """As a watch that gets a bookmark a minute."""
    hanging, release = threading.Event(), threading.Event()

    def watch() -> None:
        hanging.set()
        release.wait(60)

    loop = running(loops, clock, watch)
    assert hanging.wait(60)
    clock.now += STALE_SECONDS
    loop.progress()
    clock.now += STALE_SECONDS
    faults = loops.faults()
    release.set()

    assert faults == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_dead_is_a_fault(loops: Loops, clock: Clock) -> None:
    """Nothing that a loop catches; something ended the thread."""

    def step() -> float:
        raise SystemExit

    loop = running(loops, clock, step)
    assert loop._thread is not None
    loop._thread.join(60)

    assert loops.faults() == ["test: its thread is dead"]


class SimulatedEvent(threading.Event):
    """Whoever waits for it moves the clock instead."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Returns at once."""
        self._clock.now += timeout or 0.0
        return self.is_set()


def test_after_an_outage_of_ten_minutes_a_loop_is_back_within_a_minute(
    loops: Loops, clock: Clock
) -> None:
    """By itself, told all the while, and without a restart by the kubelet."""
    loops.stop = SimulatedEvent(clock)
    begin, told, faults = clock.now, list[str](), list[str]()
    back: list[float] = []

    def step() -> float:
        told.append(loop.line())
        faults.extend(loops.faults())
        if clock.now - begin < 600:
            raise ApiError("no route to host")
        back.append(clock.now - begin)
        loops.stop.set()
        return 10.0

    loop = Loop("test", loops.metrics, loops.stop, clock)
    loops._all.append(loop)
    loop.start(step).join(60)

    assert 600 <= back[0] <= 660
    assert faults == []
    assert all("fails for" in line and "no route to host" in line for line in told[1:])
    assert loop.line() == "test: ok"


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (ApiError("no route"), []),
        (KeyError("x"), [f"test: fails for {FAULTY_SECONDS + 1:.0f} s: KeyError('x')"]),
    ],
)
def test_what_comes_from_outside_is_told_and_only_what_is_our_fault_asks_for_a_restart(
    loops: Loops, clock: Clock, error: Exception, faults: list[str]
) -> None:
    """While the API server is away a restart would only lose the policies that are known."""
    failed = threading.Semaphore(0)

    def step() -> float:
        failed.release()
        raise error

    loop = running(loops, clock, step)
    for _ in range(2):
        assert failed.acquire(timeout=60)
    clock.now += FAULTY_SECONDS + 1

    assert loops.faults() == faults
    assert "fails for" in loop.line()
