"""Pins that are broken or somebody else's, and programs of others that allow no neighbour."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig import Rig, rig
from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import abi, build, libbpf, pins
from enforcer.datapath.pins import SOURCE_DIR, generation_dir, source_hash
from enforcer.errors import DatapathError
from enforcer.state import Target, Way
from tests.kernel.nodes import HOOKS, neighbour

LIMITS = Limits(egress=make_limit(50_000_000))
NOBODY = 65534
OVERRIDE, ALONE = 1, 0
"""Attach flags: BPF_F_ALLOW_OVERRIDE, and none."""


@pytest.fixture
def wired() -> Iterator[Rig]:
    """A rig of its own: pins go with it."""
    with rig() as r:
        yield r


def target_of(cgroup: Path) -> Target:
    """Its egress limited."""
    return Target("pod", str(cgroup), cgroup.stat().st_ino, LIMITS)


def attached(cgroup: Path) -> list[int]:
    """Ids of the programs there, whoever's."""
    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return [number for hook in HOOKS for number in libbpf.attached(fd, hook)]
    finally:
        os.close(fd)


@pytest.mark.slow_emulated
@pytest.mark.parametrize("lost", ["podpace_sockops", "target_state", abi.ITERATOR])
def test_a_daemon_without_one_of_its_pins_makes_all_anew(wired: Rig, lost: str) -> None:
    """What is attached is replaced, without a moment without the limit; nothing stays of it."""
    root, target = wired.bpffs / "podpace", target_of(wired.cgroup)
    build(root, cgroup2_mount()).write(target, Way())
    before = attached(wired.cgroup)
    (generation_dir(root, source_hash(SOURCE_DIR)) / lost).unlink()

    datapath = build(root, cgroup2_mount())
    found = datapath.observe(target.cgroup_path)
    assert found is not None
    assert not found.current
    assert attached(wired.cgroup) == before
    datapath.write(target, Way())
    datapath.prune()

    after = datapath.observe(target.cgroup_path)
    assert after is not None
    assert (after.current, after.limits) == (True, LIMITS)
    assert set(attached(wired.cgroup)).isdisjoint(before)
    assert len(attached(wired.cgroup)) == len(HOOKS)
    assert len(list(root.glob("v*/*"))) == 1


@pytest.mark.slow_emulated
def test_pins_that_are_not_roots_own_are_not_used(wired: Rig) -> None:
    """Who came first, or may write there, would say which programs are attached."""
    root = wired.bpffs / "podpace"
    generation = generation_dir(root, source_hash(SOURCE_DIR))
    for folder in (root, generation.parent, generation):
        folder.mkdir()
    os.chown(root, NOBODY, NOBODY)

    datapath = build(root, cgroup2_mount())
    assert [root.stat().st_uid, root.stat().st_mode & 0o777] == [0, 0o700]
    assert pins.is_whole(generation)
    datapath.write(target_of(wired.cgroup), Way())

    (generation / "podpace_egress").chmod(0o666)
    build(root, cgroup2_mount())
    assert pins.is_whole(generation)
    assert (generation / "podpace_egress").stat().st_mode & 0o022 == 0


@pytest.mark.parametrize(
    ("flags", "how"), [(ALONE, "as the only one"), (OVERRIDE, "with override")]
)
def test_an_ancestors_program_that_allows_no_neighbour_is_named(
    wired: Rig, flags: int, how: str
) -> None:
    """Ours would be refused, or would switch it off; nothing of ours is attached then."""
    parent = wired.cgroup.parent / f"{wired.name}-above"
    child = parent / "pod"
    child.mkdir(parents=True)
    try:
        datapath = build(wired.bpffs / "podpace", cgroup2_mount())
        with neighbour(parent, flags) as number:
            named = re.escape(f"program neighbour (id {number}) on {parent} is attached {how}")
            with pytest.raises(DatapathError, match=named):
                datapath.write(target_of(child), Way())
            assert attached(child) == []
            assert attached(parent) == [number]
        datapath.write(target_of(child), Way())
        assert len(attached(child)) == len(HOOKS)
        datapath.detach(str(child))
    finally:
        child.rmdir()
        parent.rmdir()
