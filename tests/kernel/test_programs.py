"""The programs on single packets: what counts, what passes, what is left in the record."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.limits import Limits, make_limit
from contract.names import Direction, Mode
from enforcer.datapath import abi
from tests.kernel import packets
from tests.kernel.packets import CE, ECT0, ECT1, ETHERNET_BYTES, GRE, TCP, UDP, ipv4, ipv6, tcp, udp
from tests.kernel.programs import (
    CGROUP_ID,
    DROP,
    DROP_WITH_CONGESTION_NOTICE,
    LOOPBACK_IFINDEX,
    PASS,
    Outcome,
    Programs,
    blank_state,
    constant,
    load,
    still_state,
    with_fields,
)

BITS = 80_000_000
LIMIT = make_limit(BITS)
LIMITS = Limits(LIMIT, LIMIT)
RATE = LIMIT.rate_bytes_per_sec
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
EGRESS_DEBT = abi.debt_bytes(EGRESS, LIMIT)
INGRESS_DEBT = abi.debt_bytes(INGRESS, LIMIT)
SMALL = constant("SMALL_PACKET_BYTES")
SMALL_RESERVE = constant("SMALL_RESERVE_BYTES")
HORIZON_NS = constant("DEPARTURE_HORIZON_NS")
HALF_BURST = LIMIT.burst_bytes // 2
LARGE = 1000
IPV4_TCP_BYTES = ETHERNET_BYTES + 20 + 20
IPV4_UDP_BYTES = ETHERNET_BYTES + 20 + 8


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Both programs, ready for test runs."""
    return load()


