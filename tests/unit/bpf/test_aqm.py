"""What a packet meets at the shaper: bpf/aqm.h through ctypes, in simulated time."""

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.datapath import shaper_abi
from tests.needs import missing

SOURCE = Path(__file__).with_name("shaper.c")
HEADERS = Path(__file__).parents[3] / "bpf"
SPARSE, BULK, MARK, SIGNAL, DROP = range(5)
MSEC = 10**6
SEC = 10**9
START = 3600 * SEC
FRAME = 1514
RATE = 10_000_000 // 8


def declared(structure: str) -> list[tuple[str, type]]:
    """The numbers of a structure of bpf/shape.h, in order."""
    body = (HEADERS / "shape.h").read_text().split(f"struct {structure} {{")[1].split("};")[0]
    kinds = {
        "u64": ctypes.c_uint64,
        "u32": ctypes.c_uint32,
        "struct bpf_spin_lock": ctypes.c_uint32,
    }
    found = re.findall(r"^\s*(u64|u32|struct bpf_spin_lock) (\w+);", body, re.MULTILINE)
    return [(name, kinds[kind]) for kind, name in found]


class Link(ctypes.Structure):
    """struct link."""

    _fields_ = declared("link")


class Shaper(ctypes.Structure):
    """struct shaper."""

    _fields_ = declared("shaper")


