"""The window that a socket tells its sender, where ACKs pace. Needs sch_fq."""

from bench.rig import rig
from tests.vm.guest.acks import load, paced

MBIT = 10**6


def test_an_application_keeps_its_own_smaller_window() -> None:
    """A receiver that asked for a window of 8 kB before it connected is told of no larger one."""
    with rig() as r, paced(load(), r, 100 * MBIT) as target:
        assert target.largest_window_of(clamp_bytes=8192, seconds=2) <= 8192
        assert target.largest_window_of(clamp_bytes=0, seconds=2) > 8192


def test_a_window_larger_than_a_sockets_first_buffer_is_told() -> None:
    """The kernel lowers a new socket's window to its buffer: that is no choice of a program's."""
    with rig() as r, paced(load(), r, 1000 * MBIT) as target:
        assert target.largest_window_of(clamp_bytes=0, seconds=2) > 200_000
