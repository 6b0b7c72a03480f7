"""Other programs ask the kernel for calls of their own on a socket: theirs stay, and ours."""

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rig import Rig, rig
from bench.rig.topology import cgroup2_mount
from contract.limits import Limits, make_limit
from enforcer.datapath import build, headers, libbpf
from enforcer.datapath.kernel import KernelDatapath
from enforcer.state import Target, Way
from tests.kernel.connections import connection, eventually

pytestmark = pytest.mark.slow_emulated
LIMIT = 50_000_000
_OTHER = """
#include <uapi/linux/bpf.h>
BPF_ARRAY(seen, u64, 2);
int other(struct bpf_sock_ops *ops)
{
    int there = !!(ops->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
    u64 *count = seen.lookup(&there);

    if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
        bpf_sock_ops_cb_flags_set(ops, FLAGS);
    if (ops->op == BPF_SOCK_OPS_RTT_CB && count)
        ++*count;
    return 1;
}
"""
TAKES_OURS_OFF = "BPF_SOCK_OPS_STATE_CB_FLAG"
ADDS_ITS_OWN = """ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG |
    BPF_SOCK_OPS_RTT_CB_FLAG"""


@pytest.fixture
def wired() -> Iterator[Rig]:
    """A rig of its own: pins go with it."""
    with rig() as r:
        yield r


@contextmanager
def other(group: Path, flags: str) -> Iterator[Callable[[], tuple[int, int]]]:
    """Somebody else's sock_ops program on a cgroup, which runs after those below it.

    A call tells at how many round trips its flag was gone, and at how many there.
    """
    with tempfile.TemporaryDirectory() as tree, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Debian's bcc is older than this Python
        from bcc import BPF

        cflags = headers.write_tree(Path(tree))
        os.environ["BCC_KERNEL_SOURCE"] = tree
        module = BPF(text=_OTHER.replace("FLAGS", flags), cflags=list(cflags))
    hook = libbpf.AttachType.SOCK_OPS
    program = module.load_func(b"other", BPF.SOCK_OPS).fd
    group_fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    libbpf.attach(program, group_fd, hook)
    try:
        seen = module[b"seen"]
        yield lambda: (int(seen[0].value), int(seen[1].value))
    finally:
        libbpf.detach(program, group_fd, hook)
        os.close(group_fd)


def target_of(r: Rig, egress: int, ingress: int | None = None) -> Target:
    """The rig's pod."""
    limits = Limits(ingress and make_limit(ingress), make_limit(egress))
    return Target("pod", str(r.cgroup), r.cgroup.stat().st_ino, limits)


def limited(r: Rig, target: Target) -> KernelDatapath:
    """Its datapath, with the limits in force; what comes in is held by windows."""
    datapath = build(r.bpffs / "podpace", cgroup2_mount())
    datapath.write(target, Way())
    datapath.write(target, Way(True))
    return datapath


def test_a_live_change_reaches_a_connection_whose_flags_were_taken_off(wired: Rig) -> None:
    """An ancestor's program keeps only its own: the connection is reached from outside."""
    target, lower = target_of(wired, LIMIT), target_of(wired, LIMIT // 10)
    datapath = limited(wired, target)
    with other(wired.cgroup.parent, TAKES_OURS_OFF), connection(wired) as program:

        def pace() -> int:
            datapath.tend([target])
            return program.pace

        assert pace() <= LIMIT // 8 * 5 // 4
        program.ask("flood")
        datapath.write(lower, Way(True))
        assert eventually(lambda: pace() <= LIMIT // 80 * 5 // 4)
        datapath.write(target, Way(True))
        assert eventually(lambda: pace() > LIMIT // 8 // 2)
        datapath.detach(str(wired.cgroup))
        assert program.pace == 2**32 - 1


@pytest.mark.parametrize("older", [True, False], ids=["older than the limit", "newer"])
@pytest.mark.parametrize("ingress", [None, LIMIT], ids=["egress", "both ways"])
def test_what_other_programs_asked_for_is_never_taken_away(
    wired: Rig,
    older: bool,
    ingress: int | None,
) -> None:
    """Their callbacks are there at every round trip of a connection, whoever set them first."""
    target = target_of(wired, LIMIT, ingress)
    datapath = None if older else limited(wired, target)
    with other(wired.cgroup.parent, ADDS_ITS_OWN) as seen, connection(wired) as program:
        program.ask("flood")
        time.sleep(0.5)
        if older:
            datapath = limited(wired, target)
        assert datapath is not None
        for _ in range(20):
            datapath.tend([target])
            time.sleep(0.05)
        assert program.pace <= LIMIT // 8 * 5 // 4
        datapath.detach(str(wired.cgroup))
        time.sleep(0.2)
        gone, there = seen()
    assert gone == 0
    assert there > 0