class Flow(ctypes.Structure):
    """struct shaped_flow."""

    _fields_ = declared("shaped_flow")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compiled once."""
    if shutil.which("cc") is None:
        missing("needs a C compiler; run: apt-get install gcc libc6-dev")
    built = tmp_path_factory.mktemp("aqm") / "aqm.so"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{HEADERS}", "-o", built, SOURCE], check=True)
    c = ctypes.CDLL(str(built))
    u32, u64 = ctypes.c_uint32, ctypes.c_uint64
    shaper, flow, link = (ctypes.POINTER(kind) for kind in (Shaper, Flow, Link))
    c.admit.argtypes = (shaper, flow, link, u32, ctypes.c_int, u64)
    c.take_far.argtypes = (shaper, link, u32)
    c.cost_ns.argtypes = (link, u32)
    c.cost_ns.restype = u64
    c.sent_late.argtypes = (shaper, link, u32, u64)
    c.take_back.argtypes = (shaper, link, u32)
    c.take_back.restype = None
    c.signalled.argtypes = (shaper, flow, u64)
    c.signalled.restype = None
    sizes = {"link": Link, "shaper": Shaper, "flow": Flow}
    for name, kind in sizes.items():
        assert u64.in_dll(c, f"{name}_size").value == ctypes.sizeof(kind)
    return c


def link_of(rate: int = RATE, burst_ns: int = 20 * MSEC) -> Link:
    """As user space writes it."""
    record = shaper_abi.LinkRecord(1, rate, burst_ns, 0, 0, 0, rate, 1514, 0, 2, 3, 1)
    return Link.from_buffer_copy(shaper_abi.encode_link(record))


@dataclass
class Target:
    """One shaper with a busy past: no credit is left."""

    c: ctypes.CDLL
    link: Link
    shaper: Shaper
    now: int = START

    def send(self, flow: Flow, frame_bytes: int = FRAME, *, tcp: bool = True) -> int:
        """One packet now; a signal is obeyed by dropping it, as without ECN."""
        if self.c.take_far(self.shaper, self.link, frame_bytes):
            return SPARSE
        verdict = self.c.admit(self.shaper, flow, self.link, frame_bytes, int(tcp), self.now)
        if verdict == SIGNAL:
            self.c.take_back(self.shaper, self.link, frame_bytes)
            self.c.signalled(self.shaper, flow, self.now)
        return verdict

    @property
    def delay_ns(self) -> int:
        """What waits."""
        return max(0, self.shaper.departs_at_ns - self.now)


@pytest.fixture
def target(library: ctypes.CDLL) -> Target:
    """At 10 Mbit/s."""
    return Target(library, link_of(), Shaper(departs_at_ns=START, seen_at_ns=START))


def fill(target: Target, flow: Flow, until_ns: int) -> None:
    """Queue frames of a flow that nothing stops."""
    while target.delay_ns < until_ns:
        target.c.admit(target.shaper, flow, target.link, FRAME, 1, target.now)


@pytest.mark.parametrize("rate", [125, RATE, 125_000_000, 12_500_000_000])
def test_a_frame_costs_its_time_at_the_limit(library: ctypes.CDLL, rate: int) -> None:
    """From 1 kbit/s to 100 Gbit/s, within a billionth."""
    target = Target(library, link_of(rate), Shaper(departs_at_ns=START, seen_at_ns=START))
    target.send(Flow(), 60_000)
    cost = target.shaper.departs_at_ns - START
    assert cost == pytest.approx(60_000 * SEC / rate, rel=1e-6, abs=2)


def test_a_flow_without_backlog_passes_one_that_has_some(target: Target) -> None:
    """However much waits, a ping does not; it is charged all the same."""
    fill(target, Flow(), 50 * MSEC)
    before = target.shaper.departs_at_ns
    assert target.send(Flow(), 106, tcp=False) == SPARSE
    assert target.shaper.departs_at_ns > before


def test_a_flow_never_overtakes_itself(target: Target) -> None:
    """While a packet of it waits, the next one waits too."""
    flow = Flow()
    fill(target, Flow(), 30 * MSEC)
    assert target.send(flow, 3000) == BULK
    due = target.shaper.departs_at_ns
    while target.now < due:
        assert target.send(flow, 60) != SPARSE
        target.now += 5 * MSEC


def test_sparse_flows_together_cannot_crowd_bulk_out(target: Target) -> None:
    """A thousand flows of one full frame each: beyond 5 ms they wait like everybody."""
    verdicts = [target.send(Flow()) for _ in range(100)]
    assert SPARSE in verdicts
    assert verdicts.count(SPARSE) < 10


def test_a_flood_is_cut_to_the_limit(target: Target) -> None:
    """Datagrams at twice the limit: half of them pass, and wait less than 100 ms."""
    flow, passed = Flow(), 0
    for _ in range(20_000):
        passed += target.send(flow, tcp=False) not in (DROP, SIGNAL)
        assert target.delay_ns < 100 * MSEC
        target.now += FRAME * SEC // RATE // 2
    elapsed = target.now - START
    assert passed * FRAME == pytest.approx(RATE * elapsed / SEC, rel=0.01)


def test_a_flow_above_the_target_is_told_once_in_an_interval(target: Target) -> None:
    """Marked, and without ECN dropped, but not again before it could have obeyed."""
    flow = Flow()
    fill(target, flow, 40 * MSEC)
    assert target.send(flow) == SIGNAL
    for _ in range(9):
        target.now += FRAME * SEC // RATE
        assert target.send(flow) == BULK


def test_a_flow_with_little_of_its_own_is_not_told(target: Target) -> None:
    """Another flow's backlog is not its fault, and its loss would cost it a timeout."""
    fill(target, Flow(), 100 * MSEC)
    flow = Flow()
    for _ in range(3):
        assert target.send(flow) in (SPARSE, BULK)


def test_the_last_of_a_window_is_not_dropped_for_a_signal(target: Target) -> None:
    """A GSO packet that is most of what its flow has in flight may be marked, not dropped."""
    flow = Flow()
    fill(target, flow, 30 * MSEC)
    assert target.send(flow, 20 * FRAME) == MARK


def test_tcp_waits_less_than_its_least_timeout(target: Target) -> None:
    """50 flows that send their first windows at once: beyond 200 ms they lose, not wait."""
    for _ in range(50):
        flow = Flow()
        for _ in range(10):
            target.send(flow)
    assert target.delay_ns < 205 * MSEC
    assert target.shaper.dropped_packets > 0


