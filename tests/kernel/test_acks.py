"""ACKs one at a time: which of them wait, how long, and where."""

import itertools
import struct
import time
from dataclasses import dataclass, replace

import pytest

from contract.limits import Limits, make_limit
from contract.names import Direction, Mode
from enforcer.datapath import abi
from tests.kernel.cases import LARGE, LIMIT, LIMITS, RATE, by_name
from tests.kernel.packets import ACK, SYN, TCP, UDP, ipv4, ipv6, tcp, udp
from tests.kernel.programs import (
    CGROUP_ID,
    LOOPBACK_IFINDEX,
    PASS,
    Outcome,
    Programs,
    constant,
    load,
    still_state,
    with_fields,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
INGRESS_ONLY = Limits(ingress=LIMIT)
ACK_CLASS = 0x7BD10002
SEQUENCE, SEGMENTS, WINDOW = 2**32 - 2000, 70, 512
RTT_US = 300
FIN, RST, PSH = 1, 4, 8
TIMESTAMPS = struct.pack("!BBBBII", 1, 1, 8, 10, 7, 9)
ACKNOWLEDGED = 1
"""By the segments of tests/kernel/packets.py."""
DUE_NS = 140_000_000
"""How far ahead of now the flow's clock is: less than an ACK may wait."""


@pytest.fixture(scope="module")
def programs() -> Programs:
    """The programs, ready for test runs."""
    return load()


def sack(*blocks: tuple[int, int]) -> bytes:
    """A SACK option as Linux writes it."""
    edges = [edge % 2**32 for edge in itertools.chain(*blocks)]
    return struct.pack(f"!BBBB{len(edges)}I", 1, 1, 5, 2 + 4 * len(edges), *edges)


HOLE = sack((ACKNOWLEDGED + 1448, ACKNOWLEDGED + 2896))
TWICE = sack((ACKNOWLEDGED - 1448, ACKNOWLEDGED))


@dataclass(frozen=True)
class Case:
    """A packet of a flow whose earlier ACKs wait."""

    name: str
    packet: bytes
    waits: bool
    fresh_bytes: int = 2896
    window: int = WINDOW
    """In the ACK before."""
    limits: Limits = INGRESS_ONLY
    ingress_ack: bool = True
    loopback: bool = False


CASES = [
    Case("an ACK for new data", ipv4(tcp(), TCP), True),
    Case("over IPv6", ipv6(tcp(), TCP), True),
    Case("with timestamps", ipv4(tcp(options=TIMESTAMPS), TCP), True),
    Case("with IP options", ipv4(tcp(options=TIMESTAMPS), TCP, options=b"\1\1\1\1"), True),
    Case("with PSH", ipv4(tcp(flags=ACK | PSH), TCP), True),
    Case("with an egress limit too", ipv4(tcp(), TCP), True, limits=LIMITS),
    Case("data, which carries its ACK", ipv4(tcp(1), TCP), False),
    Case("data over IPv6", ipv6(tcp(LARGE), TCP), False, limits=LIMITS),
    Case("FIN", ipv4(tcp(flags=ACK | FIN), TCP), False),
    Case("RST", ipv4(tcp(flags=ACK | RST), TCP), False),
    Case("SYN", ipv4(tcp(flags=ACK | SYN), TCP), False),
    Case("UDP of an ACK's size", ipv4(udp(12), UDP), False),
    Case("a duplicate ACK", ipv4(tcp(), TCP), False, fresh_bytes=0),
    Case("a duplicate over IPv6", ipv6(tcp(options=TIMESTAMPS), TCP), False, fresh_bytes=0),
    Case("a smaller window", ipv4(tcp(), TCP), False, fresh_bytes=0, window=WINDOW + 1),
    Case("a larger window waits its turn", ipv4(tcp(), TCP), True, fresh_bytes=0, window=1),
    Case("a hole", ipv4(tcp(options=HOLE), TCP), False),
    Case("a hole, with timestamps", ipv6(tcp(options=TIMESTAMPS + HOLE), TCP), False),
    Case("a hole and nothing new", ipv4(tcp(options=HOLE), TCP), False, fresh_bytes=0),
    Case("a hole, and a larger window", ipv4(tcp(options=HOLE), TCP), False, 0, window=1),
    Case("data that came twice waits its turn", ipv4(tcp(options=TWICE), TCP), True, 0),
    Case("twice, with timestamps", ipv4(tcp(options=TIMESTAMPS + TWICE), TCP), True, 0),
    Case(
        "twice, and a hole",
        ipv4(tcp(options=TIMESTAMPS + TWICE[:3] + b"\x12" + TWICE[4:] + HOLE[4:]), TCP),
        False,
        fresh_bytes=0,
    ),
    Case("loopback", ipv4(tcp(), TCP), False, loopback=True),
    Case("no ingress limit", ipv4(tcp(), TCP), False, limits=Limits(egress=LIMIT)),
    Case("ACKs have no place to wait", ipv4(tcp(), TCP), False, ingress_ack=False),
    Case("observing", ipv4(tcp(), TCP), False, limits=Limits(LIMIT, None, Mode.OBSERVE)),
]


def known_flow(now_ns: int, due_ns: int = DUE_NS) -> abi.Flow:
    """Seen before, its clock ahead of now."""
    return abi.Flow(
        account=1,
        acked_sequence=SEQUENCE,
        acked_segments=SEGMENTS,
        acked_window=WINDOW,
        ack_due_ns=now_ns + due_ns,
        ack_left_ns=now_ns,
        received_window=1,
    )


def settled() -> abi.PodState:
    """One greedy flow has had the whole limit for a while."""
    state = still_state(INGRESS, 0)
    return with_fields(state, INGRESS, share_bytes_per_sec=RATE, greedy_flows_q8=256, epoch=1)


def run(programs: Programs, case: Case, flow: abi.Flow) -> Outcome:
    """Hand the program the packet after ``fresh_bytes`` have come in two segments."""
    return programs.run(
        EGRESS,
        case.packet,
        case.limits,
        settled(),
        ingress_ack=case.ingress_ack,
        flow=replace(flow, acked_window=case.window),
        receipt=((SEQUENCE + case.fresh_bytes) % 2**32, SEGMENTS + 2, RTT_US),
        ifindex=LOOPBACK_IFINDEX if case.loopback else None,
    )


@by_name(CASES)
def test_only_acks_that_repair_nothing_wait(programs: Programs, case: Case) -> None:
    """They leave when the flow's clock says, from the class of their own; the others at once."""
    flow = known_flow(time.monotonic_ns())
    outcome = run(programs, case, flow)
    assert outcome.verdict == PASS
    assert (outcome.departs_at_ns, outcome.priority) == (
        (flow.ack_due_ns, ACK_CLASS) if case.waits else (0, 0)
    )
    assert outcome.after.waiting_acks == case.waits


@pytest.mark.parametrize("version", [4, 6])
def test_an_ack_is_charged_for_the_frames_it_acknowledges(programs: Programs, version: int) -> None:
    """The flow's clock moves by what they take at its share: payload, and headers like its own."""
    packet, header_bytes = (ipv4(tcp(), TCP), 66) if version == 4 else (ipv6(tcp(), TCP), 86)
    flow = known_flow(time.monotonic_ns())
    outcome = run(programs, Case("", packet, True), flow)
    frame_bytes = 2896 + 2 * header_bytes
    cost_ns = frame_bytes * abi.NSEC_PER_SEC // (RATE + 1)
    assert outcome.flow.ack_due_ns == flow.ack_due_ns + cost_ns
    assert outcome.flow.acked_sequence == (SEQUENCE + 2896) % 2**32


def test_an_ack_that_tells_of_a_hole_is_charged_all_the_same(programs: Programs) -> None:
    """It leaves at once, and what it acknowledges delays the ones that follow."""
    flow = known_flow(time.monotonic_ns())
    outcome = run(programs, Case("", ipv4(tcp(options=HOLE), TCP), False), flow)
    assert outcome.departs_at_ns == 0
    assert outcome.flow.ack_due_ns > flow.ack_due_ns


def test_the_first_ack_of_a_flow_only_tells_where_it_stands(programs: Programs) -> None:
    """A socket older than its limit has received megabytes; it is not made to wait for them."""
    outcome = run(programs, Case("", ipv4(tcp(), TCP), False), abi.Flow())
    assert outcome.departs_at_ns == 0
    assert (outcome.flow.acked_segments, outcome.flow.account) == (SEGMENTS + 2, 1)
    assert outcome.flow.ack_due_ns == 0


def test_acks_far_below_a_limit_are_not_looked_at_nor_charged_later(programs: Programs) -> None:
    """Nothing needs to wait there; the first ACK after it says anew where its flow stands."""
    unreached = make_limit(10**12)
    state = with_fields(
        settled(),
        INGRESS,
        tokens_bytes=unreached.burst_bytes,
        epoch_rate_bytes_per_sec=unreached.rate_bytes_per_sec,
    )
    now_ns = time.monotonic_ns()

    def answer(limits: Limits, state: abi.PodState, flow: abi.Flow, received: int) -> Outcome:
        receipt = ((SEQUENCE + received) % 2**32, SEGMENTS + received // 1448, RTT_US)
        return programs.run(
            EGRESS, ipv4(tcp(), TCP), limits, state, ingress_ack=True, flow=flow, receipt=receipt
        )

    far = answer(Limits(ingress=unreached), state, known_flow(now_ns), 1_448_000)
    assert (far.departs_at_ns, far.flow) == (0, known_flow(now_ns))
    near = answer(
        INGRESS_ONLY, replace(settled(), passed_acks=far.after.passed_acks), far.flow, 2_896_000
    )
    assert (near.departs_at_ns, near.flow.ack_due_ns) == (0, far.flow.ack_due_ns)
    third = answer(INGRESS_ONLY, near.after, near.flow, 2_897_448)
    assert third.departs_at_ns == near.flow.ack_due_ns
    assert third.flow.ack_due_ns - near.flow.ack_due_ns == (1448 + 66) * abi.NSEC_PER_SEC // (
        RATE + 1
    )


def test_a_flow_that_receives_counts_once_per_window(programs: Programs) -> None:
    """The share controller of ingress learns of flows from their ACKs."""
    flow = replace(known_flow(time.monotonic_ns()), received_window=0)
    outcome = run(programs, CASES[0], flow)
    assert outcome.after.ingress.window_flows == 1
    again = run(programs, CASES[0], outcome.flow)
    assert again.after.ingress.window_flows == 0


def test_a_socket_without_callbacks_has_its_window_wished_for(programs: Programs) -> None:
    """sock_ops is not called for it: the daemon is told, and finds the window in the flow."""
    before = programs.earlier_sockets()
    outcome = run(programs, CASES[0], known_flow(time.monotonic_ns()))
    assert programs.earlier_sockets() == before + 1
    slack_us = constant("RECEIVE_SLACK_US")
    assert outcome.flow.window_bytes == RATE * (RTT_US + slack_us) // 1_000_000
    run(programs, CASES[0], replace(outcome.flow, ack_due_ns=time.monotonic_ns()))
    assert programs.earlier_sockets() == before + 1


def test_exempt_peers_are_acknowledged_at_once(programs: Programs) -> None:
    """Their traffic is not counted, so their ACKs pace nothing."""
    limits = Limits(LIMIT, None, Mode.ENFORCE, ("198.51.100.0/24",))
    programs.set_exempt((CGROUP_ID, "198.51.100.0/24"))
    try:
        outcome = run(programs, Case("", ipv4(tcp(), TCP), False, limits=limits), known_flow(2**62))
    finally:
        programs.set_exempt()
    assert (outcome.departs_at_ns, outcome.flow.acked_sequence) == (0, SEQUENCE)


OUTGROWN_NS = constant("OUTGROWN_AFTER_NS")


@pytest.mark.parametrize(
    ("late_for_ns", "tokens_bytes", "is_told"),
    [
        (OUTGROWN_NS + abi.NSEC_PER_SEC, -1, True),
        (OUTGROWN_NS + abi.NSEC_PER_SEC, 1_000_000, False),
        (OUTGROWN_NS // 2, -1, False),
        (None, -1, False),
    ],
    ids=["late and too much", "while credit is left", "not late for long", "late just now"],
)
def test_a_flow_whose_acks_wait_too_long_is_to_be_told(
    programs: Programs, late_for_ns: int | None, tokens_bytes: int, is_told: bool
) -> None:
    """Its ACKs wait as long as they may for a second, and the limit's credit is used up."""
    now_ns = time.monotonic_ns()
    flow = known_flow(now_ns, due_ns=abi.NSEC_PER_SEC)
    if late_for_ns is not None:
        flow = replace(flow, ack_late_since_ns=now_ns - late_for_ns)
    state = with_fields(settled(), INGRESS, tokens_bytes=tokens_bytes)
    outcome = programs.run(
        EGRESS,
        ipv4(tcp(), TCP),
        INGRESS_ONLY,
        state,
        ingress_ack=True,
        flow=flow,
        receipt=((SEQUENCE + 2896) % 2**32, SEGMENTS + 2, RTT_US),
    )
    assert outcome.flow.outgrown == is_told
    assert (outcome.after.outgrown_until_ns > now_ns) == is_told
