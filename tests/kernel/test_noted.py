"""The programs on single packets: sockets older than their limit, and what the daemon is told."""

from dataclasses import replace

import pytest

from contract.limits import Limits
from contract.names import Direction, Mode
from enforcer.state import exempt_list_id
from tests.kernel import flows
from tests.kernel.cases import LARGE, LIMIT, LIMITS, RATE, udp_frame
from tests.kernel.packets import TCP, ipv4, ipv6, tcp
from tests.kernel.programs import (
    CGROUP_ID,
    LOOPBACK_IFINDEX,
    Outcome,
    Programs,
    constant,
    load,
    still_state,
    with_fields,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


@pytest.fixture(scope="module")
def programs() -> Programs:
    """The programs, ready for test runs."""
    return load()


@pytest.fixture(autouse=True)
def _nothing_told(programs: Programs) -> None:
    """What an earlier test has made the programs tell is taken out."""
    programs.told()


@pytest.mark.parametrize(("mode", "asked"), [(Mode.ENFORCE, True), (Mode.OBSERVE, False)])
def test_an_earlier_socket_asks_once_to_be_paced(
    programs: Programs, mode: Mode, asked: bool
) -> None:
    """The daemon is told of one that sock_ops is not called for; when observing it is not."""
    limits = Limits(LIMIT, LIMIT, mode)
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), limits, state)
    assert programs.told() == asked
    programs.run(EGRESS, ipv4(tcp(1), TCP), limits, state, flow=outcome.flow, repeat=100)
    assert not programs.told()


HEARD = flows.Flow(paced_by=CGROUP_ID, heard=3, pacing_bytes_per_sec=1, share_bytes_per_sec=1)


def test_a_socket_that_sock_ops_is_no_longer_called_for_asks(programs: Programs) -> None:
    """Another program has taken our flags off: told when it has sent in several windows since."""
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    flow, told = HEARD, []
    for window in range(5):
        now = with_fields(state, EGRESS, epoch=8 * window)
        outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, now, flow=flow, repeat=10)
        told.append(programs.told())
        flow = outcome.flow
    assert told == [False, False, True, False, False]


def test_a_limit_further_out_leaves_a_socket_to_a_tighter_one(programs: Programs) -> None:
    """Of nested limits the lower share paces, whoever asks; and one that is gone holds nobody."""
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    inner = flows.Flow(paced_by=CGROUP_ID + 1, share_bytes_per_sec=RATE // 2)
    outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, state, flow=inner, repeat=10)
    assert (outcome.flow.paced_by, outcome.flow.share_bytes_per_sec) == (
        inner.paced_by,
        inner.share_bytes_per_sec,
    )
    assert outcome.after.egress.window_flows == 1
    assert not programs.told()
    wider = replace(inner, share_bytes_per_sec=RATE * 2)
    for flow, repeat in ((wider, 1), (inner, 100)):
        outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, state, flow=flow, repeat=repeat)
        assert (outcome.flow.paced_by, outcome.flow.share_bytes_per_sec) == (CGROUP_ID, RATE)
        assert programs.told()


@pytest.mark.parametrize(
    ("known", "least_ns"), [(0, 0), (RATE * 2, 0), (RATE, 0), (RATE // 2, 100_000_000)]
)
def test_a_share_raised_for_an_earlier_socket_is_judged_when_it_arrived(
    programs: Programs, known: int, least_ns: int
) -> None:
    """The daemon brings it within a tenth of a second; a lower one is not waited for."""
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    flow = flows.Flow(share_bytes_per_sec=known)
    outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, state, flow=flow)
    assert outcome.after.rtt_ns == least_ns


def test_only_tcp_data_asks_to_be_paced(programs: Programs) -> None:
    """An ACK or a datagram asks for nothing; only data of a TCP socket can be paced."""
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    for packet in (ipv4(tcp(), TCP), udp_frame(LARGE)):
        programs.run(EGRESS, packet, LIMITS, state)
    assert not programs.told()


BACKSTOP = RATE * 102 // 100 + 1
"""The rate in the record of a target that is shaped at RATE."""
SEQUENCE, RTT_US = 2**32 - 2000, 300
INGRESS_ONLY = Limits(ingress=LIMIT)
ACK = ipv4(tcp(), TCP)


def answer(
    programs: Programs,
    packet: bytes,
    *,
    limits: Limits = INGRESS_ONLY,
    flow: flows.Flow | None = None,
    shaped: bool = True,
    ifindex: int | None = None,
    fresh_bytes: int = 2896,
) -> Outcome:
    """A packet leaves a socket that has received so much since its last ACK."""
    state = with_fields(still_state(INGRESS, 0), INGRESS, greedy_flows_q8=256, epoch=1)
    return programs.run(
        EGRESS,
        packet,
        limits,
        state,
        ingress_shaped=shaped,
        flow=flow or flows.Flow(acked_sequence=SEQUENCE),
        receipt=((SEQUENCE + fresh_bytes) % 2**32, RTT_US),
        ifindex=ifindex,
    )


@pytest.mark.parametrize("packet", [ACK, ipv6(tcp(), TCP)], ids=["IPv4", "IPv6"])
def test_an_earlier_receiver_asks_once_for_its_window(programs: Programs, packet: bytes) -> None:
    """sock_ops is not called for it: the daemon is told, and finds the window in the flow."""
    outcome = answer(programs, packet)
    assert programs.told()
    slack_us = constant("RECEIVE_SLACK_US")
    assert outcome.flow.window_bytes == BACKSTOP * (RTT_US + slack_us) // 1_000_000
    assert outcome.flow.bounded_by == CGROUP_ID
    answer(programs, packet, flow=replace(outcome.flow, acked_sequence=SEQUENCE))
    assert not programs.told()


def test_an_earlier_receiver_counts_once_per_window(programs: Programs) -> None:
    """Those who share the limit are counted by their ACKs, where sock_ops does not know them."""
    outcome = answer(programs, ACK)
    assert outcome.after.ingress.window_flows == 1
    assert answer(programs, ACK, flow=outcome.flow).after.ingress.window_flows == 0


@pytest.mark.parametrize(
    "case",
    [
        {"packet": ipv4(tcp(1), TCP)},
        {"packet": udp_frame(60)},
        {"packet": ACK, "fresh_bytes": 0},
        {"packet": ACK, "flow": flows.Flow(acked_sequence=SEQUENCE, acks_heard=1)},
        {"packet": ACK, "shaped": False},
        {"packet": ACK, "limits": Limits(egress=LIMIT)},
        {"packet": ACK, "limits": Limits(LIMIT, None, Mode.OBSERVE)},
        {"packet": ACK, "ifindex": LOOPBACK_IFINDEX},
    ],
    ids=[
        "data",
        "UDP",
        "nothing received",
        "sock_ops looks after it",
        "no queue holds what comes",
        "no ingress limit",
        "observing",
        "loopback",
    ],
)
def test_nothing_else_asks_for_a_window(programs: Programs, case: dict[str, object]) -> None:
    """Neither is the daemon told, nor a flow counted."""
    outcome = answer(programs, **case)
    assert not programs.told()
    assert outcome.after.ingress.window_flows == 0


def test_exempt_peers_ask_for_no_window(programs: Programs) -> None:
    """Their traffic is not counted."""
    limits = Limits(LIMIT, None, Mode.ENFORCE, ("198.51.100.0/24",))
    programs.set_exempt((exempt_list_id(limits.exempt_cidrs), "198.51.100.0/24"))
    try:
        outcome = answer(programs, ACK, limits=limits)
    finally:
        programs.set_exempt()
    assert outcome.flow.acked_sequence == SEQUENCE