def test_idle_time_is_worth_the_burst(library: ctypes.CDLL) -> None:
    """After a pause that much passes before anything waits, and no more."""
    target = Target(library, link_of(burst_ns=30 * MSEC), Shaper())
    flow, passed = Flow(), 0
    while not target.delay_ns:
        target.c.admit(target.shaper, flow, target.link, FRAME, 1, target.now)
        passed += FRAME
    assert passed == pytest.approx(RATE * 30 * MSEC / SEC, abs=FRAME)


def test_packets_far_below_the_limit_are_charged_at_the_next_look(library: ctypes.CDLL) -> None:
    """While all credit is unused, 100 us of the limit pass between two looks at the clocks."""
    target = Target(library, link_of(12_500_000_000), Shaper())
    full, cost = START - target.link.burst_ns, 60_000 * SEC // 12_500_000_000
    for sent in range(1, 50):
        target.send(Flow(), 60_000)
        assert target.shaper.uncharged_ns <= 100_000
        charged = target.shaper.departs_at_ns - full
        assert charged + target.shaper.uncharged_ns == pytest.approx(sent * cost, abs=sent)
        if charged > cost:
            break
    assert sent == 100_000 // cost + 2
    assert target.shaper.passed_bytes == sent * 60_000
    assert target.shaper.may_pass_ns == 0


def test_a_lowered_limit_charges_the_next_packet(library: ctypes.CDLL) -> None:
    """What was free at 100 Gbit/s is not at 10 Mbit/s."""
    target = Target(library, link_of(12_500_000_000), Shaper())
    target.send(Flow(), 60_000)
    assert target.shaper.may_pass_ns > 0
    assert not library.take_far(target.shaper, link_of(RATE), FRAME)


def test_where_something_waits_every_packet_is_charged(target: Target) -> None:
    """Small ones too, until all credit is back."""
    fill(target, Flow(), 10 * MSEC)
    for _ in range(10):
        target.send(Flow(), 60)
        assert target.shaper.uncharged_ns == 0
        target.now += MSEC


def test_time_at_the_limit_is_counted(target: Target) -> None:
    """Only while something waits."""
    fill(target, Flow(), 20 * MSEC)
    target.now += SEC
    target.send(Flow(), 60)
    assert target.shaper.limited_ns == pytest.approx(20 * MSEC, abs=2 * MSEC)


def test_what_could_not_be_marked_costs_nothing(target: Target) -> None:
    """A packet that is dropped after all gives its time back."""
    fill(target, Flow(), 10 * MSEC)
    before = target.shaper.departs_at_ns, target.shaper.passed_bytes
    target.send(flow := Flow(), 3000)
    target.c.take_back(target.shaper, target.link, 3000)
    assert (target.shaper.departs_at_ns, target.shaper.passed_bytes) == before
    assert flow.bulk_until_ns > 0


packets = st.lists(
    st.tuples(st.integers(0, 7), st.integers(60, 65_549), st.booleans(), st.integers(0, 50 * MSEC)),
    max_size=120,
)


@settings(deadline=None, max_examples=200)
@given(rate=st.integers(125, 10**11), traffic=packets)
def test_whatever_comes_no_more_than_the_limit_and_a_bound_passes(
    *, library: ctypes.CDLL, rate: int, traffic: list[tuple[int, int, bool, int]]
) -> None:
    """Passed bytes fit time and the bound on what may wait, plus one packet."""
    target = Target(library, link_of(rate), Shaper(departs_at_ns=START, seen_at_ns=START))
    flows = [Flow() for _ in range(8)]
    passed = 0
    for number, size, tcp, pause_ns in traffic:
        passed += size * (target.send(flows[number], size, tcp=tcp) not in (DROP, SIGNAL))
        target.now += pause_ns
    waits_ns = 205 * MSEC + 50 * MSEC  # bulk, and small sparse packets ahead of it
    largest = max((size for _, size, _, _ in traffic), default=0)
    allowed = rate * (target.now - START + waits_ns) / SEC + 10 * FRAME + largest
    assert passed <= allowed * 1.001


