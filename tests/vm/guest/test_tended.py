"""The daemon on other kernels: older connections, and what it gives back."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench.ours import Podpace, podpace
from bench.rig import (
    FrameCounter,
    Rig,
    TcpLoad,
    bulk,
    ping,
    rig,
    socket_counters,
)
from contract.names import Direction
from tests.kernel.shaping import sent_windows

pytestmark = pytest.mark.slow_emulated

LIMIT = 10_000_000
INGRESS = Direction.INGRESS
LONG_SECONDS = 120
"""Longer than anything here takes; a load ends with its block."""
SMALL_BYTES = 40_000
"""Two flows' windows are 12 kB each at 10 Mbit/s on a short path; the kernel's own begin at 64."""


@pytest.fixture(scope="module")
def wired() -> Iterator[tuple[Rig, Podpace]]:
    """One rig and one daemon; every test sets its own limit and takes it off."""
    with rig() as r, podpace(r) as limiter:
        yield r, limiter


def largest_window(r: Rig, load: TcpLoad) -> int:
    """Of the load's connections, as the peer, which sends, was told."""
    return max(sent_windows(r, load.port, "sport"))


def bounded_window(r: Rig, load: TcpLoad) -> int:
    """The largest window, once what was told earlier has come: nobody can take that back."""
    told = largest_window(r, load)
    end = time.monotonic() + 2 + 1.5 * told / (LIMIT / 8 / load.flows)
    while told > SMALL_BYTES and time.monotonic() < end:
        time.sleep(0.2)
        told = largest_window(r, load)
    return told


def received_of_limit(r: Rig, family: int, seconds: float) -> float:
    """What the pod's sockets receive from now on, as a part of LIMIT."""
    first = socket_counters(r.pod)
    time.sleep(seconds)
    counted = socket_counters(r.pod) - first
    return counted.received_frame_bytes(family) * 8 / counted.at_seconds / LIMIT


@pytest.mark.parametrize("family", [4, 6])
def test_older_connections_have_their_windows_bounded_and_get_them_back(
    wired: tuple[Rig, Podpace], family: int
) -> None:
    """Connections that were open before are held, and free after the limit.

    The iterator bounds their windows; from Linux 6.12 on the programs go on with it.
    """
    r, limiter = wired
    load = TcpLoad(INGRESS, LONG_SECONDS, 2, family=family)
    with bulk(r, load):
        time.sleep(1.5)
        before = largest_window(r, load)
        with limiter.applied(r, INGRESS, LIMIT):
            side = limiter.show(r)["ingress"]
            bounded = bounded_window(r, load)
            used = received_of_limit(r, family, 2)
        time.sleep(1)
        after = received_of_limit(r, family, 1)
    print(f"windows {before} -> {bounded}, {used:.3f} of the limit, then {after:.1f}")
    assert side["enforcement"] == "shaped"
    assert bounded <= SMALL_BYTES < before
    assert 0.95 <= used <= 1.02
    assert after > 2


def test_new_connections_have_their_windows_back_after_the_limit(
    wired: tuple[Rig, Podpace],
) -> None:
    """What was opened under the limit is as free afterwards as one that never had it."""
    r, limiter = wired
    load = TcpLoad(INGRESS, LONG_SECONDS, 2)
    with ExitStack() as stack:
        with limiter.applied(r, INGRESS, LIMIT):
            stack.enter_context(bulk(r, load))
            time.sleep(3)
            bounded = largest_window(r, load)
        time.sleep(1)
        after = received_of_limit(r, 4, 1)
        freed = largest_window(r, load)
    print(f"windows {bounded} -> {freed}, then {after:.1f} of the limit")
    assert bounded <= SMALL_BYTES < freed
    assert after > 2


@pytest.mark.parametrize("family", [4, 6])
def test_the_whole_way_is_shaped(wired: tuple[Rig, Podpace], family: int) -> None:
    """Through the daemon: the limit used in equal parts, and every ping answered."""
    r, limiter = wired
    load = TcpLoad(INGRESS, 6, 10, family=family)
    frames = FrameCounter(r, INGRESS)
    with limiter.applied(r, INGRESS, LIMIT), ping(r, 6, family) as pings, bulk(r, load) as running:
        time.sleep(2)
        first = frames.read()
        time.sleep(3)
        counted = frames.read() - first
        result, answers = running.result(), pings.result()
        side = limiter.show(r)["ingress"]
    used = result.goodput_bits_per_sec() / load.payload_of_frame / LIMIT
    print(f"IPv{family}: {used:.3f}, frames {counted.bits_per_sec / LIMIT:.3f}, ", end="")
    print(f"ping {answers.p50_ms:.1f} {answers.p99_ms:.1f} ms, dropped {side['dropped_packets']}")
    assert side["enforcement"] == "shaped"
    assert 0.97 <= used <= 1.01
    assert answers.lost == 0
    assert result.jain_index() >= 0.95
