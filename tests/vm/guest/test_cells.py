"""Limits are used and not exceeded, in time that does not depend on how busy the machine is."""

import pytest

from bench.ours import podpace
from bench.rig import TcpLoad, bulk, rig
from contract.names import Direction

pytestmark = pytest.mark.counted

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
SECONDS = 6


@pytest.mark.parametrize(
    ("direction", "limit", "flows", "family"),
    [
        (EGRESS, 10_000_000, 1, 4),
        (INGRESS, 10_000_000, 1, 4),
        pytest.param(EGRESS, 100_000_000, 10, 6, marks=pytest.mark.slow_emulated),
        pytest.param(INGRESS, 100_000_000, 10, 6, marks=pytest.mark.slow_emulated),
    ],
)
def test_a_limit_is_used_and_not_exceeded(
    direction: Direction, limit: int, flows: int, family: int
) -> None:
    """After the first second; what leaves is not sent again."""
    load = TcpLoad(direction, SECONDS, flows, "cubic", family)
    with (
        rig() as r,
        podpace(r) as limiter,
        limiter.applied(r, direction, limit),
        bulk(r, load) as running,
    ):
        result = running.result()
    used = result.goodput_bits_per_sec(1) / load.payload_of_frame / limit
    print(f"{used:.3f} of the limit, {result.retransmits} sent again")
    assert 0.97 <= used <= 1.01
    assert direction is INGRESS or result.retransmits == 0
