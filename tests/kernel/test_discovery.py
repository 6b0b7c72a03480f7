"""enforcer.net.discovery: what leads to a target, whatever is built in it and whoever comes by."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.rig import Place, Rig, rig, running, terminating
from bench.rig.process import sh
from bench.rig.topology import PEER_PORT, POD_PORT
from enforcer.net import discovery, snapshot
from enforcer.net.discovery import Discovery
from enforcer.net.graph import HOST_NETWORK, NO_PROCESS, NOT_ITS_OWN, Ways
from enforcer.net.links import LinkTable
from enforcer.net.namespaces import namespace_of, processes
from enforcer.net.rtnetlink import Interface, Netlink
from tests.cluster.nodes.network import inside

_SANDBOXES = """
import ctypes, os, signal, sys
for _ in range(int(sys.argv[1])):
    if not os.fork():
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with its parent
        ctypes.CDLL(None).unshare(0x40000000)
        print(flush=True)
        signal.pause()
signal.pause()
"""


@dataclass
class Looker:
    """Looks at the rig's cgroup from where the host's ends are, as a daemon does."""

    rig: Rig
    discovery: Discovery
    held: frozenset[int] = frozenset()

    def find(self, uses_host_network: bool | None = None, cgroup: Path | None = None) -> Ways:
        """One look."""
        path = cgroup or self.rig.cgroup
        return self.discovery.find(str(path), path.stat().st_ino, self.held, uses_host_network)

    def names(self, uses_host_network: bool | None = None) -> list[str]:
        """The host's ends; nothing where there is an obstacle."""
        return sorted(interface.name for interface in self.find(uses_host_network).interfaces)


@contextmanager
def looking(r: Rig, held: frozenset[int] = frozenset()) -> Iterator[Looker]:
    """A daemon's eyes, just opened."""

    def opened() -> tuple[LinkTable, Discovery]:
        table = LinkTable()
        table.all()
        return table, Discovery(table)

    table, found = inside(r.node.namespace, opened)
    with closing(table), closing(found):
        yield Looker(r, found, held)


def wait_for(found: Callable[[], bool], why: str) -> None:
    """Asks until it is so."""
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end, why
        time.sleep(0.01)


@contextmanager
def inhabited(place: Place, *command: str) -> Iterator[subprocess.Popen[str]]:
    """With one more process, that has arrived in its namespace and its cgroup."""
    there = (Path("/run/netns") / place.namespace).stat().st_ino
    with running(place.command(*(command or ("sleep", "infinity")))) as process:
        wait_for(lambda: namespace_of(process.pid) == there, "it does not come")
        yield process


@contextmanager
def sandboxes(r: Rig, number: int) -> Iterator[None]:
    """Processes of the pod, each in a network namespace of its own that leads nowhere."""
    before = len(list(processes(str(r.cgroup))))
    with inhabited(r.pod, sys.executable, "-c", _SANDBOXES, str(number)):
        wait_for(lambda: len(namespaces(r)) > number, "no sandboxes")
        yield
    wait_for(lambda: len(list(processes(str(r.cgroup)))) == before, "they stay")


def namespaces(r: Rig) -> set[int]:
    """Those of the cgroup's processes."""
    return {namespace_of(pid) for pid in processes(str(r.cgroup))} - {0}


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is one."""
    monkeypatch.setattr(discovery, "_KEPT_SECONDS", 0.0)


@pytest.fixture
def eyes() -> Iterator[Looker]:
    """A rig with a process in the pod."""
    with terminating(), rig() as r, inhabited(r.pod), looking(r) as looker:
        yield looker


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look follows the first at once."""
    monkeypatch.setattr(discovery, "_DOUBT_SECONDS", 0.0)


def test_a_second_interface_is_found_at_the_next_look(eyes: Looker) -> None:
    """The one that was found before is still there."""
    assert eyes.names() == [POD_PORT]
    namespace = eyes.rig.pod.namespace
    eyes.rig.node.run(
        *("ip", "link", "add", "name", "second", "mtu", "9000", "up", "type", "veth"),
        *("peer", "name", "eth1", "netns", namespace),
    )
    assert eyes.names() == sorted([POD_PORT, "second"])
    (second,) = (end for end in eyes.find().interfaces if end.name == "second")
    assert second.mtu_bytes == 9000
    eyes.rig.node.run("ip", "link", "set", "second", "mtu", "1280")
    assert {end.name: end.mtu_bytes for end in eyes.find().interfaces}["second"] == 1280
    eyes.rig.node.run("ip", "link", "del", "second")
    assert eyes.names() == [POD_PORT]