def by_name(cases: list) -> pytest.MarkDecorator:
    """One test for each case, called by its sentence."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def udp_frame(frame_bytes: int, **header: int) -> bytes:
    """A UDP packet that makes a frame of this size."""
    return ipv4(udp(frame_bytes - IPV4_UDP_BYTES), UDP, **header)


@dataclass(frozen=True)
class Counted:
    """A packet and the frame bytes that it counts for."""

    name: str
    packet: bytes
    frame_bytes: int
    carries_data: bool = True
    segments: int = 0


COUNTED = [
    Counted("IPv4 TCP with data", ipv4(tcp(LARGE), TCP), IPV4_TCP_BYTES + LARGE),
    Counted("IPv6 TCP with data", ipv6(tcp(LARGE), TCP), IPV4_TCP_BYTES + 20 + LARGE),
    Counted("IPv4 UDP", ipv4(udp(LARGE), UDP), IPV4_UDP_BYTES + LARGE),
    Counted("IPv6 UDP", ipv6(udp(LARGE), UDP), IPV4_UDP_BYTES + 20 + LARGE),
    Counted("an ACK makes no flow active", ipv4(tcp(), TCP), IPV4_TCP_BYTES, False),
    Counted(
        "a SYN with options makes no flow active",
        ipv6(tcp(flags=packets.SYN, options=bytes(20)), TCP),
        IPV4_TCP_BYTES + 20 + 20,
        False,
    ),
    Counted("one byte of data makes a flow active", ipv4(tcp(1), TCP), IPV4_TCP_BYTES + 1),
    Counted(
        "IP options do not hide an ACK",
        ipv4(tcp(), TCP, options=bytes(24)),
        IPV4_TCP_BYTES + 24,
        False,
    ),
    Counted(
        "IP options do not hide data",
        ipv4(tcp(1), TCP, options=bytes(40)),
        IPV4_TCP_BYTES + 40 + 1,
    ),
    Counted(
        "three TCP segments in one packet count three headers",
        ipv4(tcp(3 * LARGE), TCP),
        3 * (IPV4_TCP_BYTES + LARGE),
        segments=3,
    ),
    Counted(
        "segments repeat their TCP options",
        ipv6(tcp(2 * LARGE, options=bytes(12)), TCP),
        2 * (IPV4_TCP_BYTES + 20 + 12 + LARGE),
        segments=2,
    ),
    Counted(
        "two UDP datagrams in one packet count two headers",
        ipv6(udp(2 * LARGE), UDP),
        2 * (IPV4_UDP_BYTES + 20 + LARGE),
        segments=2,
    ),
    Counted("one segment is one frame", ipv4(tcp(LARGE), TCP), IPV4_TCP_BYTES + LARGE, segments=1),
    Counted(
        "a later fragment is one frame",
        ipv4(bytes(LARGE), UDP, fragment_offset_bytes=1480),
        ETHERNET_BYTES + 20 + LARGE,
    ),
    Counted("an unknown protocol", ipv4(bytes(LARGE), GRE), ETHERNET_BYTES + 20 + LARGE),
    Counted(
        "an IPv6 extension header",
        ipv6(bytes([TCP, 0, 1, 4, 0, 0, 0, 0]) + tcp(LARGE), packets.HOP_BY_HOP),
        IPV4_TCP_BYTES + 20 + 8 + LARGE,
    ),
    Counted("a cut TCP header", ipv4(tcp(), TCP)[:30], ETHERNET_BYTES + 30),
    Counted("a cut IPv4 header", ipv4(tcp(), TCP)[:19], ETHERNET_BYTES + 19),
    Counted("a cut IPv6 header", ipv6(tcp(), TCP)[:39], ETHERNET_BYTES + 39),
    Counted("a single byte", b"\x45", ETHERNET_BYTES + 1),
    Counted("neither IPv4 nor IPv6", b"\x70" + bytes(59), ETHERNET_BYTES + 60),
]


@by_name(COUNTED)
@pytest.mark.parametrize("direction", list(Direction))
def test_packets_count_as_their_frames(
    programs: Programs, direction: Direction, case: Counted
) -> None:
    """Every packet costs the bytes of its Ethernet frames, in its own direction only."""
    state = still_state(direction, LIMIT.burst_bytes)
    outcome = programs.run(direction, case.packet, LIMITS, state, segments=case.segments)
    assert outcome.verdict == PASS
    flows = {"window_flows": 1} if case.carries_data and direction is EGRESS else {}
    assert outcome.changed(direction) == flows | {
        "tokens_bytes": -case.frame_bytes,
        "epoch_bytes": case.frame_bytes,
        "passed_bytes": case.frame_bytes,
        "passed_packets": 1,
    }
    assert outcome.changed(EGRESS if direction is INGRESS else INGRESS) == {}


@settings(deadline=None)
@given(packet=st.binary(min_size=1, max_size=200), segments=st.integers(0, 100))
def test_no_bytes_break_the_reading(programs: Programs, packet: bytes, segments: int) -> None:
    """Any bytes at all pass as one packet of at least their own size."""
    for direction in Direction:
        state = still_state(direction, LIMIT.burst_bytes)
        outcome = programs.run(direction, packet, LIMITS, state, segments=segments)
        changes = outcome.changed(direction)
        assert outcome.verdict == PASS
        assert changes["passed_packets"] == 1
        assert changes["passed_bytes"] >= ETHERNET_BYTES + len(packet)


@dataclass(frozen=True)
class Judged:
    """A packet that finds so much credit, and what becomes of it."""

    name: str
    direction: Direction
    packet: bytes
    tokens_bytes: int
    verdict: int
    egress_fq: bool = False


def pair(
    name: str,
    direction: Direction,
    packet: bytes,
    least_tokens_bytes: int,
    refusal: int,
    *,
    egress_fq: bool = False,
) -> list[Judged]:
    """It passes with this credit, and is refused with a byte less."""
    return [
        Judged(f"{name}: at the bound", direction, packet, least_tokens_bytes, PASS, egress_fq),
        Judged(
            f"{name}: a byte beyond", direction, packet, least_tokens_bytes - 1, refusal, egress_fq
        ),
    ]


def longest_wait_tokens() -> int:
    """The credit with which a departure time is just within the horizon."""
    divisor = RATE // 1000 + 1  # the program's, bytes in a millisecond
    return -(((HORIZON_NS + 1) * divisor - 1) // 1_000_000)


DEEP = -100 * RATE
NOTICE = DROP_WITH_CONGESTION_NOTICE
JUDGED = [
    *pair("egress TCP data and the debt", EGRESS, ipv4(tcp(LARGE), TCP), -EGRESS_DEBT, NOTICE),
    *pair("egress IPv6 TCP data and the debt", EGRESS, ipv6(tcp(1), TCP), -EGRESS_DEBT, NOTICE),
    Judged("egress ACKs pass in debt", EGRESS, ipv4(tcp(), TCP), -EGRESS_DEBT - 1, PASS),
    *pair("egress UDP without fq and zero", EGRESS, udp_frame(SMALL + 1), 0, NOTICE),
    *pair("egress IPv6 UDP without fq and zero", EGRESS, ipv6(udp(LARGE), UDP), 0, NOTICE),
    *pair("egress unknown protocol and zero", EGRESS, ipv4(bytes(LARGE), GRE), 0, NOTICE),
    *pair(
        "egress small packets and their reserve",
        EGRESS,
        udp_frame(SMALL),
        -EGRESS_DEBT - SMALL_RESERVE,
        NOTICE,
    ),
    *pair(
        "egress UDP with fq and the horizon",
        EGRESS,
        udp_frame(LARGE),
        longest_wait_tokens(),
        NOTICE,
        egress_fq=True,
    ),
    *pair(
        "egress TCP with fq and the debt",
        EGRESS,
        ipv4(tcp(LARGE), TCP),
        -EGRESS_DEBT,
        NOTICE,
        egress_fq=True,
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
    return programs.run(case.direction, case.packet, limits, state, egress_fq=case.egress_fq)


@by_name(JUDGED)
def test_verdicts_turn_at_their_bounds(programs: Programs, case: Judged) -> None:
    """What is refused costs no credit and is counted as dropped; what passes costs its frame."""
    outcome = judge(programs, case)
    assert outcome.verdict == case.verdict
    changes = outcome.changed(case.direction)
    frame_bytes = ETHERNET_BYTES + len(case.packet)
    changes.pop("window_flows", 0)
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


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("limit", [LIMIT, None], ids=["other direction limited", "no limit"])
def test_a_rate_of_zero_passes_and_counts_nothing(
    programs: Programs, direction: Direction, limit: object
) -> None:
    """A direction without a limit leaves its record alone, whatever stands in it."""
    limits = Limits(**{("egress" if direction is INGRESS else "ingress"): limit})
    outcome = programs.run(direction, ipv4(tcp(LARGE), TCP), limits, still_state(direction, DEEP))
    assert outcome.verdict == PASS
    assert outcome.after == outcome.before


@pytest.mark.parametrize("direction", list(Direction))
def test_loopback_is_never_counted(programs: Programs, direction: Direction) -> None:
    """On interface 1 even a direction deep in debt passes, and nothing is counted."""
    outcome = programs.run(
        direction, udp_frame(LARGE), LIMITS, still_state(direction, DEEP), ifindex=LOOPBACK_IFINDEX
    )
    assert outcome.verdict == PASS
    assert outcome.after == outcome.before


@dataclass(frozen=True)
class Exempted:
    """A packet between two addresses, and whether the CIDRs exempt it."""

    name: str
    direction: Direction
    packet: bytes
    entries: tuple[tuple[int, str], ...]
    exempt: bool
    flag: bool = True


FROM_TO_4 = ipv4(udp(LARGE), UDP, source="10.0.0.1", destination="10.9.0.1")
FROM_TO_6 = ipv6(udp(LARGE), UDP, source="fd00::1", destination="fd09::1")
OTHER_ID = CGROUP_ID + 1
OTHER_HIGH_ID = CGROUP_ID + (1 << 32)
EXEMPTED = [
    Exempted("v4 destination", EGRESS, FROM_TO_4, ((CGROUP_ID, "10.9.0.0/16"),), True),
    Exempted("v4 host", EGRESS, FROM_TO_4, ((CGROUP_ID, "10.9.0.1/32"),), True),
    Exempted("v4 neighbour", EGRESS, FROM_TO_4, ((CGROUP_ID, "10.9.0.0/32"),), False),
    Exempted("v4 own address", EGRESS, FROM_TO_4, ((CGROUP_ID, "10.0.0.0/16"),), False),
    Exempted("v4 everything", EGRESS, FROM_TO_4, ((CGROUP_ID, "0.0.0.0/0"),), True),
    Exempted("v4 with v6 everything but v4", EGRESS, FROM_TO_4, ((CGROUP_ID, "2000::/3"),), False),
    Exempted("v6 destination", EGRESS, FROM_TO_6, ((CGROUP_ID, "fd09::/64"),), True),
    Exempted("v6 neighbour", EGRESS, FROM_TO_6, ((CGROUP_ID, "fd09:0:0:1::/64"),), False),
    Exempted("v6 own address", EGRESS, FROM_TO_6, ((CGROUP_ID, "fd00::/64"),), False),
    Exempted("v6 with v4 everything", EGRESS, FROM_TO_6, ((CGROUP_ID, "0.0.0.0/0"),), False),
    Exempted("v4 source", INGRESS, FROM_TO_4, ((CGROUP_ID, "10.0.0.0/16"),), True),
    Exempted("v4 target's address", INGRESS, FROM_TO_4, ((CGROUP_ID, "10.9.0.0/16"),), False),
    Exempted("v6 source", INGRESS, FROM_TO_6, ((CGROUP_ID, "fd00::/16"),), True),
    Exempted("v6 target's address", INGRESS, FROM_TO_6, ((CGROUP_ID, "fd09::/16"),), False),
    Exempted("another cgroup's CIDR", EGRESS, FROM_TO_4, ((OTHER_ID, "10.9.0.0/16"),), False),
    Exempted("an id of another high half", EGRESS, FROM_TO_6, ((OTHER_HIGH_ID, "::/0"),), False),
    Exempted(
        "a second CIDR",
        EGRESS,
        FROM_TO_4,
        ((CGROUP_ID, "10.8.0.0/16"), (CGROUP_ID, "10.9.0.0/24")),
        True,
    ),
    Exempted("none asked for", EGRESS, FROM_TO_4, ((CGROUP_ID, "10.9.0.0/16"),), False, flag=False),
    Exempted("a cut v4 header", EGRESS, FROM_TO_4[:19], ((CGROUP_ID, "0.0.0.0/0"),), False),
]


@by_name(EXEMPTED)
def test_exempt_networks_are_neither_counted_nor_limited(
    programs: Programs, case: Exempted
) -> None:
    """A packet to (or from) an exempt network leaves the record alone; any other is judged."""
    programs.set_exempt(*case.entries)
    cidrs = tuple(cidr for _id, cidr in case.entries) if case.flag else ()
    limits = Limits(LIMIT, LIMIT, exempt_cidrs=cidrs)
    outcome = programs.run(
        case.direction, case.packet, limits, still_state(case.direction, LIMIT.burst_bytes)
    )
    assert outcome.verdict == PASS
    assert (outcome.after == outcome.before) is case.exempt


@dataclass(frozen=True)
class Marked:
    """A packet that finds so much credit on its way in, and its ECN bits after."""

    name: str
    packet: bytes
    tokens_bytes: int
    ecn: int
    mode: Mode = Mode.ENFORCE


MARKED = [
    Marked("ECT(0), congested", udp_frame(LARGE, ecn=ECT0), HALF_BURST - 1, CE),
    Marked("ECT(1), congested", udp_frame(LARGE, ecn=ECT1), HALF_BURST - 1, CE),
    Marked("IPv6 ECT(0), congested", ipv6(tcp(LARGE), TCP, ecn=ECT0), HALF_BURST - 1, CE),
    Marked("not ECT, congested", udp_frame(LARGE), HALF_BURST - 1, 0),
    Marked("IPv6 not ECT, congested", ipv6(tcp(LARGE), TCP), HALF_BURST - 1, 0),
    Marked("ECT(0), not congested", udp_frame(LARGE, ecn=ECT0), HALF_BURST, ECT0),
    Marked("ECT(0), observed", udp_frame(LARGE, ecn=ECT0), 0, ECT0, Mode.OBSERVE),
]


@by_name(MARKED)
def test_congestion_is_marked_on_packets_that_can_carry_it(
    programs: Programs, case: Marked
) -> None:
    """CE is set, and counted, where the bucket is under half full and the sender knows ECN."""
    limits = Limits(LIMIT, LIMIT, case.mode)
    outcome = programs.run(INGRESS, case.packet, limits, still_state(INGRESS, case.tokens_bytes))
    assert outcome.verdict == PASS
    assert packets.ecn_of(outcome.packet) == case.ecn
    assert outcome.changed(INGRESS).get("marked_packets", 0) == (case.ecn == CE)
    if outcome.packet[0] >> 4 == 4:
        assert packets.checksum(outcome.packet[:20]) == 0


def test_a_dropped_packet_is_not_counted_as_marked(programs: Programs) -> None:
    """What is refused tells its sender by being lost."""
    packet = udp_frame(LARGE, ecn=ECT0)
    outcome = programs.run(INGRESS, packet, LIMITS, still_state(INGRESS, DEEP))
    assert outcome.verdict == DROP
    assert outcome.changed(INGRESS).get("marked_packets", 0) == 0


@pytest.mark.parametrize("debt_bytes", [1, 1514, RATE // 100])
def test_udp_departs_when_its_debt_is_repaid(programs: Programs, debt_bytes: int) -> None:
    """Where fq keeps departure times, a packet in debt leaves debt / rate later."""
    before_ns = time.monotonic_ns()
    outcome = programs.run(
        EGRESS, udp_frame(LARGE), LIMITS, still_state(EGRESS, -debt_bytes), egress_fq=True
    )
    after_ns = time.monotonic_ns()
    wait_ns = debt_bytes * abi.NSEC_PER_SEC // RATE
    assert outcome.verdict == PASS
    # The program divides by kilobytes a second, rounded up by one.
    assert before_ns + wait_ns * 0.999 <= outcome.departs_at_ns <= after_ns + wait_ns


@pytest.mark.parametrize(
    ("name", "packet", "tokens_bytes", "egress_fq"),
    [
        ("UDP with credit", udp_frame(LARGE), 0, True),
        ("TCP in debt, which paces itself", ipv4(tcp(LARGE), TCP), -1000, True),
        ("a small packet without fq", udp_frame(SMALL), -1000, False),
    ],
)
def test_other_packets_depart_at_once(
    programs: Programs, name: str, packet: bytes, tokens_bytes: int, egress_fq: bool
) -> None:
    """No departure time where there is no debt, no fq, or a socket that paces itself."""
    state = still_state(EGRESS, tokens_bytes)
    outcome = programs.run(EGRESS, packet, LIMITS, state, egress_fq=egress_fq)
    assert (outcome.verdict, outcome.departs_at_ns) == (PASS, 0)


@pytest.mark.parametrize("direction", list(Direction))
def test_the_first_packet_starts_clocks_and_share(programs: Programs, direction: Direction) -> None:
    """After attach the first packet finds no credit; the first flow may have about the rate."""
    before_ns = time.monotonic_ns()
    outcome = programs.run(direction, ipv4(tcp(LARGE), TCP), LIMITS, blank_state())
    after_ns = time.monotonic_ns()
    state = getattr(outcome.after, direction.value)
    assert outcome.verdict == PASS
    assert state.tokens_bytes == -(IPV4_TCP_BYTES + LARGE)
    assert before_ns <= state.refilled_at_ns <= after_ns
    assert before_ns <= state.epoch_started_at_ns <= after_ns
    assert state.epoch == 1
    assert state.share_bytes_per_sec == pytest.approx(RATE, rel=0.25)


@pytest.mark.parametrize("direction", list(Direction))
def test_time_is_credited_by_the_monotonic_clock(programs: Programs, direction: Direction) -> None:
    """Between two packets the credit grows by rate x time, as user space measures it."""
    started_ns = time.monotonic_ns()
    state = with_fields(still_state(direction, -RATE), direction, refilled_at_ns=started_ns)
    outcome = programs.run(direction, ipv4(tcp(), TCP), LIMITS, state)
    ended_ns = time.monotonic_ns()
    credited = outcome.changed(direction)["tokens_bytes"] + IPV4_TCP_BYTES
    assert 0 < credited <= RATE * (ended_ns - started_ns) // abi.NSEC_PER_SEC


def test_a_socket_is_one_flow_however_much_it_sends(programs: Programs) -> None:
    """A thousand packets of one socket in one window count one flow, and each its bytes."""
    state = still_state(EGRESS, LIMIT.burst_bytes)
    outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, state, repeat=1000)
    changes = outcome.changed(EGRESS)
    assert changes["window_flows"] == 1
    assert changes["passed_packets"] == 1000
    assert changes["passed_bytes"] == 1000 * (IPV4_TCP_BYTES + 1)


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


@pytest.mark.parametrize(("mode", "asked"), [(Mode.ENFORCE, 1), (Mode.OBSERVE, 0)])
def test_an_earlier_socket_asks_once_to_be_paced(
    programs: Programs, mode: Mode, asked: int
) -> None:
    """A socket that sock_ops never saw moves earlier_sockets once; when observing it does not."""
    limits = Limits(LIMIT, LIMIT, mode)
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    before = programs.earlier_sockets()
    programs.run(EGRESS, ipv4(tcp(1), TCP), limits, state, repeat=100)
    assert programs.earlier_sockets() - before == asked


def test_only_tcp_data_asks_to_be_paced(programs: Programs) -> None:
    """An ACK or a datagram asks for nothing; only data of a TCP socket can be paced."""
    state = with_fields(still_state(EGRESS, 0), EGRESS, share_bytes_per_sec=RATE)
    before = programs.earlier_sockets()
    for packet in (ipv4(tcp(), TCP), udp_frame(LARGE)):
        programs.run(EGRESS, packet, LIMITS, state)
    assert programs.earlier_sockets() == before
