"""The benchmark's arithmetic: cells, iperf3's reports, results that come back, the page."""

import json
from itertools import product
from pathlib import Path

import pytest

from bench import cost_table, results
from bench.cells import MATRIX, parse_cell, select
from bench.measurement import Measurement
from bench.report import render
from bench.rig import RigError, TcpLoad
from bench.rig.iperf import BulkResult, parse
from bench.rig.probes import LOST_MS, PingResult, percentile
from contract.names import Direction


def made(*intervals: tuple[int, ...]) -> BulkResult:
    """A result with one interval per second."""
    return BulkResult((1.0,) * len(intervals), intervals, 0, 0, 0, 1448 / 1514)


def measured(cell: str, limiter: str = "podpace", **values: object) -> Measurement:
    """A measurement of which only some values matter."""
    fields = {"utilisation": 1.0, "retransmits": 0, "frames_of_limit": 1.0, "ping_p99_ms": 0.3}
    return Measurement(cell, limiter, 6, 0, **{**fields, **values})  # type: ignore[arg-type]


def test_wildcards_choose_from_the_matrix_and_words_stand_for_themselves() -> None:
    """A star stays within the matrix's values; a limit outside it is measured when written."""
    keys = [c.key for c in select(["egress,37M,*,3"])]

    assert keys == ["egress,37M,cubic,3,v4", "egress,37M,bbr,3,v4"]


def test_a_cell_is_chosen_once() -> None:
    """Patterns that overlap do not measure twice."""
    assert len(select(["egress,10M,cubic,*", "*,10M,cubic,1"])) == 6


def test_the_matrix_has_every_limit_flow_count_and_congestion_control() -> None:
    """A hundred TCP cells over IPv4, and rows for IPv6, UDP, ECN, large frames and no limit."""
    cells = select(MATRIX)
    tcp = [c for c in cells if not c.is_udp and c.family == 4 and c.limit_bits_per_sec]

    assert len([c for c in tcp if not c.ecn and c.mtu_bytes == 1500]) == 5 * 5 * 2 * 2
    assert {(c.limit_bits_per_sec, c.flows) for c in tcp if c.mtu_bytes == 9001} == set(
        product((10**7, 10**8, 10**9), (1, 10))
    )
    assert {(c.limit_bits_per_sec, c.flows) for c in tcp if c.ecn} == set(
        product((10**7, 10**8), (1, 3, 10, 24, 50))
    )
    assert {c.family for c in cells if c.is_udp} == {4, 6}


@pytest.mark.parametrize(
    "pattern",
    ["sideways,1M,cubic,1", "egress,1M,cubic,x", "egress,1Mb", "egress,1M,cubic,1,v4,0ms,maybe"],
)
def test_a_bad_cell_is_refused_with_an_example(pattern: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(RigError, match="such as"):
        select([pattern])


def test_every_cell_is_found_again_by_its_key() -> None:
    """Results are kept under keys, so a key leads back to its cell."""
    cells = select(MATRIX)

    assert [parse_cell(c.key) for c in cells] == cells


def test_goodput_leaves_the_first_second_out() -> None:
    """The start-up burst is reported on its own and does not lift the rate."""
    result = made((1448 * 1000,), (1000,), (1000,))

    assert result.goodput_bits_per_sec() == 8000
    assert result.first_second_frame_bytes() == 1514 * 1000


def test_jain_index_is_one_for_equals_and_one_nth_for_one_taker() -> None:
    """After two seconds, whatever happened before."""
    assert made((9, 0), (9, 0), (5, 5)).jain_index() == 1
    assert made((5, 5), (5, 5), (9, 0)).jain_index() == 0.5


def test_iperf_errors_are_ours() -> None:
    """What iperf3 complains about reaches the reader in its own words."""
    load = TcpLoad(Direction.EGRESS)

    with pytest.raises(RigError, match="unable to connect"):
        parse(json.dumps({"error": "unable to connect"}), load)
    with pytest.raises(RigError, match="no JSON"):
        parse("Killed", load)


def test_percentile_is_the_nearest_rank() -> None:
    """Two lost pings of a hundred are the 99th percentile; one is not."""
    assert percentile([1.0] * 98 + [LOST_MS] * 2, 99) == LOST_MS
    assert percentile([1.0] * 101 + [LOST_MS], 98) == 1.0
    assert percentile([], 99) == 0


def test_pings_are_chosen_by_when_they_were_sent() -> None:
    """A phase gets its own pings, the lost ones too."""
    pings = PingResult([1.0, LOST_MS, 3.0], [0.0, 1.0, 2.0]).between(0.5, 2.0)

    assert (pings.latencies_ms, pings.lost) == ([LOST_MS], 1)


def test_results_come_back_and_the_latest_counts(tmp_path: Path) -> None:
    """A cell that is measured again replaces the older one; a line cut short is ignored."""
    path = tmp_path / "results.jsonl"
    results.append(path, {"machine": {"kernel": "6.1"}})
    results.append(path, measured("egress,10M,cubic,1,v4", utilisation=0.5).to_json())
    with path.open("a") as file:
        file.write('{"cell": "egr')
    results.append(path, measured("egress,10M,cubic,1,v4", utilisation=0.9).to_json())

    found = results.read(path)

    assert found.machine == {"kernel": "6.1"}
    assert [m.utilisation for m in found.measurements.values()] == [0.9]


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    """Nothing is appended to what is not ours."""
    path = tmp_path / "results.jsonl"
    path.write_text("hello\nworld\n")

    with pytest.raises(RigError, match=r"results\.jsonl:1"):
        results.read(path)


@pytest.mark.parametrize(
    ("cell", "values", "words"),
    [
        ("egress,10M,cubic,1,v4", {"utilisation": 0.969}, "utilisation 0.969"),
        ("egress,10M,cubic,1,v4", {"utilisation": 1.011}, "utilisation 1.011"),
        ("egress,1M,cubic,1,v4", {"utilisation": 0.929}, "utilisation 0.929"),
        ("egress,10M,cubic,1,v4", {"retransmits": 1}, "1 retransmits"),
        ("egress,10M,cubic,1,v4", {"ping_p99_ms": 2.1}, "ping p99 2.1"),
        ("ingress,10M,udp,1,v4", {"frames_of_limit": 1.011}, "frames at 1.011"),
        ("ingress,10M,cubic,1,v4", {"utilisation": 0.969}, "utilisation 0.969"),
        ("ingress,10M,cubic,1,v4", {"ping_p99_ms": 5.1}, "ping p99 5.1"),
        ("ingress,10M,cubic,1,v4", {"resent_part": 0.0011}, "0.0011 of the segments"),
        ("ingress,100M,cubic,1,v4", {"ping_p99_ms": 3.1}, "ping p99 3.1"),
        ("egress,10M,cubic,1,v4", {"error": "no end"}, "no end"),
        ("egress,none,cubic,1,v4", {"throughput_left": [0.9, 0.969, 1.1]}, "0.969 of the"),
        ("ingress,none,cubic,1,v4", {"program_ns_per_packet": 151.0}, "151 ns"),
    ],
)
def test_a_missed_goal_is_named(cell: str, values: dict[str, object], words: str) -> None:
    """Just outside a bound is a miss, in one line with the figure."""
    (line,) = results.missed_goals([measured(cell, **values)])

    assert line.startswith(cell)
    assert words in line


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("egress,10M,cubic,1,v4", {"utilisation": 0.97, "ping_p99_ms": 2.0}),
        ("egress,10M,cubic,1,v4", {"utilisation": 1.01, "frames_of_limit": 1.01}),
        ("egress,1M,cubic,1,v4", {"utilisation": 0.93, "retransmits": 5, "ping_p99_ms": 9}),
        ("ingress,10M,cubic,1,v4", {"utilisation": 0.97, "retransmits": 5, "ping_p99_ms": 5}),
        ("ingress,1M,cubic,1,v4", {"utilisation": 0.5, "ping_p99_ms": 99}),
        ("egress,none,cubic,1,v4", {"throughput_left": [0.9, 0.97, 1], "ping_p99_ms": 9}),
        ("ingress,none,cubic,1,v4", {"program_ns_per_packet": 150.0, "utilisation": None}),
    ],
)
def test_a_goal_that_is_met_is_not_named(cell: str, values: dict[str, object]) -> None:
    """Just inside every bound; below 10M ingress promises its ceiling only."""
    assert results.missed_goals([measured(cell, **values)]) == []


