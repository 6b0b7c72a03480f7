"""client.top: rates from two samples."""

from dataclasses import replace

from client.top import Row, make_rows
from contract.api import DirectionStatus, TargetList, TargetStatus
from contract.names import Direction, Mode

SIDE = DirectionStatus(
    bits_per_second=8_000_000,
    burst_bits=80_000,
    enforcement="paced",
    why="",
    share_bytes_per_sec=500_000,
    active_flows=2,
    passed_bytes=1_000_000,
    passed_packets=1000,
    dropped_bytes=3000,
    dropped_packets=2,
    marked_packets=0,
    limited_seconds=1.0,
)
TARGET = TargetStatus("cgroup:/a", "/cg/a", 7, Mode.ENFORCE, (), None, SIDE, "iterator")


def test_rates_are_differences_over_time():
    """Bits per second, drops per second, part of the time at the limit."""
    later = replace(SIDE, passed_bytes=2_000_000, dropped_packets=6, limited_seconds=2.5)

    rows = make_rows(TargetList((TARGET,)), TargetList((replace(TARGET, egress=later),)), 2.0)

    assert rows == (
        Row("cgroup:/a", Direction.EGRESS, 8_000_000, 4_000_000.0, 4_000_000, 2, 2.0, 6, 0.75),
    )


def test_counters_that_began_anew_give_no_negative_rate():
    """Attached again between the samples."""
    again = replace(SIDE, passed_bytes=10, dropped_packets=0, limited_seconds=0.0)

    (row,) = make_rows(TargetList((TARGET,)), TargetList((replace(TARGET, egress=again),)), 1.0)

    assert (row.rate_bits_per_second, row.dropped_packets_per_second) == (0, 0)
    assert row.limited_fraction == 0


def test_targets_of_one_sample_only_are_left_out():
    """Also a new cgroup under an old name."""
    other = replace(TARGET, cgroup_id=8)

    assert make_rows(TargetList(()), TargetList((TARGET,)), 1.0) == ()
    assert make_rows(TargetList((TARGET,)), TargetList(()), 1.0) == ()
    assert make_rows(TargetList((TARGET,)), TargetList((other,)), 1.0) == ()


def test_time_at_the_limit_is_never_above_all_of_it():
    """The kernel's clock and ours differ a little."""
    later = replace(SIDE, limited_seconds=2.001)

    (row,) = make_rows(TargetList((TARGET,)), TargetList((replace(TARGET, egress=later),)), 1.0)

    assert row.limited_fraction == 1.0
