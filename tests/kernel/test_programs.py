"""The programs on single packets: what passes, what is refused, what is left in the record."""

import time
from dataclasses import dataclass

import pytest

from contract.limits import Limits
from contract.names import Direction, Mode
from enforcer.datapath import abi
from tests.kernel import packets
from tests.kernel.cases import DEEP, LARGE, LIMIT, LIMITS, by_name, udp_frame
from tests.kernel.packets import ETHERNET_BYTES, GRE, TCP, UDP, ipv4, ipv6, tcp, udp
from tests.kernel.programs import (
    DROP,
    DROP_WITH_CONGESTION_NOTICE,
    PASS,
    Outcome,
    Programs,
    constant,
    load,
    still_state,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
NOTICE = DROP_WITH_CONGESTION_NOTICE
EGRESS_DEBT = abi.debt_bytes(EGRESS, LIMIT)
INGRESS_DEBT = abi.debt_bytes(INGRESS, LIMIT)
SMALL = constant("SMALL_PACKET_BYTES")
SMALL_RESERVE = constant("SMALL_RESERVE_BYTES")


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Both programs, ready for test runs."""
    return load()


@dataclass(frozen=True)
class Judged:
    """A packet that finds so much credit, and what becomes of it."""

    name: str
    direction: Direction
    packet: bytes
    tokens_bytes: int
    verdict: int


def pair(
    name: str, direction: Direction, packet: bytes, least_tokens_bytes: int, refusal: int
) -> list[Judged]:
    """It passes with this credit, and is refused with a byte less."""
    return [
        Judged(f"{name}: at the bound", direction, packet, least_tokens_bytes, PASS),
        Judged(f"{name}: a byte beyond", direction, packet, least_tokens_bytes - 1, refusal),
    ]


JUDGED = [
    *pair("egress TCP data and the debt", EGRESS, ipv4(tcp(LARGE), TCP), -EGRESS_DEBT, NOTICE),
    *pair("egress IPv6 TCP data and the debt", EGRESS, ipv6(tcp(1), TCP), -EGRESS_DEBT, NOTICE),
    Judged("egress ACKs pass in debt", EGRESS, ipv4(tcp(), TCP), -EGRESS_DEBT - 1, PASS),
    *pair("egress UDP and zero", EGRESS, udp_frame(SMALL + 1), 0, NOTICE),
    *pair("egress IPv6 UDP and zero", EGRESS, ipv6(udp(LARGE), UDP), 0, NOTICE),
    *pair("egress unknown protocol and zero", EGRESS, ipv4(bytes(LARGE), GRE), 0, NOTICE),
    *pair(
        "egress small packets and their reserve",
        EGRESS,
        udp_frame(SMALL),
        -EGRESS_DEBT - SMALL_RESERVE,
        NOTICE,
    ),
    *pair("ingress TCP data and the debt", INGRESS, ipv4(tcp(LARGE), TCP), -INGRESS_DEBT, DROP),
    *pair("ingress UDP and the debt", INGRESS, udp_frame(SMALL + 1), -INGRESS_DEBT, DROP),
    *pair("ingress IPv6 and the debt", INGRESS, ipv6(tcp(LARGE), TCP), -INGRESS_DEBT, DROP),
    Judged("ingress ACKs pass in debt", INGRESS, ipv4(tcp(), TCP), -INGRESS_DEBT - 1, PASS),
    Judged("ingress DNS passes in debt", INGRESS, udp_frame(SMALL), -INGRESS_DEBT - 1, PASS),
]


def judge(programs: Programs, case: Judged, limits: Limits = LIMITS) -> Outcome:
    """Run a case."""
    state = still_state(case.direction, case.tokens_bytes)
    return programs.run(case.direction, case.packet, limits, state)


@by_name(JUDGED)
def test_verdicts_turn_at_their_bounds(programs: Programs, case: Judged) -> None:
    """What is refused costs no credit and is counted as dropped; what passes costs its frame."""
    outcome = judge(programs, case)
    assert outcome.verdict == case.verdict
    changes = outcome.changed(case.direction)
    frame_bytes = ETHERNET_BYTES + len(case.packet)
    changes.pop("window_flows", 0)
    changes.pop("stray_window", 0)
    changes.pop("marked_packets", 0)
    if case.verdict == PASS:
        assert changes == {
            "tokens_bytes": -frame_bytes,
            "epoch_bytes": frame_bytes,
            "passed_bytes": frame_bytes,
            "passed_packets": 1,
        }
    else:
        changes.pop("dropped_at_ns", 0)
        assert changes == {"dropped_bytes": frame_bytes, "dropped_packets": 1}


@by_name([case for case in JUDGED if case.verdict != PASS])
def test_observing_counts_what_it_would_drop(programs: Programs, case: Judged) -> None:
    """In observe mode everything passes, at once, and counts as passed and as dropped."""
    observing = Limits(LIMIT, LIMIT, Mode.OBSERVE)
    outcome = judge(programs, case, observing)
    assert (outcome.verdict, outcome.departs_at_ns) == (PASS, 0)
    changes = outcome.changed(case.direction)
    frame_bytes = ETHERNET_BYTES + len(case.packet)
    counters = ("passed_bytes", "passed_packets", "dropped_bytes", "dropped_packets")
    assert [changes[name] for name in counters] == [frame_bytes, 1, frame_bytes, 1]
    assert "tokens_bytes" not in changes


@pytest.mark.parametrize(("packet", "noted"), [(ipv4(tcp(1), TCP), True), (udp_frame(999), False)])
def test_only_refused_segments_are_remembered(
    programs: Programs, packet: bytes, noted: bool
) -> None:
    """The time of a TCP drop is kept, for the controller; other senders come back by themselves."""
    before_ns = time.monotonic_ns()
    outcome = programs.run(EGRESS, packet, LIMITS, still_state(EGRESS, DEEP))
    assert outcome.verdict == NOTICE
    at_ns = outcome.after.egress.dropped_at_ns
    assert before_ns <= at_ns <= time.monotonic_ns() if noted else at_ns == 0


FLOODS = [
    Judged("egress UDP", EGRESS, udp_frame(SMALL), DEEP, NOTICE),
    Judged("egress SYN", EGRESS, ipv4(tcp(flags=packets.SYN), TCP), DEEP, NOTICE),
    Judged("egress ACK", EGRESS, ipv6(tcp(), TCP), DEEP, NOTICE),
    Judged("ingress UDP", INGRESS, udp_frame(SMALL), DEEP, DROP),
    Judged("ingress SYN", INGRESS, ipv4(tcp(flags=packets.SYN), TCP), DEEP, DROP),
]


@by_name(FLOODS)
def test_a_flood_of_small_packets_is_refused_in_the_end(programs: Programs, case: Judged) -> None:
    """A hundred seconds of the rate in debt, small packets are refused like any others."""
    assert judge(programs, case).verdict == case.verdict