def test_what_is_unchanged_is_looked_at_once(eyes: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has grown old, or a veth into the pod comes, changes or goes."""
    monkeypatch.setattr(discovery, "_KEPT_SECONDS", 3600.0)
    asked = counted(monkeypatch, "namespace_id")
    assert eyes.names() == eyes.names() == [POD_PORT]
    looks = len(asked)
    eyes.rig.node.run("ip", "link", "set", PEER_PORT, "mtu", "1400")
    assert eyes.names() == [POD_PORT]
    assert len(asked) == looks
    eyes.rig.node.run("ip", "link", "set", POD_PORT, "mtu", "1400")
    assert [end.mtu_bytes for end in eyes.find().interfaces] == [1400]
    assert len(asked) > looks


def test_a_sandbox_in_the_pod_changes_nothing(eyes: Looker) -> None:
    """A namespace with no way out: browsers make them, and so can anybody."""
    assert eyes.names() == [POD_PORT]
    with sandboxes(eyes.rig, 3):
        assert eyes.names() == [POD_PORT]
        with looking(eyes.rig) as young:
            assert young.names() == [POD_PORT]
    assert eyes.names() == [POD_PORT]


def test_a_container_in_the_pod_changes_nothing(eyes: Looker) -> None:
    """A bridge in the pod, a veth on it, and the other end in a namespace of its own."""
    r, nested = eyes.rig, f"{eyes.rig.pod.namespace}-in"
    sh("ip", "netns", "add", nested)
    try:
        r.pod.run("ip", "link", "add", "br0", "up", "type", "bridge")
        r.pod.run(
            *("ip", "link", "add", "in0", "up", "master", "br0", "type", "veth"),
            *("peer", "name", "eth0", "netns", nested),
        )
        sh("ip", "-n", nested, "link", "set", "eth0", "up")
        with inhabited(Place(nested, r.cgroup)), looking(r) as young:
            assert eyes.names() == [POD_PORT]
            assert young.names() == [POD_PORT]
    finally:
        sh("ip", "netns", "del", nested)


def test_a_process_on_the_host_changes_nothing(eyes: Looker) -> None:
    """CRI-O's monitor: in the pod's cgroup, in the host's namespace."""
    with inhabited(Place(eyes.rig.node.namespace, eyes.rig.cgroup)), looking(eyes.rig) as young:
        for says in (None, False):
            assert eyes.names(says) == [POD_PORT]
            assert young.names(says) == [POD_PORT]
        assert young.find(uses_host_network=True).obstacle == HOST_NETWORK


def test_one_that_comes_by_is_a_guest(eyes: Looker) -> None:
    """A debugger of another cgroup in the pod's namespace: the pod was there first."""
    other = eyes.rig.cgroup.parent / "other"
    other.mkdir()
    try:
        with inhabited(Place(eyes.rig.pod.namespace, other)), looking(eyes.rig) as young:
            assert eyes.names() == [POD_PORT]
            assert young.names() == [POD_PORT]
            assert young.find(cgroup=other).obstacle == NOT_ITS_OWN
    finally:
        wait_for(lambda: not list(processes(str(other))), "it stays")
        other.rmdir()


def test_who_was_first_stays_so_when_its_processes_change(eyes: Looker) -> None:
    """A guest that is older than the pod's present processes takes nothing over."""
    other = eyes.rig.cgroup.parent / "other"
    other.mkdir()
    first = int(next(iter(processes(str(eyes.rig.cgroup)))))
    assert eyes.names() == [POD_PORT]
    try:
        with inhabited(Place(eyes.rig.pod.namespace, other)), inhabited(eyes.rig.pod):
            sh("kill", str(first))
            wait_for(lambda: first not in processes(str(eyes.rig.cgroup)), "it stays")
            assert eyes.names() == [POD_PORT]
            port = index_of(eyes, POD_PORT)
            with looking(eyes.rig, frozenset({port})) as restarted:
                assert restarted.names() == [POD_PORT]
            with looking(eyes.rig) as young:
                assert young.find().obstacle == NOT_ITS_OWN
                assert young.names(uses_host_network=False) == [POD_PORT]
    finally:
        wait_for(lambda: not list(processes(str(other))), "it stays")
        other.rmdir()


def test_less_counts_when_it_is_seen_twice(eyes: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that left for another namespace: its old way is kept for one look more."""
    with inhabited(Place(eyes.rig.peer.namespace, eyes.rig.cgroup)):
        assert eyes.names() == sorted([PEER_PORT, POD_PORT])
    assert eyes.names() == sorted([PEER_PORT, POD_PORT])
    monkeypatch.setattr(discovery, "_DOUBT_SECONDS", 0.0)
    assert eyes.names() == [POD_PORT]


def test_a_way_that_is_gone_is_gone_at_once(eyes: Looker) -> None:
    """Nothing can be held at an interface that is not there."""
    assert eyes.names() == [POD_PORT]
    eyes.rig.node.run("ip", "link", "del", POD_PORT)
    assert eyes.find().interfaces == ()


@pytest.mark.usefixtures("at_once")
def test_a_cgroup_between_two_processes_keeps_its_ways(eyes: Looker) -> None:
    """There is nobody whom a weaker limit would do good."""
    assert eyes.names() == [POD_PORT]
    (first,) = processes(str(eyes.rig.cgroup))
    sh("kill", str(first))
    wait_for(lambda: not list(processes(str(eyes.rig.cgroup))), "it stays")
    for _ in range(3):
        assert eyes.names() == [POD_PORT]
    with looking(eyes.rig) as young:
        assert young.find().obstacle == NO_PROCESS


def test_what_stands_on_the_host_is_an_obstacle(eyes: Looker) -> None:
    """A tunnel whose packets arrive in the host's namespace: they pass no veth.

    One made in the pod is a way inside of another.
    """
    for place, name in ((eyes.rig.pod, "vx0"), (eyes.rig.node, "vx1")):
        tunnel = ("ip", "link", "add", name, "type", "vxlan", "id", "5", "dstport", "4789")
        place.run(*tunnel)
    eyes.rig.pod.run("ip", "link", "set", "vx0", "up")
    assert eyes.names() == [POD_PORT]
    eyes.rig.node.run("ip", "link", "set", "vx1", "netns", eyes.rig.pod.namespace)
    eyes.rig.pod.run("ip", "link", "set", "vx1", "up")
    with looking(eyes.rig) as young:
        assert young.find().obstacle == "its vx1 (vxlan) has no veth on the host"


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """How much each call of a function of the snapshot's gave."""
    counts: list[int] = []
    real = getattr(snapshot, name)

    def count(*arguments: object) -> object:
        found = real(*arguments)
        counts.append(len(found) if isinstance(found, list) else 1)
        return found

    monkeypatch.setattr(snapshot, name, count)
    return counts


def test_a_look_goes_into_some_namespaces_and_the_next_into_others(
    eyes: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a tenant builds; his first process is found in time, and what is known stays."""
    monkeypatch.setattr(snapshot, "_NAMESPACES", 10)
    monkeypatch.setattr(snapshot, "_PROCESSES", 25)
    assert eyes.names() == [POD_PORT]
    with sandboxes(eyes.rig, 100), looking(eyes.rig) as young:
        asked = counted(monkeypatch, "namespace_id")
        for _ in range(14):
            asked.clear()
            assert eyes.names() == [POD_PORT]
            assert len(asked) <= 10
        found = {name for _ in range(14) for name in young.names()}
        assert found == {POD_PORT}
        assert young.names() == [POD_PORT]
    assert eyes.names() == [POD_PORT]


def test_a_sandbox_is_not_looked_into(eyes: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand interfaces there cost nothing; in the pod's own, a part of them."""
    assert eyes.names() == [POD_PORT]
    looked = counted(monkeypatch, "interfaces")
    monkeypatch.setattr(snapshot, "_KEPT_SECONDS", 0.0)
    with sandboxes(eyes.rig, 5):
        assert eyes.names() == [POD_PORT]
        assert looked == [2]
    several = "".join(f"link add d{number} type ifb\n" for number in range(600))
    sh("ip", "-n", eyes.rig.pod.namespace, "-batch", "-", stdin=several)
    assert eyes.names() == [POD_PORT]
    assert looked[1] < 300


def test_a_namespace_is_opened_by_its_number(eyes: Looker) -> None:
    """By a descriptor that stays the same one, whoever gets the process's number next."""
    (number,) = eyes.find().namespace_ids
    there = (Path("/run/netns") / eyes.rig.pod.namespace).stat().st_ino
    with eyes.discovery.opened(number) as fd, looking(eyes.rig) as young:
        assert fd is not None
        assert Path(f"/proc/self/fd/{fd}").stat().st_ino == there
        with young.discovery.opened(number) as same, young.discovery.opened(4711) as none:
            assert same is not None
            assert none is None


def index_of(eyes: Looker, name: str) -> int:
    """The number of one of the host's ends."""

    def look() -> list[Interface]:
        with Netlink() as netlink:
            return snapshot.interfaces(netlink)

    found = inside(eyes.rig.node.namespace, look)
    return next(interface.ifindex for interface in found if interface.name == name)
