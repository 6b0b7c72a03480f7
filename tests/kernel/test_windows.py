"""The receive window that a socket tells its sender, where a queue holds what comes in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.rig import Rig, rig
from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import build
from enforcer.state import Target, Way
from tests.kernel.connections import connection, eventually
from tests.kernel.shaping import sent_windows

PORT = 7790
OWN_BYTES = 8192
MOST_SECONDS = 0.1
"""A busy machine's path is some of it."""
pytestmark = pytest.mark.slow_emulated


@contextmanager
def windows_of(bits_per_sec: int) -> Iterator[Rig]:
    """A pod whose windows are bounded for this limit; no queue of its own holds its traffic."""
    with rig() as r:
        datapath = build(r.bpffs / "podpace", cgroup2_mount())
        limits = Limits(ingress=make_limit(bits_per_sec))
        target = Target("pod", str(r.cgroup), r.cgroup.stat().st_ino, limits)
        datapath.write(target, Way(is_shaped=True))
        yield r


def told(r: Rig, seconds: float) -> list[int]:
    """The windows that the peer is told during that time, from the second on."""
    found: list[int] = []
    start = time.monotonic()
    while (now := time.monotonic()) < start + 1 + seconds:
        windows = sent_windows(r, PORT, "sport")
        found += windows if now > start + 1 else []
    return found


def test_an_application_keeps_its_own_smaller_window() -> None:
    """A receiver that asked for 8 kB before it connected tells of no larger one."""
    with windows_of(1_000_000_000) as r:
        asked = {"peer_sends": True, "window_bytes": OWN_BYTES}
        with connection(r, PORT, **asked) as program:
            program.ask("read")
            assert eventually(lambda: bool(sent_windows(r, PORT, "sport")))
            assert max(told(r, 2)) <= OWN_BYTES


def test_a_window_larger_than_a_sockets_first_buffer_is_told() -> None:
    """The kernel lowers a new socket's window to its buffer: that is no choice of a program's."""
    with windows_of(1_000_000_000) as r, connection(r, PORT, peer_sends=True) as program:
        program.ask("read")
        assert eventually(lambda: max(sent_windows(r, PORT, "sport"), default=0) > 200_000)


@pytest.mark.parametrize("mbit", [10, 100])
def test_a_window_is_bounded_from_the_first_on(mbit: int) -> None:
    """To share x (path + 20 ms), where the kernel's own would be megabytes."""
    with windows_of(mbit * 1_000_000) as r, connection(r, PORT, peer_sends=True) as program:
        program.ask("read")
        assert eventually(lambda: bool(sent_windows(r, PORT, "sport")))
        assert max(told(r, 2)) <= mbit * 1_000_000 // 8 * MOST_SECONDS
