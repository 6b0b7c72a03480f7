"""enforcer.net.discovery: what is looked at again, and what is taken for true for a while."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.rig import Place, Rig, rig, running, terminating
from bench.rig.topology import POD_PORT
from enforcer.net import discovery
from enforcer.net.discovery import Discovery, Ways
from enforcer.net.links import LinkTable
from enforcer.net.namespaces import network_namespaces
from enforcer.net.rtnetlink import Netlink
from tests.cluster.nodes.network import inside

Find = Callable[[], Ways]


@contextmanager
def inhabited(place: Place, path: str) -> Iterator[None]:
    """With one more process, that has arrived in its namespace."""
    before = network_namespaces([path]).keys()
    inode = (Path("/run/netns") / place.namespace).stat().st_ino
    with running(place.command("sleep", "infinity")):
        # It is in the cgroup before it is in its namespace.
        wait_for(lambda: network_namespaces([path]).keys() == before | {inode}, "no process")
        yield
    wait_for(lambda: network_namespaces([path]).keys() == before, "the process stays")


def wait_for(found: Callable[[], bool], why: str) -> None:
    """Asks until it is so."""
    end = time.monotonic() + 5
    while not found():
        assert time.monotonic() < end, why
        time.sleep(0.01)


@pytest.fixture
def wired() -> Iterator[Rig]:
    """A rig with a process in the pod."""
    with terminating(), rig() as r, inhabited(r.pod, str(r.cgroup)):
        yield r


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each look into the pod's namespace."""
    seen: list[str] = []
    look = discovery.interfaces_inside

    def counted(path: str) -> list[discovery.Inside]:
        seen.append(path)
        return look(path)

    monkeypatch.setattr(discovery, "interfaces_inside", counted)
    return seen


def on_the_node(r: Rig, work: Callable[[Find], None]) -> None:
    """Run ``work`` where the host's ends are, with a way to look at the pod from there."""
    failures: list[BaseException] = []

    def body() -> None:
        path = str(r.cgroup)
        with Netlink() as netlink, closing(LinkTable()) as table:
            found = Discovery(netlink, table)
            try:
                work(lambda: found.find(path, network_namespaces([path])))
            except BaseException as error:
                failures.append(error)

    inside(r.node.namespace, body)
    if failures:
        raise failures[0]


def names(ways: Ways) -> list[str]:
    """The host's ends."""
    return [interface.name for interface in ways.interfaces]


def test_an_unchanged_host_is_looked_at_once(wired: Rig, looks: list[str]) -> None:
    """The second answer is the first; 500 idle targets cost little."""

    def work(find: Find) -> None:
        assert names(find()) == names(find()) == [POD_PORT]
        assert len(looks) == 1

    on_the_node(wired, work)


def test_what_is_kept_grows_old(
    wired: Rig, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody is told of is seen after a while."""

    def work(find: Find) -> None:
        find()
        monkeypatch.setattr(discovery, "_WAYS_KEPT_SECONDS", 0.0)
        find()
        assert len(looks) == 2

    on_the_node(wired, work)


def test_a_second_interface_is_found_at_the_next_look(wired: Rig) -> None:
    """However young the last one is."""

    def work(find: Find) -> None:
        assert names(find()) == [POD_PORT]
        namespace = wired.pod.namespace
        wired.node.run(
            *("ip", "link", "add", "name", "second", "up", "type", "veth"),
            *("peer", "name", "eth1", "netns", namespace),
        )
        wired.pod.run("ip", "link", "set", "eth1", "up")
        assert sorted(names(find())) == sorted([POD_PORT, "second"])

    on_the_node(wired, work)


def test_a_process_in_another_namespace_is_found_at_the_next_look(wired: Rig) -> None:
    """Its traffic does not come by the interfaces that were found."""

    def work(find: Find) -> None:
        assert not find().obstacle
        with inhabited(Place(wired.peer.namespace, wired.cgroup), str(wired.cgroup)):
            assert names(find()) != [POD_PORT]
        assert names(find()) == [POD_PORT]

    on_the_node(wired, work)
