"""The end: what --cleanup removes, without a compiler too; and what upgrades hand on."""

import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import abi, build, libbpf, state_abi
from enforcer.datapath.pins import generation_dir, source_hash
from enforcer.state import Target, Way
from tests.kernel.nodes import HOOKS, Node, changed_copy

pytestmark = pytest.mark.slow_emulated
LIMIT = 50_000_000
HIDDEN = 'mount -t tmpfs none /usr/lib/python3/dist-packages || exit 9; exec "$@"'
"""In a mount namespace of its own: what hides Debian's bcc."""


def killed_under_limits(node: Node) -> None:
    """A daemon that limits two cgroups, one of podpace run, and is killed."""
    with node.daemon() as daemon:
        node.client("attach", node.rig.cgroup, "--egress", "10M", "--ingress", "10M")
        child = node.rig.cgroup / "child"
        child.mkdir()
        node.client("attach", child, "--egress", "5M")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()


def test_cleanup_removes_what_a_killed_daemon_left(node: Node) -> None:
    """Programs, pins, state files and the socket are there before, and gone afterwards."""
    killed_under_limits(node)
    child = node.rig.cgroup / "child"
    assert len(node.programs()) == len(node.programs(child)) == len(HOOKS)
    names = {path.name for path in node.files}
    assert {"enforcer.sock", "state", "podpace_egress", "target_state"} <= names
    assert len(list((node.rig.work / "state").iterdir())) == 2

    node.clean_up()

    assert node.programs() == node.programs(child) == []
    assert node.files == []


def test_cleanup_of_another_version_needs_no_compiler(node: Node, tmp_path: Path) -> None:
    """A daemon whose own programs were never pinned takes off those that are, without bcc."""
    killed_under_limits(node)

    node.clean_up(changed_copy(tmp_path), "unshare", "--mount", "sh", "-c", HIDDEN, "sh")

    assert node.programs() == node.programs(node.rig.cgroup / "child") == []
    assert node.files == []


def test_cleanup_where_nothing_is_needs_no_compiler(node: Node) -> None:
    """On a node that never had a daemon there is nothing to compile, and nothing is left."""
    node.clean_up(Path(__file__).parents[2], "unshare", "--mount", "sh", "-c", HIDDEN, "sh")

    assert node.files == []


def append(source: Path, comment: str) -> None:
    """Make it another source."""
    path = source / "bucket.h"
    path.write_text(f"{path.read_text()}\n/* {comment} */\n")


def copies_in_reverse_order(directory: Path) -> tuple[Path, Path, Path]:
    """Three program sources; the first one's hash sorts after the second one's."""
    first, second, third = (
        changed_copy(directory / name) / "bpf" for name in ("first", "second", "third")
    )
    append(third, "third")
    for number in count():
        append(second, str(number))
        if source_hash(second) < source_hash(first):
            return first, second, third
    raise AssertionError


def test_an_upgrade_goes_on_from_the_generation_that_was_in_force(
    node: Node, tmp_path: Path
) -> None:
    """With two older sets of pins, the state comes from the one that is attached."""
    pin_root, group = node.rig.bpffs / "podpace", node.rig.cgroup
    target = Target("pod", str(group), group.stat().st_ino, Limits(egress=make_limit(LIMIT)))
    counted = {}
    for marker, source in enumerate(copies_in_reverse_order(tmp_path), 1):
        build(pin_root, cgroup2_mount(), source).write(target, Way())
        state_path = generation_dir(pin_root, source_hash(source)) / "target_state"
        with libbpf.pinned(str(state_path)) as map_fd:
            value = libbpf.map_lookup(map_fd, abi.map_key(target.cgroup_id), state_abi.STATE_BYTES)
            assert value is not None
            state = state_abi.decode_state(value)
            counted[marker] = state.egress.passed_bytes
            state = replace(state, egress=replace(state.egress, passed_bytes=1000 * marker))
            libbpf.map_update(map_fd, abi.map_key(target.cgroup_id), state_abi.encode_state(state))

    assert counted == {1: 0, 2: 1000, 3: 2000}
