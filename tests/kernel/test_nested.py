"""A limit below a limit: the tighter one paces, and both hold."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rig import Rig, rig
from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import build
from enforcer.datapath.kernel import KernelDatapath
from enforcer.state import Target, Way
from tests.kernel.connections import Connection, connection, eventually

pytestmark = pytest.mark.slow_emulated
TIGHT, WIDE = 10_000_000, 100_000_000
MOST_TIGHT, MOST_WIDE = TIGHT // 8 * 5 // 4, WIDE // 8 * 5 // 4


def target_of(group: Path, limit: int) -> Target:
    """A cgroup whose egress is limited."""
    return Target(group.name, str(group), group.stat().st_ino, Limits(egress=make_limit(limit)))


@contextmanager
def nested(r: Rig, outer: int, inner: int) -> Iterator[tuple[KernelDatapath, Target, Target]]:
    """The pod with one limit, and a cgroup in it with another."""
    child = r.cgroup / "inner"
    child.mkdir()
    datapath = build(r.bpffs / "podpace", cgroup2_mount())
    targets = target_of(r.cgroup, outer), target_of(child, inner)
    for target in targets:
        datapath.write(target, Way())
    yield datapath, *targets


def sends(program: Connection) -> int:
    """Its pace, once it has sent a little more."""
    program.ask("send 30000")
    return program.pace


@pytest.mark.parametrize(("outer", "inner"), [(WIDE, TIGHT), (TIGHT, WIDE)])
def test_the_tighter_of_two_nested_limits_paces(outer: int, inner: int) -> None:
    """Whichever it is: nothing is refused. When it goes, the other one paces."""
    with rig() as r, nested(r, outer, inner) as (datapath, outside, inside):
        tight, wide = (inside, outside) if inner == TIGHT else (outside, inside)
        with connection(r, cgroup=Path(inside.cgroup_path)) as program:
            assert eventually(lambda: sends(program) <= MOST_TIGHT)
            program.ask("flood")
            time.sleep(2)
            for _ in range(20):
                assert program.pace <= MOST_TIGHT
                time.sleep(0.05)
            counted = [datapath.counters(target).egress for target in (outside, inside)]
            assert [side.dropped_packets for side in counted] == [0, 0]
            assert counted[0].passed_bytes == pytest.approx(counted[1].passed_bytes, rel=0.05)
            assert counted[0].active_flows <= 1
            datapath.detach(tight.cgroup_path)
            assert eventually(lambda: 2 * MOST_TIGHT < program.pace <= MOST_WIDE)
            datapath.detach(wide.cgroup_path)
            assert program.pace == 2**32 - 1
