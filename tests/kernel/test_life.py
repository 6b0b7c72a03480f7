"""The daemon comes, dies, restarts and is upgraded; the limit stays in force."""

import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bench.rig import BulkResult, TcpLoad, bulk
from bench.rig.process import EMULATED
from contract.limits import make_limit
from contract.names import Direction
from enforcer.datapath import libbpf
from enforcer.datapath.abi import debt_bytes
from tests.kernel.nodes import HOOKS, Node, changed_copy, neighbour
from tests.processes import HANGS_SECONDS

LIMIT = 50_000_000
LOAD = TcpLoad(Direction.EGRESS, 40 if EMULATED else 9, 4)
"""An emulated processor compiles for 15 s."""
_EGRESS = make_limit(LIMIT)
AHEAD_SECONDS = (
    _EGRESS.burst_bytes + debt_bytes(Direction.EGRESS, _EGRESS)
) / _EGRESS.rate_bytes_per_sec
"""What the limit lets be ahead of it, in seconds of it. Without a limit that takes some 2 ms."""
SILENT_SECONDS = 2.0 if EMULATED else 1.0
"""A receiver that does not get a processor reads nothing for so long at most."""


MOST_RSS_MB = 60 if sys.version_info < (3, 13) else 63
"""Newer interpreters take more themselves."""


def assert_no_gap(result: BulkResult) -> None:
    """At no time had more come than the limit lets through that holds from the beginning, and never
    did it stop coming.

    Not by single intervals: a receiver that stood still reads later what came in time, and its
    next interval is a short one. Frames are looked at by ``bench.handover``.
    """
    payload_bytes_per_sec = LIMIT * LOAD.payload_of_frame / 8
    silent_seconds = elapsed = received = 0.0
    for seconds, flows in zip(result.interval_seconds, result.bytes_by_interval, strict=True):
        elapsed += seconds
        received += sum(flows)
        silent_seconds = 0.0 if any(flows) else silent_seconds + seconds
        allowed = payload_bytes_per_sec * (1.01 * elapsed + AHEAD_SECONDS)
        assert received <= allowed, f"{received:.0f} of {allowed:.0f} bytes after {elapsed:.2f} s"
        assert silent_seconds <= SILENT_SECONDS, f"nothing came for {silent_seconds:.1f} s"


@pytest.mark.slow_emulated
def test_the_limit_outlives_the_daemon_and_a_restart_adopts(node: Node) -> None:
    """After kill -9 under load nothing is faster; the next daemon adopts without compiling."""
    with ExitStack() as running:
        with node.daemon() as daemon:
            node.client("attach", node.rig.cgroup, "--egress", str(LIMIT))
            load = running.enter_context(bulk(node.rig, LOAD))
            time.sleep(2)
            programs, counted = node.programs(), node.passed_bytes()
            pinned = [path.stat().st_ino for path in node.generations]
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            time.sleep(2)
        with node.daemon():
            assert node.programs() == programs
            assert [path.stat().st_ino for path in node.generations] == pinned
            assert node.passed_bytes() > counted
            result = load.result()

    assert_no_gap(result)
    assert result.retransmits == 0


@pytest.mark.slow_emulated
@pytest.mark.parametrize("abi", [None, 99], ids=["new source", "new source and ABI"])
def test_an_upgrade_keeps_the_limit(node: Node, tmp_path: Path, abi: int | None) -> None:
    """Another version replaces the programs under load, up and down again, without a gap.

    It goes on with the share and the counters, those of another ABI too.
    """
    other = changed_copy(tmp_path, abi)
    with ExitStack() as running:
        with node.daemon():
            node.client("attach", node.rig.cgroup, "--egress", str(LIMIT))
            load = running.enter_context(bulk(node.rig, LOAD))
            time.sleep(1.5)
            first, counted = node.programs(), node.passed_bytes()
        with node.daemon(other):
            second = node.programs()
            assert len(second) == len(HOOKS)
            assert not set(second) & set(first)
            assert len(node.generations) == 1
            assert node.passed_bytes() > counted
            time.sleep(1.5)
        with node.daemon():
            third = node.programs()
            assert len(third) == len(HOOKS)
            assert not set(third) & set(second)
            result = load.result()

    assert_no_gap(result)
    assert result.retransmits == 0


def held(node: Node, process: psutil.Process) -> tuple[int, list[Path]]:
    """What keeps programs, maps and links in the kernel, but for attachments: descriptors, pins."""
    return process.num_fds(), sorted(node.rig.bpffs.rglob("*"))


