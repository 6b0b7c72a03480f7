"""What a limit costs that nothing reaches.

Where time is counted in instructions this is exact; natively two runs of the same differ by more.
"""

import pytest

from bench.ours import podpace
from bench.rig import Rig, TcpLoad, bulk, rig, uncounted
from bench.rig.topology import PEER_PORT, POD_PORT
from contract.names import Direction

pytestmark = pytest.mark.counted

OUT_OF_REACH = 10**12
SECONDS = 1.5
SETTLED_SECONDS = 0.5


def throughput(r: Rig, direction: Direction, flows: int) -> float:
    """In bit/s, as far as the processor goes."""
    with bulk(r, TcpLoad(direction, SECONDS, flows)) as running:
        return running.result().goodput_bits_per_sec(SETTLED_SECONDS)


@pytest.mark.parametrize("flows", [1, pytest.param(10, marks=pytest.mark.slow_emulated)])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_limit_out_of_reach_costs_three_percent_at_most(direction: Direction, flows: int) -> None:
    """Of the throughput of the same pod without Podpace."""
    with rig() as r, uncounted(r.node, POD_PORT), uncounted(r.node, PEER_PORT):
        free = throughput(r, direction, flows)
        with podpace(r) as limiter, limiter.applied(r, direction, OUT_OF_REACH):
            limited = throughput(r, direction, flows)
    print(f"{direction}, {flows} flows: {limited / 1e6:.0f} of {free / 1e6:.0f} Mbit/s")
    assert limited >= 0.97 * free
