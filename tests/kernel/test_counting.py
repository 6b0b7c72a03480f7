"""The programs on single packets: what counts, for how much, and by which clock."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.limits import Limits, make_limit
from contract.names import Direction
from enforcer.datapath import abi, state_abi
from tests.kernel import packets
from tests.kernel.cases import (
    DEEP,
    IPV4_TCP_BYTES,
    IPV4_UDP_BYTES,
    LARGE,
    LIMIT,
    LIMITS,
    RATE,
    by_name,
    udp_frame,
)
from tests.kernel.packets import (
    DESTINATION,
    ETHERNET_BYTES,
    GRE,
    HOP_BY_HOP,
    JUMBO,
    ROUTING,
    TCP,
    UDP,
    extension,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from tests.kernel.programs import (
    LOOPBACK_IFINDEX,
    PASS,
    Programs,
    blank_state,
    constant,
    load,
    still_state,
    with_fields,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
UNREACHED = make_limit(10**12)
HALF_BURST = LIMIT.burst_bytes // 2
EGRESS_DEBT = abi.debt_bytes(EGRESS, LIMIT)


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Both programs, ready for test runs."""
    return load()


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
    *(
        Counted(
            f"TCP behind {name}",
            ipv6(headers + tcp(2 * LARGE), first),
            2 * (IPV4_TCP_BYTES + 20 + len(headers) + LARGE),
            segments=2,
        )
        for name, first, headers in (
            ("a hop-by-hop header", HOP_BY_HOP, extension(TCP)),
            ("a routing header of 24 bytes", ROUTING, extension(TCP, 24)),
            ("destination options", DESTINATION, extension(TCP)),
            (
                "four headers",
                HOP_BY_HOP,
                extension(DESTINATION, 16)
                + extension(ROUTING)
                + extension(DESTINATION)
                + extension(TCP),
            ),
        )
    ),
    Counted(
        "an ACK behind an extension header makes no flow active",
        ipv6(extension(TCP) + tcp(), HOP_BY_HOP),
        IPV4_TCP_BYTES + 20 + 8,
        False,
    ),
    Counted(
        "more headers than anybody sends are one frame",
        ipv6(extension(HOP_BY_HOP) * 4 + extension(TCP) + tcp(LARGE), HOP_BY_HOP),
        IPV4_TCP_BYTES + 20 + 5 * 8 + LARGE,
    ),
    Counted("an extension header that is cut", ipv6(bytes(4), HOP_BY_HOP), ETHERNET_BYTES + 44),
    Counted(
        "the kernel's jumbo option of BIG TCP is on no wire",
        ipv6(JUMBO + tcp(3 * LARGE), HOP_BY_HOP),
        3 * (IPV4_TCP_BYTES + 20 + LARGE),
        segments=3,
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
    is_flow = case.carries_data and direction is EGRESS
    flows = {"window_flows": 1, "stray_window": 1} if is_flow else {}
    assert outcome.changed(direction) == flows | {
        "tokens_bytes": -case.frame_bytes,
        "epoch_bytes": case.frame_bytes,
        "passed_bytes": case.frame_bytes,
        "passed_packets": 1,
    }
    assert outcome.changed(EGRESS if direction is INGRESS else INGRESS) == {}


@pytest.mark.parametrize("mtu_bytes", [1280, 1500])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("headers", [20, 40], ids=["IPv4", "IPv6"])
def test_a_datagram_over_the_mtu_counts_as_its_fragments(
    programs: Programs, direction: Direction, mtu_bytes: int, headers: int
) -> None:
    """Three of them here, each with its headers; one that fits is one frame."""
    state = still_state(direction, LIMIT.burst_bytes)
    for data_bytes, frames in ((mtu_bytes - headers - 8, 1), (2 * mtu_bytes, 3)):
        data = udp(data_bytes)
        packet = ipv4(data, UDP) if headers == 20 else ipv6(data, UDP)
        outcome = programs.run(direction, packet, LIMITS, state, mtu_bytes=mtu_bytes)
        each = ETHERNET_BYTES + headers + (8 if headers == 40 and frames > 1 else 0)
        assert outcome.changed(direction)["passed_bytes"] == 8 + data_bytes + frames * each


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


GRANT = 10_000


def granted(direction: Direction, tokens_bytes: int, **fields: int) -> state_abi.PodState:
    """A state whose last look, an hour ago, left so much credit and a grant."""
    started = still_state(direction, tokens_bytes)
    clocks = {"refilled_at_ns": 1, "epoch_started_at_ns": 1, "epoch_length_ns": 1}
    return with_fields(started, direction, granted_bytes=GRANT, **clocks, **fields)


CLOCKS = {"refilled_at_ns", "epoch_started_at_ns", "epoch"}
EXACT = udp_frame(GRANT)


GROUP = ipv4(udp(LARGE), UDP, destination="239.1.1.1")
GROUP_6 = ipv6(udp(LARGE), UDP, destination="ff0e::1")


_TRIES = 10


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("packet", [GROUP, GROUP_6, udp_frame(LARGE)], ids=["v4", "v6", "one"])
def test_copies_of_a_multicast_packet_count_once(
    programs: Programs, direction: Direction, packet: bytes
) -> None:
    """Ten sockets of a group get one each; a packet to one address is no copy.

    Copies follow each other at once, so one that is interrupted is counted: not in every try.
    """
    state = still_state(direction, LIMIT.burst_bytes)
    tries = [
        programs.run(direction, packet, LIMITS, state, repeat=10).changed(direction)
        for _ in range(_TRIES)
    ]
    count = 10 if packet[0] >> 4 == 4 and packet[16] == 198 else 1
    assert min(changed["passed_packets"] for changed in tries) == count


@pytest.mark.parametrize("direction", list(Direction))
def test_copies_of_a_refused_packet_are_refused(programs: Programs, direction: Direction) -> None:
    """And counted once."""
    state = still_state(direction, DEEP)
    tries = [programs.run(direction, GROUP, LIMITS, state, repeat=10) for _ in range(_TRIES)]
    assert all(outcome.verdict != PASS for outcome in tries)
    assert min(outcome.changed(direction)["dropped_packets"] for outcome in tries) == 1


@dataclass(frozen=True)
class Granted:
    """A packet, what the last look left, and whether it looks itself."""

    name: str
    direction: Direction
    packet: bytes
    state: state_abi.PodState
    looks: bool


GRANTED = [
    Granted("egress TCP", EGRESS, ipv4(tcp(1), TCP), granted(EGRESS, 0), False),
    Granted("egress TCP in debt", EGRESS, ipv4(tcp(1), TCP), granted(EGRESS, -1), False),
    Granted("egress UDP", EGRESS, udp_frame(LARGE), granted(EGRESS, 0), False),
    Granted("egress UDP in debt", EGRESS, udp_frame(LARGE), granted(EGRESS, -1), True),
    Granted(
        "egress UDP with what was taken in debt",
        *(EGRESS, udp_frame(LARGE), granted(EGRESS, 1000, taken_bytes=1001), True),
    ),
    Granted(
        "the last byte of a grant",
        *(EGRESS, udp_frame(LARGE), granted(EGRESS, GRANT, taken_bytes=GRANT - 1), False),
    ),
    Granted(
        "a grant that is used up",
        *(EGRESS, udp_frame(LARGE), granted(EGRESS, GRANT, taken_bytes=GRANT), True),
    ),
    Granted("ingress TCP in debt", INGRESS, ipv4(tcp(1), TCP), granted(INGRESS, -1), False),
    Granted(
        "ingress that can be marked, congested",
        *(INGRESS, udp_frame(LARGE, ecn=packets.ECT0), granted(INGRESS, HALF_BURST - 1), True),
    ),
    Granted(
        "ingress that can be marked, not congested",
        *(INGRESS, udp_frame(LARGE, ecn=packets.ECT0), granted(INGRESS, HALF_BURST), False),
    ),
    Granted(
        "another limit than that of the grant",
        *(EGRESS, udp_frame(LARGE), granted(EGRESS, 0, epoch_rate_bytes_per_sec=RATE - 1), True),
    ),
]


@by_name(GRANTED)
def test_packets_within_a_grant_read_no_clock(programs: Programs, case: Granted) -> None:
    """Each is counted; the one that looks charges what was taken since the last look."""
    outcome = programs.run(case.direction, case.packet, LIMITS, case.state)
    changes = outcome.changed(case.direction)
    assert outcome.verdict == PASS
    assert CLOCKS & changes.keys() == (CLOCKS if case.looks else set())
    assert changes["passed_packets"] == 1
    assert changes["passed_bytes"] == ETHERNET_BYTES + len(case.packet)
    side = getattr(outcome.after, case.direction.value)
    taken = getattr(case.state, case.direction.value).taken_bytes
    assert side.taken_bytes == (0 if case.looks else taken + ETHERNET_BYTES + len(case.packet))


@dataclass(frozen=True)
class Looked:
    """What a look finds, and what it grants."""

    name: str
    tokens_bytes: int
    stray_window: int
    granted_bytes: int


SHORT_TIME = RATE >> constant("GRANT_SHIFT")
PAST = 100
LOOKED = [
    Looked("some credit", 0, 0, SHORT_TIME),
    Looked("debt, with room for a short time", SHORT_TIME - EGRESS_DEBT, 0, SHORT_TIME),
    Looked("debt, with room for less", 10 - EGRESS_DEBT, 0, 10),
    Looked("debt without room", -EGRESS_DEBT, 0, 0),
    Looked("a flow that nobody paces, in this window", 0, PAST + 1, 0),
    Looked("one in the window before", 0, PAST, 0),
    Looked("one earlier", 0, PAST - 1, SHORT_TIME),
    Looked("one, but the bucket is nearly full", LIMIT.burst_bytes, PAST, SHORT_TIME),
]


@by_name(LOOKED)
def test_a_look_grants_a_short_time_of_the_rate_within_the_debt(
    programs: Programs, case: Looked
) -> None:
    """Not while flows are about that have to be found; the ACK that looks is no such flow."""
    packet = ipv4(tcp(), TCP)
    state = with_fields(
        still_state(EGRESS, case.tokens_bytes + ETHERNET_BYTES + len(packet)),
        EGRESS,
        epoch=PAST * constant("EPOCHS_PER_WINDOW"),
        stray_window=case.stray_window,
    )
    outcome = programs.run(EGRESS, packet, LIMITS, state)
    assert outcome.after.egress.granted_bytes == case.granted_bytes


@pytest.mark.parametrize("direction", list(Direction))
def test_processors_side_by_side_count_every_packet(
    programs: Programs, direction: Direction
) -> None:
    """Within a grant packets take no lock, at its end they do: none goes uncounted."""
    state = with_fields(
        blank_state(),
        direction,
        tokens_bytes=UNREACHED.burst_bytes,
        refilled_at_ns=time.monotonic_ns(),
        epoch_started_at_ns=time.monotonic_ns(),
        epoch_length_ns=abi.NSEC_PER_SEC,
        epoch_rate_bytes_per_sec=UNREACHED.rate_bytes_per_sec,
    )
    limits = Limits(UNREACHED, UNREACHED)
    packets = 300_000
    outcome = programs.run(direction, ipv4(tcp(1), TCP), limits, state, repeat=packets, at_once=2)
    changes = outcome.changed(direction)
    assert changes["passed_packets"] == 2 * packets
    assert changes["passed_bytes"] == 2 * packets * (IPV4_TCP_BYTES + 1)


def test_a_socket_is_one_flow_however_much_it_sends(programs: Programs) -> None:
    """A thousand packets of one socket in one window count one flow, and each its bytes."""
    state = still_state(EGRESS, LIMIT.burst_bytes)
    outcome = programs.run(EGRESS, ipv4(tcp(1), TCP), LIMITS, state, repeat=1000)
    changes = outcome.changed(EGRESS)
    assert changes["window_flows"] == 1
    assert changes["passed_packets"] == 1000
    assert changes["passed_bytes"] == 1000 * (IPV4_TCP_BYTES + 1)
