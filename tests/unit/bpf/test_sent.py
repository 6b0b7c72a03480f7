"""What a target sends past its sockets: bpf/sent.h in simulated time."""

import ctypes

import pytest

from enforcer.datapath import shaper_abi
from tests.unit.bpf.shaper import (
    FRAME,
    MSEC,
    RATE,
    Link,
    Shaper,
    Target,
)


def sent(target: Target, seconds: float, own: float = 0, other: float = 0) -> tuple[int, int]:
    """Frames every ms from the target's own sockets and past them, in limits; bytes let through."""
    passed, credit = [0, 0], [0.0, 0.0]
    for _ in range(int(seconds * 1000)):
        target.now += MSEC
        for i, wanted in enumerate((own, other)):
            credit[i] += wanted * RATE / 1000
            while credit[i] >= FRAME:
                credit[i] -= FRAME
                if i == 0:  # counted by the program, and no more
                    target.link.own_bytes += FRAME
                    late = 0
                else:
                    late = target.c.sent_late(target.shaper, target.link, FRAME, target.now)
                passed[i] += 0 if late else FRAME
    return passed[0], passed[1]


@pytest.fixture
def bounded(library: ctypes.CDLL) -> Target:
    """What is sent past the sockets of a target of 10 Mbit/s."""
    record = shaper_abi.LinkRecord(1, 0, 0, RATE * 105 // 100, 20 * MSEC, 0, 0, 1522, 0, 2, 3, 1)
    return Target(library, Link.from_buffer_copy(shaper_abi.encode_link(record)), Shaper())


def test_what_passes_the_sockets_is_bounded_at_a_little_above_their_limit(bounded: Target) -> None:
    """Over ten seconds 1.05 of it and the burst."""
    _, other = sent(bounded, 10, other=20)
    assert 1.03 <= other / 10 / RATE <= 1.06
    assert bounded.shaper.sent_dropped_packets > 0


def test_sockets_that_keep_to_their_limit_never_lose_a_packet_to_others(bounded: Target) -> None:
    """Others have what is left of the bound."""
    own, other = sent(bounded, 10, own=1, other=20)
    assert own / 10 / RATE == pytest.approx(1, abs=0.01)
    assert (own + other) / 10 / RATE <= 1.06


def test_a_small_frame_passes_where_the_sockets_are_ahead(bounded: Target) -> None:
    """An echo is answered while TCP is in its debt; a flood of small frames is not."""
    sent(bounded, 0.01, other=0.2)
    sent(bounded, 0.05, own=3)
    late = [bounded.c.sent_late(bounded.shaper, bounded.link, 98, bounded.now)]
    late += [bounded.c.sent_late(bounded.shaper, bounded.link, FRAME, bounded.now)]
    flood = [
        bounded.c.sent_late(bounded.shaper, bounded.link, 98, bounded.now) for _ in range(5000)
    ]
    assert late == [0, 1]
    assert flood[-1] == 1
