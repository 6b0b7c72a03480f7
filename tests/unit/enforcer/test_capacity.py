"""What a node's pods can share, and where that is known from."""

import json
from pathlib import Path

import pytest

from contract.names import Direction
from enforcer.kube.own_node import OwnNode, node_watch, read_node
from enforcer.net.uplink_speed import read_uplink
from enforcer.sharing.capacity import Capacities, Capacity, CapacitySource, choose_capacity
from enforcer.state import DeviceSpeed
from kube.ports import Event
from tests.fakes import FakeLog

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
KEY = "podpace.io/egress-capacity"
G = 10**9
TOLD = DeviceSpeed("eth0", 10 * G)
SILENT = DeviceSpeed("eth0", None, "eth0 tells no speed")
NONE = DeviceSpeed("", None, "no route")
ANNOTATION, OPTION, DEVICE, UNKNOWN = CapacitySource
OF_TOLD = 10 * G * 95 // 800
BAD = f'{KEY}: "10Gbit" has a unit in it; the value is always bits per second; write a number with k, M, G or nothing behind it, such as 10M for 10 Mbit/s'  # noqa: E501


@pytest.mark.parametrize(
    ("annotations", "option", "device", "held"),
    [
        ({KEY: "1G"}, 2 * G, TOLD, Capacity(G // 8, ANNOTATION)),
        ({"podpace.io/ingress-capacity": "1G"}, 2 * G, TOLD, Capacity(G // 4, OPTION)),
        ({KEY: "10Gbit"}, 2 * G, TOLD, Capacity(G // 4, OPTION, BAD)),
        ({}, None, TOLD, Capacity(OF_TOLD, DEVICE, "eth0")),
        ({KEY: "10Gbit"}, None, TOLD, Capacity(OF_TOLD, DEVICE, f"eth0; {BAD}")),
        ({}, None, SILENT, Capacity(None, UNKNOWN, "eth0: eth0 tells no speed")),
        ({}, None, NONE, Capacity(None, UNKNOWN, "no route")),
    ],
)
def test_the_first_that_says_something_holds(annotations, option, device, held):
    """Annotation, option, device; what cannot be read counts as not written and is told."""
    assert choose_capacity(EGRESS, annotations, option, device) == held


def test_a_capacity_follows_what_people_write_and_what_the_device_tells():
    """And each change is in the log once."""
    device, log = [SILENT], FakeLog()
    capacities = Capacities({Direction.INGRESS: 2 * G}, lambda: device[0], log)

    seen = [capacities.of(EGRESS).source]
    for step in (
        capacities.look,
        lambda: capacities.annotate({KEY: "1G"}),
        lambda: capacities.annotate({KEY: "1G"}),
        lambda: capacities.annotate({}),
        lambda: device.__setitem__(0, TOLD),
        capacities.look,
    ):
        step()
        seen.append(capacities.of(EGRESS).source)

    assert [str(source) for source in seen] == [
        *("unknown", "unknown", "annotation", "annotation", "unknown", "unknown", "device")
    ]
    assert capacities.of(Direction.INGRESS).source is CapacitySource.OPTION


class _Node:
    """A machine's /proc and /sys."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.sys = folder / "proc", folder / "sys"
        (self.proc / "net").mkdir(parents=True)
        (self.sys / "class" / "net").mkdir(parents=True)
        self._v4 = ["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"]
        self._v6: list[str] = []

    def route(self, device: str, metric: int = 0, destination: str = "00000000") -> "_Node":
        mask = destination.replace("0A", "FF")
        self._v4.append(f"{device} {destination} 0100000A 0003 0 0 {metric} {mask} 0 0 0")
        (self.proc / "net" / "route").write_text("\n".join(self._v4))
        return self

    def route_v6(self, device: str, metric: int = 0x400) -> "_Node":
        zero = "0" * 32
        self._v6.append(
            f"{zero} 00 {zero} 00 {zero} {metric:08x} 00000001 00000000 00000003 {device}"
        )
        (self.proc / "net" / "ipv6_route").write_text("\n".join(self._v6))
        return self

    def device(
        self, name: str, speed: str | None = None, *, kind: str = "", on: str = ""
    ) -> "_Node":
        folder = self.sys / "class" / "net" / name
        folder.mkdir()
        if kind:
            (folder / kind).mkdir()
        if speed is not None:
            (folder / "speed").write_text(speed)
        for lower in filter(None, on.split(",")):
            (folder / f"lower_{lower}").mkdir()
        return self

    def read(self) -> DeviceSpeed:
        return read_uplink(self.proc, self.sys)


def test_hardware_tells_its_speed(tmp_path):
    """By the route with the smallest metric; other routes do not count."""
    node = (
        _Node(tmp_path)
        .device("eth0", "25000\n", kind="device")
        .device("wlan0", "100", kind="device")
    )
    node.route("eth0", 100).route("wlan0", 600).route("wlan0", 0, "0A000000").route_v6("eth0")

    assert node.read() == DeviceSpeed("eth0", 25 * G)


def test_a_bond_below_a_vlan_tells_its_speed(tmp_path):
    """The device of the route is named."""
    node = (
        _Node(tmp_path)
        .device("bond0", "20000", kind="bonding")
        .device("bond0.7", "20000", on="bond0")
    )

    assert node.route("bond0.7").read() == DeviceSpeed("bond0.7", 20 * G)


@pytest.mark.parametrize(
    ("speed", "kind", "on", "why"),
    [
        ("-1", "device", "", "tells no speed"),
        (None, "device", "", "tells no speed"),
        ("10000", "", "", "is no hardware, and stands on no single device"),
        ("10000", "", "eth1,eth2", "is no hardware, and stands on no single device"),
    ],
)
def test_a_speed_that_means_nothing_is_not_known(tmp_path, speed, kind, on, why):
    """A veth tells 10 Gbit/s whatever is behind it."""
    node = _Node(tmp_path).device("x0", speed, kind=kind, on=on).route("x0")

    assert node.read() == DeviceSpeed("x0", None, f"x0 {why}")


def test_without_one_default_route_nothing_is_known(tmp_path):
    """Nobody knows which of several is used."""
    node = _Node(tmp_path)

    assert node.read() == DeviceSpeed("", None, "there is no default route")
    node.device("eth0", "1000", kind="device").device("eth1", "1000", kind="device")
    assert node.route("eth0").route_v6("eth1").read() == DeviceSpeed(
        "eth0, eth1", None, "several default routes"
    )


def test_devices_that_stand_on_each_other_end_somewhere(tmp_path):
    """However somebody builds them."""
    node = _Node(tmp_path).device("a", on="b").device("b", on="a").route("a")

    assert node.read().bits_per_second is None


class _Api:
    """Has one Node, and tells of a change and of its end."""

    def watch(self, path, query, accept):
        assert (path, query["fieldSelector"]) == ("/api/v1/nodes", "metadata.name=n1")
        for kind, text in (("ADDED", "1G"), ("MODIFIED", "2G"), ("DELETED", "2G")):
            node = {"metadata": {"name": "n1", "annotations": {KEY: text, "other": "x"}}}
            node["status"] = {"capacity": {"cpu": "4", "podpace.io/egress": text}}
            yield Event(kind, json.dumps(node).encode(), "7")
            if kind == "ADDED":
                yield Event("BOOKMARK", b"", "7", complete=True)


def test_a_node_is_followed():
    """To its end; what is not ours is left out."""
    told = []

    node_watch(_Api(), "n1", told.append, metadata_only=False).step()

    ours = [OwnNode({KEY: text}, {INGRESS: None, EGRESS: text}) for text in ("1G", "2G")]
    assert told == [*ours, None]
    assert read_node(b'{"metadata": {}}') == OwnNode({}, {INGRESS: None, EGRESS: None})
