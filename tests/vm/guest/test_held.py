"""Windows keep the queue at the veth short, over long paths too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.ours import Podpace, podpace
from bench.rig import Rig, TcpLoad, bulk, path_delay, rig
from contract.names import Direction

pytestmark = pytest.mark.counted

LIMIT = 10_000_000
INGRESS = Direction.INGRESS
SECONDS = 8


@contextmanager
def held(rtt_ms: int) -> Iterator[tuple[Rig, Podpace]]:
    """A limited pod at the end of a path."""
    with (
        rig() as r,
        path_delay(r, rtt_ms),
        podpace(r) as limiter,
        limiter.applied(r, INGRESS, LIMIT),
    ):
        assert limiter.show(r)["ingress"]["enforcement"] == "shaped"
        yield r, limiter


@pytest.mark.parametrize(
    ("flows", "rtt_ms"),
    [
        (1, 50),
        pytest.param(1, 0, marks=pytest.mark.slow_emulated),
        pytest.param(10, 50, marks=pytest.mark.slow_emulated),
        pytest.param(50, 10, marks=pytest.mark.slow_emulated),
    ],
)
def test_a_queue_at_the_limit_loses_nothing(flows: int, rtt_ms: int) -> None:
    """After the first second: the limit is used, and no packet dropped."""
    with held(rtt_ms) as (r, limiter), bulk(r, TcpLoad(INGRESS, SECONDS, flows)) as running:
        time.sleep(2)
        before = limiter.show(r)["ingress"]
        result = running.result()
        told = limiter.show(r)["ingress"]
    used = result.goodput_bits_per_sec(1.5) / LIMIT / TcpLoad(INGRESS).payload_of_frame
    dropped = told["dropped_packets"] - before["dropped_packets"]
    print(f"{used:.3f} of the limit, {dropped} dropped, {before['dropped_packets']} before")
    assert 0.96 <= used <= 1.01
    assert dropped == 0


class Trickle(TcpLoad):
    """A load that sends segments at its rate, not iperf3's blocks of 128 KiB."""

    def options(self) -> list[str]:
        """What iperf3 is told."""
        return [*TcpLoad.options(self), "-l", "1448"]


@pytest.mark.slow_emulated
def test_one_greedy_flow_beside_small_ones_fills_a_long_path() -> None:
    """Nine that want a hundredth each: a tenth of the limit is not what the tenth gets."""
    small = Trickle(INGRESS, SECONDS + 4, 9, flow_bits_per_sec=LIMIT // 100, port=5301)
    with held(50) as (r, _), bulk(r, small):
        time.sleep(1)
        with bulk(r, TcpLoad(INGRESS, SECONDS, 1)) as running:
            result = running.result()
    used = result.goodput_bits_per_sec(2) / LIMIT / TcpLoad(INGRESS).payload_of_frame
    print(f"{used:.3f} of the limit beside 0.09")
    assert 0.85 <= used <= 0.93
