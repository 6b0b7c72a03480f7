"""What the tables of test_programs, test_counting and test_marking share."""

from collections.abc import Sequence
from typing import Final

import pytest

from contract.limits import Limits, make_limit
from tests.kernel.packets import ETHERNET_BYTES, UDP, ipv4, udp

BITS: Final = 80_000_000
LIMIT: Final = make_limit(BITS)
LIMITS: Final = Limits(LIMIT, LIMIT)
RATE: Final = LIMIT.rate_bytes_per_sec
DEEP: Final = -100 * RATE
"""A debt beyond every bound."""
LARGE: Final = 1000
"""Bytes of data in a packet that is not small."""
IPV4_TCP_BYTES: Final = ETHERNET_BYTES + 20 + 20
IPV4_UDP_BYTES: Final = ETHERNET_BYTES + 20 + 8


def by_name(cases: Sequence[object]) -> pytest.MarkDecorator:
    """One test for each case, called by its sentence."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def udp_frame(frame_bytes: int, **header: int) -> bytes:
    """A UDP packet that makes a frame of this size."""
    return ipv4(udp(frame_bytes - IPV4_UDP_BYTES), UDP, **header)
