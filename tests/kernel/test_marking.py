"""The programs on single packets: exempt networks and ECN."""

from dataclasses import dataclass

import pytest

from contract.limits import Limits
from contract.names import Direction, Mode
from enforcer.state import exempt_list_id
from tests.kernel import packets
from tests.kernel.cases import DEEP, LARGE, LIMIT, LIMITS, by_name, udp_frame
from tests.kernel.packets import CE, ECT0, ECT1, TCP, UDP, ipv4, ipv6, tcp, udp
from tests.kernel.programs import DROP, PASS, Programs, load, still_state

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
HALF_BURST = LIMIT.burst_bytes // 2


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Both programs, ready for test runs."""
    return load()


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
LIST = 0
"""These are what a list's id differs in from the target's."""
OTHER_ID = 1
OTHER_HIGH_ID = 1 << 32
EXEMPTED = [
    Exempted("v4 destination", EGRESS, FROM_TO_4, ((LIST, "10.9.0.0/16"),), True),
    Exempted("v4 host", EGRESS, FROM_TO_4, ((LIST, "10.9.0.1/32"),), True),
    Exempted("v4 neighbour", EGRESS, FROM_TO_4, ((LIST, "10.9.0.0/32"),), False),
    Exempted("v4 own address", EGRESS, FROM_TO_4, ((LIST, "10.0.0.0/16"),), False),
    Exempted("v4 everything", EGRESS, FROM_TO_4, ((LIST, "0.0.0.0/0"),), True),
    Exempted("v4 with v6 everything but v4", EGRESS, FROM_TO_4, ((LIST, "2000::/3"),), False),
    Exempted("v6 destination", EGRESS, FROM_TO_6, ((LIST, "fd09::/64"),), True),
    Exempted("v6 neighbour", EGRESS, FROM_TO_6, ((LIST, "fd09:0:0:1::/64"),), False),
    Exempted("v6 own address", EGRESS, FROM_TO_6, ((LIST, "fd00::/64"),), False),
    Exempted("v4 with v6 everything", EGRESS, FROM_TO_4, ((LIST, "::/0"),), False),
    Exempted("v4 with the mapped range", EGRESS, FROM_TO_4, ((LIST, "::ffff:0:0/96"),), False),
    Exempted("v6 with v6 everything", EGRESS, FROM_TO_6, ((LIST, "::/0"),), True),
    Exempted("v6 with v4 everything", EGRESS, FROM_TO_6, ((LIST, "0.0.0.0/0"),), False),
    Exempted("v4 source", INGRESS, FROM_TO_4, ((LIST, "10.0.0.0/16"),), True),
    Exempted("v4 target's address", INGRESS, FROM_TO_4, ((LIST, "10.9.0.0/16"),), False),
    Exempted("v6 source", INGRESS, FROM_TO_6, ((LIST, "fd00::/16"),), True),
    Exempted("v6 target's address", INGRESS, FROM_TO_6, ((LIST, "fd09::/16"),), False),
    Exempted("another list's CIDR", EGRESS, FROM_TO_4, ((OTHER_ID, "10.9.0.0/16"),), False),
    Exempted("an id of another high half", EGRESS, FROM_TO_6, ((OTHER_HIGH_ID, "::/0"),), False),
    Exempted(
        "a second CIDR",
        EGRESS,
        FROM_TO_4,
        ((LIST, "10.8.0.0/16"), (LIST, "10.9.0.0/24")),
        True,
    ),
    Exempted("none asked for", EGRESS, FROM_TO_4, ((LIST, "10.9.0.0/16"),), False, flag=False),
    Exempted("a cut v4 header", EGRESS, FROM_TO_4[:19], ((LIST, "0.0.0.0/0"),), False),
]


@by_name(EXEMPTED)
def test_exempt_networks_are_neither_counted_nor_limited(
    programs: Programs, case: Exempted
) -> None:
    """A packet to (or from) an exempt network leaves the record alone; any other is judged."""
    cidrs = tuple(cidr for _list, cidr in case.entries)
    own = exempt_list_id(cidrs)
    programs.set_exempt(*((own ^ difference, cidr) for difference, cidr in case.entries))
    limits = Limits(LIMIT, LIMIT, exempt_cidrs=cidrs if case.flag else ())
    outcome = programs.run(
        case.direction, case.packet, limits, still_state(case.direction, LIMIT.burst_bytes)
    )
    assert outcome.verdict == PASS
    programs.set_exempt()
    assert (outcome.after == outcome.before) is case.exempt


@dataclass(frozen=True)
class Marked:
    """A packet that finds so much credit on its way in, and its ECN bits after."""

    name: str
    packet: bytes
    tokens_bytes: int
    ecn: int
    mode: Mode = Mode.ENFORCE
    shaped: bool = False


MARKED = [
    Marked("ECT(0), congested", udp_frame(LARGE, ecn=ECT0), HALF_BURST - 1, CE),
    Marked("ECT(1), congested", udp_frame(LARGE, ecn=ECT1), HALF_BURST - 1, CE),
    Marked("IPv6 ECT(0), congested", ipv6(tcp(LARGE), TCP, ecn=ECT0), HALF_BURST - 1, CE),
    Marked("not ECT, congested", udp_frame(LARGE), HALF_BURST - 1, 0),
    Marked("IPv6 not ECT, congested", ipv6(tcp(LARGE), TCP), HALF_BURST - 1, 0),
    Marked("ECT(0), not congested", udp_frame(LARGE, ecn=ECT0), HALF_BURST, ECT0),
    Marked("ECT(0), observed", udp_frame(LARGE, ecn=ECT0), 0, ECT0, Mode.OBSERVE),
    Marked("ECT(0), behind a queue", udp_frame(LARGE, ecn=ECT0), 0, ECT0, shaped=True),
]


@by_name(MARKED)
def test_congestion_is_marked_on_packets_that_can_carry_it(
    programs: Programs, case: Marked
) -> None:
    """CE is set, and counted, where the bucket is under half full and the sender knows ECN.

    Not behind a queue: that marks by what waits in it.
    """
    limits = Limits(LIMIT, LIMIT, case.mode)
    state = still_state(INGRESS, case.tokens_bytes)
    outcome = programs.run(INGRESS, case.packet, limits, state, ingress_shaped=case.shaped)
    assert outcome.verdict == PASS
    assert packets.ecn_of(outcome.packet) == case.ecn
    assert outcome.changed(INGRESS).get("marked_packets", 0) == (case.ecn == CE)
    if outcome.packet[0] >> 4 == 4:
        assert packets.checksum(outcome.packet[:20]) == 0


@pytest.mark.parametrize("packet", [udp_frame(LARGE, ecn=CE), ipv6(tcp(LARGE), TCP, ecn=CE)])
def test_what_arrives_marked_is_not_counted_as_ours(programs: Programs, packet: bytes) -> None:
    """A router's congestion mark stays, and is no mark of this limit."""
    outcome = programs.run(INGRESS, packet, LIMITS, still_state(INGRESS, HALF_BURST - 1))
    assert (outcome.verdict, packets.ecn_of(outcome.packet)) == (PASS, CE)
    assert outcome.changed(INGRESS).get("marked_packets", 0) == 0


def test_a_dropped_packet_is_not_counted_as_marked(programs: Programs) -> None:
    """What is refused tells its sender by being lost."""
    packet = udp_frame(LARGE, ecn=ECT0)
    outcome = programs.run(INGRESS, packet, LIMITS, still_state(INGRESS, DEEP))
    assert outcome.verdict == DROP
    assert outcome.changed(INGRESS).get("marked_packets", 0) == 0