def test_the_page_shows_every_measurement_and_what_failed() -> None:
    """Limiters stand side by side; a failure is a cell of the table and its reason is told."""
    rows = [
        measured("egress,10M,cubic,1,v4", utilisation=0.987),
        measured("egress,10M,cubic,1,v4", "TBF, 2 ms burst", error="control connection starved"),
        measured("ingress,1G,udp,1,v6", retransmits=None, lost_part=0.5),
        measured("egress,none,cubic,1,v4", "no limit", utilisation=None, goodput_bits_per_sec=4e9),
        measured(
            "egress,none,cubic,1,v4",
            "empty program",
            goodput_bits_per_sec=3.9e9,
            program_ns_per_packet=95.0,
        ),
        measured(
            "egress,none,cubic,1,v4",
            utilisation=None,
            goodput_bits_per_sec=3e9,
            throughput_left=[0.98, 0.991, 1.002],
            program_ns_per_packet=150.0,
        ),
    ]
    found = results.Results({"kernel": "6.1"}, {(m.cell, m.limiter): m for m in rows})

    page = render(found, [Path("plots/egress.png")])

    assert "| 10M cubic 1 | 0.987 / 0 / 0.3 | failed |" in page
    assert "control connection starved" in page
    assert "| 1G udp 1 v6 | 1.000 / 50% lost / 0.3 |" in page
    assert "| 3.9 Gbit/s | 3 Gbit/s |  | 0.991 (0.980 to 1.002) | 95 | 150 |" in page
    assert "(plots/egress.png)" in page


def test_instructions_are_compared_without_what_an_empty_program_takes(tmp_path: Path) -> None:
    """The latest rows count; a cell without plain departure times says nothing."""
    path = tmp_path / "cost.jsonl"

    def kept(cell: str, limiter: str, own_ns: float) -> None:
        by_program = {"own": own_ns, "sockops": 30.0}
        row = {"cell": cell, "limiter": limiter, "own_ns": own_ns, "by_program_ns": by_program}
        results.append(path, row)

    results.append(path, {"machine": {"kernel": "6.1"}})
    for limiter, own in (("empty program", 100), ("plain EDT and fq", 200), ("podpace", 999)):
        kept("egress,100M,cubic,1,v4", limiter, own)
    kept("egress,100M,cubic,1,v4", "podpace", 250)
    kept("ingress,100M,cubic,1,v4", "podpace", 250)

    *_, row = cost_table.section(cost_table.read(path)).splitlines()

    assert row == "| egress,100M,cubic,1,v4 | 100 (230) | 150 (280) | 1.50 |"
    assert cost_table.section({}) == ""
