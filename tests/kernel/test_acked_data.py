"""What comes in where ACKs pace it: what is told by a mark or a loss, dropped, counted apart."""

import time
from dataclasses import replace

import pytest

from contract.names import Direction
from enforcer.datapath import abi
from tests.kernel.cases import LARGE, LIMIT, LIMITS, RATE
from tests.kernel.packets import CE, ECT0, TCP, UDP, ecn_of, ipv4, tcp, udp
from tests.kernel.programs import DROP, PASS, Programs, load, still_state

INGRESS = Direction.INGRESS
DEBT = abi.debt_bytes(INGRESS, LIMIT, ingress_ack=True)


@pytest.fixture(scope="module")
def programs() -> Programs:
    """The programs, ready for test runs."""
    return load()


@pytest.mark.parametrize("ecn", [ECT0, 0], ids=["ECN", "no ECN"])
def test_a_window_that_has_outgrown_us_is_answered_once(programs: Programs, ecn: int) -> None:
    """By a mark, or by a loss where the sender knows none; far from the debt that drops."""
    later_ns = time.monotonic_ns() + 3600 * abi.NSEC_PER_SEC
    state = replace(still_state(INGRESS, 0), outgrown_until_ns=later_ns)
    packet, told = ipv4(tcp(LARGE), TCP, ecn=ecn), abi.Flow(account=1, outgrown=1)
    first = programs.run(INGRESS, packet, LIMITS, state, ingress_ack=True, flow=told)
    second = programs.run(INGRESS, packet, LIMITS, first.after, ingress_ack=True, flow=first.flow)
    assert first.verdict == (PASS if ecn else DROP)
    assert ecn_of(first.packet) == (CE if ecn else 0)
    assert (first.after.ingress.marked_packets, first.after.ingress.dropped_packets) == (
        (1, 0) if ecn else (0, 1)
    )
    assert (second.verdict, ecn_of(second.packet)) == (PASS, ecn)


SECOND = RATE * 11 // 10 + 150_000


@pytest.mark.parametrize(
    ("packet", "tokens_bytes", "second_bytes", "verdict"),
    [
        (ipv4(tcp(LARGE), TCP), -DEBT, 0, PASS),
        (ipv4(tcp(LARGE), TCP), -DEBT - 1, 0, DROP),
        (ipv4(tcp(LARGE), TCP), 0, SECOND - LARGE - 54, PASS),
        (ipv4(tcp(LARGE), TCP), 0, SECOND - LARGE - 53, DROP),
        (ipv4(udp(LARGE), UDP), -(DEBT // 8), 0, PASS),
        (ipv4(udp(LARGE), UDP), -(DEBT // 8) - 1, 0, DROP),
        (ipv4(udp(20), UDP), -DEBT, 0, PASS),
    ],
)
def test_data_is_dropped_beyond_its_debt_and_its_second(
    programs: Programs, packet: bytes, tokens_bytes: int, second_bytes: int, verdict: int
) -> None:
    """TCP's debt may be deeper where ACKs pace, UDP's not; a second brings what it may."""
    later_ns = time.monotonic_ns() + 3600 * abi.NSEC_PER_SEC
    state = replace(
        still_state(INGRESS, tokens_bytes), second_started_at_ns=later_ns, second_bytes=second_bytes
    )
    outcome = programs.run(INGRESS, packet, LIMITS, state, ingress_ack=True)
    assert outcome.verdict == verdict


def test_data_that_no_ack_paces_is_counted_apart(programs: Programs) -> None:
    """UDP takes its part of the limit first; the controller shares out the rest."""
    state = still_state(INGRESS, 0)
    for packet, unpaced in ((ipv4(udp(LARGE), UDP), True), (ipv4(tcp(LARGE), TCP), False)):
        outcome = programs.run(INGRESS, packet, LIMITS, state, ingress_ack=True)
        counted = outcome.after.ingress
        assert counted.epoch_unpaced_bytes == (counted.epoch_bytes if unpaced else 0)