def test_a_request_beside_many_bulk_flows_does_not_wait(target: Target) -> None:
    """Fifty flows queue all they can; a small packet each millisecond still passes them all."""
    bulk = [Flow() for _ in range(50)]
    for flow in bulk:
        for _ in range(4):
            target.send(flow)
    asking = Flow()
    for _ in range(100):
        assert target.send(asking, 67) == SPARSE
        target.send(bulk[0])
        target.now += MSEC


@pytest.mark.parametrize(("rate", "waits_ms"), [(RATE // 2, 40), (2 * RATE, 10), (RATE // 100, 0)])
def test_what_is_queued_takes_as_long_as_the_new_limit_says(
    target: Target, rate: int, waits_ms: int
) -> None:
    """Twice as long at half the limit; a queue that would be above the bound was thrown away."""
    fill(target, Flow(), 20 * MSEC)
    target.link = link_of(rate)
    target.send(Flow())
    waited = target.delay_ns - target.c.cost_ns(target.link, FRAME)
    assert waited == pytest.approx(waits_ms * MSEC, abs=2 * MSEC * RATE / rate + MSEC)


def test_a_full_frame_of_a_large_mtu_passes_what_waits(library: ctypes.CDLL) -> None:
    """What a sparse flow may have in flight is a frame of its interface."""
    link = link_of()
    link.full_frame_bytes = 9022
    target = Target(library, link, Shaper(departs_at_ns=START, seen_at_ns=START))
    fill(target, Flow(), 20 * MSEC)
    target.now += 5 * MSEC
    assert target.send(Flow(), 9014) == SPARSE
    target.now += 10 * MSEC
    target.link = link_of()
    assert target.send(Flow(), 9014) != SPARSE


def sent(target: Target, seconds: float, own: float = 0, other: float = 0) -> tuple[int, int]:
    """Frames every ms from the target's own sockets and past them, in limits; bytes let through."""
    passed, credit = [0, 0], [0.0, 0.0]
    for _ in range(int(seconds * 1000)):
        target.now += MSEC
        for i, wanted in enumerate((own, other)):
            credit[i] += wanted * RATE / 1000
            while credit[i] >= FRAME:
                credit[i] -= FRAME
                if i == 0:  # counted by the program, and no more
                    target.link.own_bytes += FRAME
                    late = 0
                else:
                    late = target.c.sent_late(target.shaper, target.link, FRAME, target.now)
                passed[i] += 0 if late else FRAME
    return passed[0], passed[1]


@pytest.fixture
def bounded(library: ctypes.CDLL) -> Target:
    """What is sent past the sockets of a target of 10 Mbit/s."""
    record = shaper_abi.LinkRecord(1, 0, 0, RATE * 105 // 100, 20 * MSEC, 0, 0, 1522, 0, 2, 3, 1)
    return Target(library, Link.from_buffer_copy(shaper_abi.encode_link(record)), Shaper())


def test_what_passes_the_sockets_is_bounded_at_a_little_above_their_limit(bounded: Target) -> None:
    """Over ten seconds 1.05 of it and the burst."""
    _, other = sent(bounded, 10, other=20)
    assert 1.03 <= other / 10 / RATE <= 1.06
    assert bounded.shaper.sent_dropped_packets > 0


def test_sockets_that_keep_to_their_limit_never_lose_a_packet_to_others(bounded: Target) -> None:
    """Others have what is left of the bound."""
    own, other = sent(bounded, 10, own=1, other=20)
    assert own / 10 / RATE == pytest.approx(1, abs=0.01)
    assert (own + other) / 10 / RATE <= 1.06


def test_a_small_frame_passes_where_the_sockets_are_ahead(bounded: Target) -> None:
    """An echo is answered while TCP is in its debt; a flood of small frames is not."""
    sent(bounded, 0.01, other=0.2)
    sent(bounded, 0.05, own=3)
    late = [bounded.c.sent_late(bounded.shaper, bounded.link, 98, bounded.now)]
    late += [bounded.c.sent_late(bounded.shaper, bounded.link, FRAME, bounded.now)]
    flood = [
        bounded.c.sent_late(bounded.shaper, bounded.link, 98, bounded.now) for _ in range(5000)
    ]
    assert late == [0, 1]
    assert flood[-1] == 1
