"""What a packet is on the wire, by the reader of the standards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.bpf.arithmetic import Arithmetic

ETHERNET = 14


def fragments(payload_bytes: int, mtu_bytes: int, headers_bytes: int) -> list[int]:
    """Frames of a payload that IP cuts: all but the last in units of eight (RFC 791, RFC 8200)."""
    each = (mtu_bytes - headers_bytes) // 8 * 8
    left, frames = payload_bytes, []
    while left > 0:
        frames.append(ETHERNET + headers_bytes + min(left, each))
        left -= each
    return frames


@pytest.mark.parametrize("mtu_bytes", [1280, 1500, 8896, 9001])
@pytest.mark.parametrize(("network_bytes", "fragment_header_bytes"), [(20, 0), (60, 0), (40, 8)])
@settings(deadline=None)
@given(payload_bytes=st.integers(1, 65_535))
def test_a_datagram_counts_as_its_fragments(
    *,
    arithmetic: Arithmetic,
    mtu_bytes: int,
    network_bytes: int,
    fragment_header_bytes: int,
    payload_bytes: int,
) -> None:
    """Whatever its size, at every MTU."""
    length = network_bytes + payload_bytes
    is_ipv6 = fragment_header_bytes > 0
    counted = arithmetic.cut_frames(length, network_bytes, mtu_bytes, is_ipv6)
    headers_bytes = network_bytes + fragment_header_bytes
    assert counted == sum(fragments(payload_bytes, mtu_bytes, headers_bytes))


@pytest.mark.parametrize("mtu_bytes", [0, 20, 27])
def test_a_link_that_can_carry_nothing_breaks_nothing(
    arithmetic: Arithmetic, mtu_bytes: int
) -> None:
    """One frame."""
    assert arithmetic.cut_frames(3000, 20, mtu_bytes, False) == ETHERNET + 3000
