"""The window that a socket tells its sender, where ACKs pace. Needs sch_fq."""

import statistics
import time

import pytest

from bench.rig import TcpLoad, bulk, path_delay, rig, set_path_delay
from contract.names import Direction
from tests.vm.guest.acks import load, paced

pytestmark = pytest.mark.counted

MBIT = 10**6


def test_an_application_keeps_its_own_smaller_window() -> None:
    """A receiver that asked for a window of 8 kB before it connected is told of no larger one.

    From the second on: newer kernels forget a choice when the first large segment comes.
    """
    with rig() as r, paced(load(), r, 100 * MBIT) as target:
        assert target.largest_window_of(clamp_bytes=8192, seconds=3, after_seconds=1) <= 8192
        assert target.largest_window_of(clamp_bytes=0, seconds=2) > 8192


def test_a_window_larger_than_a_sockets_first_buffer_is_told() -> None:
    """The kernel lowers a new socket's window to its buffer: that is no choice of a program's."""
    with rig() as r, paced(load(), r, 1000 * MBIT) as target:
        assert target.largest_window_of(clamp_bytes=0, seconds=2) > 200_000


def test_a_path_that_grows_longer_after_the_handshake_is_used() -> None:
    """A window for 5 ms of path and 20 of slack would carry a third over 60 ms: it follows."""
    incoming = TcpLoad(Direction.INGRESS, seconds=10, congestion_control="cubic")
    with (
        rig() as r,
        path_delay(r, 5),
        paced(load(), r, 10 * MBIT) as target,
        bulk(r, incoming) as running,
    ):
        target.wait_for_traffic()
        time.sleep(2)
        set_path_delay(r, 60)
        bits_per_sec = running.result().bits_per_sec_by_interval()
    from_fifth_second = statistics.mean(bits_per_sec[40:])
    assert from_fifth_second >= 0.9 * 10 * MBIT * incoming.payload_of_frame
