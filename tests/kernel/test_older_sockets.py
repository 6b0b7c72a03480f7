"""Sockets older than their limit; and what a kernel refuses."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig import FrameCounter, Rig, TcpLoad, bulk, rig, socket_counters
from bench.rig import running as started
from bench.rig.topology import PEER_ADDRESS, cgroup2_mount
from contract.limits import Limits, make_limit
from contract.names import Direction
from enforcer.datapath import build, libbpf
from enforcer.datapath.kernel import KernelDatapath
from enforcer.datapath.pins import SOURCE_DIR, generation_dir, source_hash
from enforcer.errors import UnsupportedError
from enforcer.state import Target, Way
from tests.kernel.nodes import LET_GO, SLOWER

LIMIT = 50_000_000
OWN_BYTES_PER_SEC = 250_000
SO_MAX_PACING_RATE = 47
LOAD = TcpLoad(Direction.EGRESS, 9 * SLOWER, 2)
CONNECT = f"""
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.SOL_SOCKET, {SO_MAX_PACING_RATE}, int(sys.argv[3]))
print("ready", flush=True)
for line in sys.stdin:
    s.sendall(bytes(30000)) if line == "send\\n" else None
    print(s.getsockopt(socket.SOL_SOCKET, {SO_MAX_PACING_RATE}), flush=True)
"""


@pytest.fixture
def wired() -> Iterator[Rig]:
    """A rig of its own: pins go with it."""
    with rig() as r:
        yield r


def make_datapath(r: Rig) -> KernelDatapath:
    """The real datapath."""
    return build(r.bpffs / "podpace", cgroup2_mount())


def target_of(r: Rig, bits_per_second: int) -> Target:
    """The rig's pod, its egress limited."""
    return Target(
        "pod",
        str(r.cgroup),
        r.cgroup.stat().st_ino,
        Limits(egress=make_limit(bits_per_second)),
    )


def tended(datapath: KernelDatapath, target: Target, seconds: float) -> None:
    """Do what the daemon does: tend ten times a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        datapath.tend([target])
        time.sleep(0.1)


@pytest.mark.slow_emulated
def test_an_older_socket_is_held_followed_and_let_go(wired: Rig) -> None:
    """A connection that is open already is paced without loss, follows a change, and is freed."""
    datapath = make_datapath(wired)
    first, second = target_of(wired, LIMIT), target_of(wired, LIMIT // 5)
    frames = FrameCounter(wired, Direction.EGRESS)

    with bulk(wired, LOAD) as running:
        time.sleep(1)
        datapath.write(first, Way())
        tended(datapath, first, 1)
        before, lost = frames.read(), socket_counters(wired.pod)
        tended(datapath, first, 1.5)
        held = frames.read() - before
        datapath.write(second, Way())
        tended(datapath, second, 1)
        before = frames.read()
        tended(datapath, second, 1)
        followed = frames.read() - before
        lost = socket_counters(wired.pod) - lost
        datapath.detach(str(wired.cgroup))
        result = running.result()

    assert 0.93 <= held.bits_per_sec / LIMIT <= 1.05
    assert 0.85 <= followed.bits_per_sec / (LIMIT // 5) <= 1.15
    assert lost.retransmitted_segments == 0
    assert max(result.bits_per_sec_by_interval()[-8:]) > LET_GO * LIMIT


@pytest.mark.parametrize("older", [True, False], ids=["older socket", "new socket"])
def test_an_applications_own_smaller_pace_stays(wired: Rig, older: bool) -> None:
    """An application that asked for less than its share keeps that, also after detach."""
    datapath = make_datapath(wired)
    target = target_of(wired, LIMIT)
    sink = "import socket\ns = socket.create_server(('', 7788))\nprint('ready', flush=True)\n"
    sink += "c = s.accept()[0]\nwhile c.recv(65536): pass\n"
    pipes = {"stdout": -1, "stdin": -1}
    with started(wired.peer.command(sys.executable, "-c", sink), **pipes) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        if not older:
            datapath.write(target, Way())
        arguments = [PEER_ADDRESS[4], "7788", str(OWN_BYTES_PER_SEC)]
        with started(wired.pod.command(sys.executable, "-c", CONNECT, *arguments), **pipes) as app:
            assert app.stdin is not None
            assert app.stdout is not None

            def ask(what: str) -> int:
                app.stdin.write(f"{what}\n")
                app.stdin.flush()
                return int(app.stdout.readline())

            assert app.stdout.readline() == "ready\n"
            if older:
                datapath.write(target, Way())
            for _ in range(3):
                pace = ask("send")
                datapath.tend([target])
            limited = ask("look")
            datapath.detach(str(wired.cgroup))

            assert pace <= OWN_BYTES_PER_SEC
            assert limited <= OWN_BYTES_PER_SEC
            assert ask("look") == OWN_BYTES_PER_SEC


@pytest.mark.slow_emulated
@pytest.mark.parametrize(
    ("part", "begin"),
    [
        ("egress.bpf.c", "    if (UNLIKELY(skb->ifindex == LOOPBACK_IFINDEX)) {\n"),
        ("earlier.bpf.c", "    if (flow->on_loopback)\n"),
    ],
    ids=["a program", "the iterator"],
)
def test_a_kernel_that_refuses_the_programs_is_reported(
    wired: Rig, tmp_path: Path, part: str, begin: str
) -> None:
    """What the verifier refuses becomes one line that names the kernel; nothing stays pinned."""
    source = tmp_path / "bpf"
    shutil.copytree(SOURCE_DIR, source)
    path = source / part
    refused = path.read_text().replace(begin, "    *(volatile int *)16 = 1;\n" + begin)
    assert refused != path.read_text()
    path.write_text(refused)

    with pytest.raises(UnsupportedError, match=r"this kernel \(.*\) refuses .* Linux 5\.15"):
        build(wired.bpffs / "podpace", cgroup2_mount(), source)

    assert list((wired.bpffs / "podpace").glob("v*/*")) == []


@pytest.mark.slow_emulated
def test_half_a_set_of_pins_is_removed_and_never_opened(wired: Rig) -> None:
    """A compiler of another version, killed midway, leaves nothing that a later daemon uses."""
    make_datapath(wired)
    whole = generation_dir(wired.bpffs / "podpace", source_hash(SOURCE_DIR))
    half = whole.with_name("new-0123456789abcdef")
    half.mkdir()
    libbpf.obj_pin(libbpf.obj_get(str(whole / "podpace_egress")), str(half / "podpace_egress"))

    datapath = make_datapath(wired)
    target = target_of(wired, LIMIT)
    datapath.write(target, Way())
    datapath.detach(target.cgroup_path)

    assert not half.exists()
    assert whole.exists()
