"""The programs on single packets: what counts, for how much, and by which clock."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.limits import Limit, Limits, make_limit
from contract.names import Direction
from enforcer.datapath import abi
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
from tests.kernel.packets import ETHERNET_BYTES, GRE, TCP, UDP, ipv4, ipv6, tcp, udp
from tests.kernel.programs import (
    LOOPBACK_IFINDEX,
    PASS,
    Programs,
    blank_state,
    load,
    still_state,
    with_fields,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
UNREACHED = make_limit(10**12)


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


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(
    ("limit", "clocks_run"),
    [(LIMIT, {"refilled_at_ns", "epoch_started_at_ns", "epoch"}), (UNREACHED, set())],
    ids=["a limit in reach", "a limit out of reach"],
)
def test_only_limits_in_reach_read_the_clock(
    programs: Programs, direction: Direction, limit: Limit, clocks_run: set[str]
) -> None:
    """A packet that leaves the bucket of a far higher limit full is counted, and not timed."""
    state = with_fields(
        blank_state(),
        direction,
        tokens_bytes=limit.burst_bytes,
        refilled_at_ns=1,
        epoch_started_at_ns=1,
        epoch_length_ns=1,
        epoch_rate_bytes_per_sec=limit.rate_bytes_per_sec,
    )
    outcome = programs.run(direction, ipv4(tcp(1), TCP), Limits(limit, limit), state)
    changes = outcome.changed(direction)
    clocks = {"refilled_at_ns", "epoch_started_at_ns", "epoch"}
    assert clocks & changes.keys() == clocks_run
    assert changes["passed_packets"] == 1


@pytest.mark.parametrize("direction", list(Direction))
def test_processors_side_by_side_count_every_packet(
    programs: Programs, direction: Direction
) -> None:
    """Far below a limit packets take no lock, near it they do: none goes uncounted."""
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