@pytest.mark.slow_emulated
def test_a_thousand_rounds_leave_nothing(node: Node) -> None:
    """A thousand times on and off: no attachment, descriptor, pin or memory more.

    Nothing else keeps programs, maps and links; all that the machine has is not counted, since
    others make and remove theirs.
    """
    import httpx

    transport = httpx.HTTPTransport(uds=str(node.rig.work / "enforcer.sock"))
    url = f"http://enforcer/targets/{str(node.rig.cgroup).replace('/', '%2F')}"
    with node.daemon() as daemon, httpx.Client(transport=transport, timeout=HANGS_SECONDS) as http:

        def rounds(count: int) -> None:
            for _ in range(count):
                assert http.put(url, json={"egress": "10M"}).status_code == 200
                assert http.delete(url).status_code == 204

        process = psutil.Process(daemon.pid)
        rounds(600)  # all threads have been started, the allocator's pools have their size
        before = held(node, process)
        memory = process.memory_info().rss
        rounds(1000)

        assert held(node, process) == before
        assert node.programs() == []
        assert process.memory_info().rss - memory < 2 * 2**20


@pytest.mark.slow_emulated
def test_five_hundred_targets_fit_a_small_daemon(node: Node) -> None:
    """500 targets are limited and adopted by a daemon below 60 MB without LLVM in its map."""
    groups = [node.rig.cgroup / f"t{number}" for number in range(500)]
    for group in groups:
        group.mkdir()
    import httpx

    transport = httpx.HTTPTransport(uds=str(node.rig.work / "enforcer.sock"))
    try:
        with node.daemon(), httpx.Client(transport=transport, timeout=HANGS_SECONDS) as http:
            took = []
            for group in groups:
                url = f"http://enforcer/targets/{str(group).replace('/', '%2F')}"
                start = time.perf_counter()
                assert http.put(url, json={"ingress": "10M", "egress": "5M"}).status_code == 200
                took.append((time.perf_counter() - start) * 1e3)
        start = time.monotonic()
        with node.daemon() as daemon:
            adopted = time.monotonic() - start
            listed = json.loads(node.client("list", "-o", "json"))
            process = psutil.Process(daemon.pid)
            rss_mb = process.memory_info().rss / 2**20
            libraries = {Path(entry.path).name for entry in process.memory_maps()}
            took.sort()
            print(f"attach p50 {took[250]:.1f} p99 {took[495]:.1f} ms; ", end="")
            print(f"adopted in {adopted:.2f} s; {rss_mb:.1f} MB")

            assert len(listed["targets"]) == 500
            assert all(len(node.programs(group)) == len(HOOKS) for group in groups[::50])
            assert rss_mb <= MOST_RSS_MB
            assert not any("LLVM" in name for name in libraries)
    finally:
        for group in groups:
            group.rmdir()


@pytest.mark.slow_emulated  # compiles two programs and starts two daemons
def test_a_neighbours_program_stays(node: Node, tmp_path: Path) -> None:
    """Attach, change, upgrade, detach and cleanup leave other people's programs where they were."""
    with neighbour(node.rig.cgroup) as foreign:
        with node.daemon():
            node.client("attach", node.rig.cgroup, "--egress", "10M")
            node.client("attach", node.rig.cgroup, "--egress", "20M")
            assert foreign in node.programs()
        with node.daemon(changed_copy(tmp_path)):
            assert foreign in node.programs()
            node.client("detach", node.rig.cgroup)
            assert node.programs() == [foreign]
            node.client("attach", node.rig.cgroup, "--ingress", "10M")
        node.clean_up()
        assert node.programs() == [foreign]


@pytest.mark.slow_emulated
def test_a_program_that_somebody_took_off_comes_back(node: Node) -> None:
    """The next resync repairs what is missing."""
    with node.daemon():
        node.client("attach", node.rig.cgroup, "--egress", "10M")
        attached = node.programs()
        cgroup_fd = os.open(node.rig.cgroup, os.O_RDONLY)
        with libbpf.pinned(str(node.generations[0] / "podpace_egress")) as program:
            libbpf.detach(program, cgroup_fd, libbpf.AttachType.EGRESS)
        os.close(cgroup_fd)
        assert len(node.programs()) == len(HOOKS) - 1

        end = time.monotonic() + HANGS_SECONDS
        while node.programs() != attached:
            assert time.monotonic() < end, "not repaired"
            time.sleep(0.1)
