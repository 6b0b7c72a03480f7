"""The controller and the bucket together, with flows that do as they are told, a little late."""

import random

import pytest

from tests.unit.bpf.arithmetic import NSEC_PER_MSEC, NSEC_PER_SEC, START_NS, Arithmetic, limit_of
from tests.unit.bpf.simulation import Flow, Simulation

MBIT = 10**6
SETTLED_NS = NSEC_PER_SEC
END_NS = 4 * NSEC_PER_SEC
CELLS = [
    (10, 1),
    (10, 3),
    (10, 10),
    (37, 3),
    (37, 24),
    (100, 1),
    (100, 10),
    (100, 50),
    (1000, 1),
    (1000, 10),
    (5000, 10),
]
RTTS_NS = [0, 200_000, NSEC_PER_MSEC, 20 * NSEC_PER_MSEC]


def scattered(count: int, seed: int = 1) -> list[Flow]:
    """Greedy flows that set in within a tenth of a second."""
    chance = random.Random(seed)
    return [Flow(starts_at_ns=chance.randrange(NSEC_PER_SEC // 10)) for _ in range(count)]


def utilisation(run: Simulation, flows: list[Flow], from_ns: int, until_ns: int) -> float:
    """Bytes sent over bytes allowed."""
    sent = sum(flow.bytes_between(from_ns, until_ns) for flow in flows)
    return sent * NSEC_PER_SEC / (until_ns - from_ns) / run.limit.rate_bytes_per_sec


@pytest.mark.parametrize("rtt_ns", RTTS_NS)
@pytest.mark.parametrize(("mbit", "count"), CELLS)
def test_greedy_flows_use_the_limit_and_no_more(
    arithmetic: Arithmetic, mbit: int, count: int, rtt_ns: int
) -> None:
    """Once settled, the flows use 0.97 to 1.01 of the limit together and nothing is refused."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), rtt_ns)
    flows = scattered(count)
    run.run(flows, END_NS)
    assert 0.97 <= utilisation(run, flows, SETTLED_NS, END_NS) <= 1.01
    assert run.state.dropped_at_ns < START_NS + SETTLED_NS


@pytest.mark.parametrize("rtt_ns", RTTS_NS)
@pytest.mark.parametrize(("mbit", "count"), CELLS)
def test_the_share_settles_and_does_not_swing(
    arithmetic: Arithmetic, mbit: int, count: int, rtt_ns: int
) -> None:
    """From the first second on every share is within a fifth of rate / n."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), rtt_ns)
    run.run(scattered(count), END_NS)
    fair = run.limit.rate_bytes_per_sec / count
    for at_ns, share in run.shares:
        assert at_ns < SETTLED_NS or share == pytest.approx(fair, rel=0.2)


@pytest.mark.parametrize(("mbit", "count"), CELLS)
def test_a_change_in_the_number_of_flows_is_followed(
    arithmetic: Arithmetic, mbit: int, count: int
) -> None:
    """Twice the flows for two seconds, then half of them again: the limit is used throughout."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), NSEC_PER_MSEC)
    second = NSEC_PER_SEC
    guests = [
        Flow(starts_at_ns=2 * second + number * NSEC_PER_MSEC, stops_at_ns=4 * second)
        for number in range(count)
    ]
    flows = scattered(count) + guests
    run.run(flows, 6 * second)
    for from_ns in (1 * second, 3 * second, 5 * second):
        assert 0.97 <= utilisation(run, flows, from_ns, from_ns + second) <= 1.01
    hosts = utilisation(run, flows[:count], 3 * second, 4 * second)
    assert hosts == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("mbit", [10, 100, 1000])
def test_a_modest_flow_gets_what_it_wants(arithmetic: Arithmetic, mbit: int) -> None:
    """Beside three greedy flows one that wants a tenth gets it; all together use the limit."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), NSEC_PER_MSEC)
    modest = Flow(wants_bytes_per_sec=run.limit.rate_bytes_per_sec // 10)
    flows = [*scattered(3), modest]
    run.run(flows, END_NS)
    assert utilisation(run, [modest], SETTLED_NS, END_NS) >= 0.099
    assert 0.97 <= utilisation(run, flows, SETTLED_NS, END_NS) <= 1.01


@pytest.mark.parametrize("mbit", [10, 100, 1000])
@pytest.mark.parametrize("count", [1, 10])
def test_the_first_second_is_bounded(arithmetic: Arithmetic, mbit: int, count: int) -> None:
    """Flows that all set in at once send at most 1.1 s of the limit + 150 kB at first."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), 200_000)
    flows = [Flow() for _ in range(count)]
    run.run(flows, NSEC_PER_SEC)
    sent = sum(flow.bytes_between(0, NSEC_PER_SEC) for flow in flows)
    assert sent <= 1.1 * run.limit.rate_bytes_per_sec + 150_000


@pytest.mark.parametrize("mbit", [1, 10, 100])
@pytest.mark.parametrize("count", [1, 10, 50])
def test_the_ceiling_holds_from_the_first_packet_on(
    arithmetic: Arithmetic, mbit: int, count: int
) -> None:
    """Over ten seconds nothing exceeds the limit by more than 1 % and the debt bound."""
    run = Simulation(arithmetic, limit_of(mbit * MBIT), 200_000)
    flows = [Flow() for _ in range(count)]
    run.run(flows, 10 * NSEC_PER_SEC)
    sent = sum(flow.bytes_between(0, 10 * NSEC_PER_SEC) for flow in flows)
    assert sent <= 10.1 * run.limit.rate_bytes_per_sec + run.limit.debt_bytes


@pytest.mark.parametrize("count", [10, 50])
def test_flows_in_step_do_not_starve(arithmetic: Arithmetic, count: int) -> None:
    """Flows that set in at the very same instant use the limit as scattered ones do."""
    run = Simulation(arithmetic, limit_of(10 * MBIT), 200_000)
    flows = [Flow() for _ in range(count)]
    run.run(flows, 10 * NSEC_PER_SEC)
    assert utilisation(run, flows, 2 * NSEC_PER_SEC, 10 * NSEC_PER_SEC) >= 0.9
