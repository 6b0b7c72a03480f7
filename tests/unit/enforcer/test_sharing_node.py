"""enforcer.sharing.node and .loop: the node's link, shared by what leaves by it."""

import pytest

from contract.limits import Limits, Sharing, make_limit
from contract.names import Direction
from enforcer.net.rtnetlink import NO_ID, Interface
from enforcer.net.uplink import Route, uplink_of
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.store import TargetStore
from enforcer.sharing import loop
from enforcer.state import (
    NO_RATES,
    Target,
    exempt_list_id,
)
from tests.fakes import FakeDatapath, FakeLog, FakeNetwork
from tests.unit.enforcer.fake_link import CAPACITY, FakeLink

EGRESS = Direction.EGRESS
SECOND = 10**9
GIGABIT = 10**9


def pod(number: int, request: int = 0, limit: int | None = GIGABIT) -> Target:
    """One with a limit of 1G."""
    limits = Limits(
        egress=None if limit is None else make_limit(limit), egress_sharing=Sharing(request)
    )
    return Target(f"pod:a/{number}", f"/pod{number}", number, limits)


class Node:
    """A loop over fakes, whose pods send what they want of what they are given."""

    def __init__(self, folder, targets: list[Target]) -> None:
        self.now_ns = 1000 * SECOND
        self.datapath, self.network, self.log = FakeDatapath(), FakeNetwork(), FakeLog()
        self.link = FakeLink()
        self.store = TargetStore(folder)
        folder.mkdir()
        self.wants: dict[int, int] = {}
        self.local: dict[int, int] = {}
        """What of it stays on the node."""
        self.others = 0
        self.sharing = loop.Sharing(
            self.datapath,
            self.network,
            self.store,
            self.log,
            Complaints(self.log, lambda _: None),
            link=self.link,
            clock_ns=lambda: self.now_ns,
            sleep=self._pass,
        )
        for target in targets:
            self.store.save(target)
            self.sharing.admit(target)
            self.datapath.used_bytes[target.cgroup_id] = 0, 0
        for _ in range(2):  # the link is looked at once somebody has a request
            self.sharing.look()

    def rate(self, number: int) -> int | None:
        """What it may send now; None: its limit."""
        given = self.datapath.given.get(number, NO_RATES).egress
        return None if given is None else given.current

    def run(self, seconds: float) -> None:
        """So long."""
        end = self.now_ns + seconds * SECOND
        while self.now_ns < end:
            self.sharing.step()

    def _pass(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        self.link.sent_bytes += int(self.others * seconds)
        for number, want in self.wants.items():
            given = self.rate(number)
            sent = want if given is None else min(want, given)
            local = min(sent, self.local.get(number, 0))
            passed = self.datapath.used_bytes[number][1] + int(sent * seconds)
            stayed = self.datapath.local_bytes.get(number, (0, 0))[1] + int(local * seconds)
            self.datapath.used_bytes[number] = 0, passed
            self.datapath.local_bytes[number] = 0, stayed
            self.link.sent_bytes += int((sent - local) * seconds)


@pytest.fixture
def node(tmp_path) -> Node:
    """One pod with a request of 500M, four without."""
    return Node(tmp_path / "state", [pod(1, GIGABIT // 2), *(pod(n) for n in range(2, 6))])


def test_while_the_link_is_not_nearly_used_everyone_has_his_limit(node) -> None:
    """No pod's counter is read, nothing is written."""
    node.wants = {1: CAPACITY // 4, 2: CAPACITY // 3}
    gifts = len(node.datapath.gifts)
    node.run(5)

    assert all(node.rate(number) is None for number in range(1, 6))
    assert len(node.datapath.gifts) == gifts
    assert node.log.events == []


def test_requests_are_kept_when_everybody_wants_everything(node) -> None:
    """Within half a second; together no more than the capacity, but for what idle ones keep."""
    node.wants = dict.fromkeys(range(1, 6), CAPACITY)
    node.run(0.6)

    rates = [node.rate(number) for number in range(1, 6)]
    assert rates[0] >= CAPACITY // 2
    assert 0.97 * CAPACITY <= sum(rates) <= 1.001 * CAPACITY
    assert node.log.events == ["short"]


def test_a_request_that_goes_idle_is_used_by_others_and_is_back_when_it_comes_back(node) -> None:
    """Each within half a second."""
    node.wants = dict.fromkeys(range(1, 6), CAPACITY)
    node.run(2)
    node.wants[1] = 0
    node.run(0.5)
    assert sum(node.rate(number) for number in range(2, 6)) >= 0.97 * CAPACITY

    node.wants[1] = CAPACITY
    node.run(0.5)
    assert node.rate(1) >= CAPACITY // 2


def test_traffic_that_stays_on_the_node_costs_no_capacity_and_is_not_slowed(node) -> None:
    """Five times the link's capacity between two pods."""
    fast = pod(6, limit=10 * GIGABIT)
    node.store.save(fast)
    node.sharing.admit(fast)
    node.datapath.used_bytes[6] = 0, 0
    local = 5 * CAPACITY
    node.wants, node.local = {6: local}, {6: local}
    node.run(1)
    node.wants |= dict.fromkeys(range(1, 6), CAPACITY)
    node.run(2)

    assert node.rate(6) > local
    assert sum(node.rate(number) for number in range(1, 6)) >= 0.95 * CAPACITY


def test_what_others_send_is_taken_off(node) -> None:
    """The host, and exempt networks: half of the link here."""
    node.others = CAPACITY // 2
    node.wants = dict.fromkeys(range(1, 6), CAPACITY)
    node.run(5)

    together = sum(node.rate(number) for number in range(1, 6))
    assert together == pytest.approx(CAPACITY // 2, rel=0.1)


def test_when_it_is_calm_again_the_limits_hold(node) -> None:
    """Nothing of ours is left in a record but what is counted apart."""
    node.wants = dict.fromkeys(range(1, 6), CAPACITY)
    node.run(2)
    node.wants = {1: CAPACITY // 10}
    node.run(4)

    assert all(node.rate(number) is None for number in range(1, 6))
    assert node.log.events == ["short", "enough"]
    local = exempt_list_id(node.link.uplink.local_networks)
    assert {rates.local_list for rates in node.datapath.given.values()} == {local}


def test_without_requests_or_without_a_known_capacity_nothing_is_shared(tmp_path) -> None:
    """And nobody is given anything."""
    node = Node(tmp_path / "state", [pod(1), pod(2)])
    node.wants = {1: CAPACITY, 2: CAPACITY}
    node.run(2)
    assert node.datapath.given == {}

    node.link.capacity = None
    node.store.save(pod(3, GIGABIT // 2))
    node.run(2)
    assert all(rates.egress is None for rates in node.datapath.given.values())


def test_another_capacity_is_followed(node) -> None:
    """Within the next look."""
    node.wants = dict.fromkeys(range(1, 6), CAPACITY)
    node.run(2)
    node.link.capacity = CAPACITY // 2
    node.run(1)

    assert sum(node.rate(number) for number in range(1, 6)) <= 0.51 * CAPACITY


def test_requests_that_do_not_fit_are_scaled_and_that_is_said(tmp_path) -> None:
    """1.5 of the capacity: each has two thirds of his."""
    node = Node(tmp_path / "state", [pod(n, GIGABIT // 2) for n in range(1, 4)])
    node.wants = dict.fromkeys(range(1, 4), CAPACITY)
    node.run(2)

    assert node.log.events[0] == "overbooked"
    assert node.rate(1) == pytest.approx(CAPACITY // 3, rel=0.02)


def test_a_request_without_a_limit_shares_too(tmp_path) -> None:
    """It may have the whole link while nobody else wants it."""
    node = Node(tmp_path / "state", [pod(1, GIGABIT // 2, limit=None), pod(2)])
    node.wants = {1: CAPACITY, 2: CAPACITY}
    node.run(2)

    assert node.rate(1) >= CAPACITY // 2


LINKS = {
    n: Interface(n, name, kind, is_up=True, mtu_bytes=1500, peer_ifindex=0, peer_namespace_id=NO_ID)
    for n, name, kind in (
        (1, "lo", "loopback"),
        (2, "eth0", ""),
        (3, "eth1", ""),
        (4, "cni0", "bridge"),
        (5, "cali1", "veth"),
        (6, "flannel.1", "vxlan"),
        (7, "cilium_host", "veth"),
    )
}
DEFAULT = Route("0.0.0.0/0", (2,), has_gateway=True, is_local=False, metric=100)


@pytest.mark.parametrize(
    ("route", "near"),
    [
        (Route("10.244.1.0/24", (4,), has_gateway=False, is_local=False), True),
        (Route("10.1.0.7/32", (5,), has_gateway=False, is_local=False), True),
        (Route("192.0.2.4/32", (2,), has_gateway=False, is_local=True), True),
        (Route("192.0.2.0/24", (2,), has_gateway=False, is_local=False), False),
        (Route("10.244.2.0/24", (6,), has_gateway=True, is_local=False), False),
        (Route("10.244.3.0/24", (6,), has_gateway=False, is_local=False), False),
        (Route("10.0.1.0/24", (7,), has_gateway=True, is_local=False), False),
    ],
    ids=["bridge", "veth", "own address", "the link's network", "overlay", "tunnel", "cilium"],
)
def test_what_is_reached_without_the_uplink(route: Route, near: bool) -> None:
    """This node's own addresses and its pods; other nodes' pods have a gateway or a tunnel."""
    found = uplink_of([DEFAULT, route], LINKS)
    assert found.ifindex == 2
    assert found.local_networks == ((route.network,) if near else ())


@pytest.mark.parametrize(
    ("routes", "ifindex", "why"),
    [
        ([], 0, "there is no default route"),
        ([DEFAULT], 2, ""),
        ([DEFAULT, Route("::/0", (2,), has_gateway=True, is_local=False)], 2, ""),
        ([DEFAULT, Route("0.0.0.0/0", (3,), True, False, metric=200)], 2, ""),
        ([DEFAULT, Route("::/0", (3,), True, False)], 0, "several default routes: eth0, eth1"),
        ([Route("0.0.0.0/0", (2, 3), True, False)], 0, "several default routes: eth0, eth1"),
    ],
)
def test_the_uplink_is_the_default_routes_interface(routes, ifindex, why) -> None:
    """Several at once: nobody knows how what leaves is divided, so it is not shared."""
    found = uplink_of(routes, LINKS)
    assert (found.ifindex, found.why) == (ifindex, why)
