"""The interface by which a node's traffic leaves: which one, and what it has counted.

And the networks that are reached without it: the node's own addresses, and those of its pods.
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from contract.names import Direction
from enforcer.net.rtnetlink import (
    NLM_F_DUMP,
    Interface,
    Netlink,
    attributes,
    interfaces,
)
from enforcer.state import Capacity, CapacitySource, Uplink

_RTM_GETLINK, _RTM_GETROUTE = 18, 26
_RTMSG: Final = struct.Struct("=8BI")
_IFINFO: Final = struct.Struct("=BxHiII")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH = 1, 4, 5, 6, 9
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_IFLA_STATS64: Final = 23
_STATS: Final = struct.Struct("=16x2Q")
_NEXT_HOP: Final = struct.Struct("=HBBi")
_FAMILIES: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of the tables ``main`` and ``local``."""

    network: str
    """A CIDR; the default routes have 0 bits."""
    ifindexes: tuple[int, ...]
    has_gateway: bool
    is_local: bool
    """It leads to this node itself."""
    metric: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it is for all that no other is for."""
        return self.network.endswith("/0") and not self.is_local


def uplink_of(found: Iterable[Route], links: Mapping[int, Interface]) -> Uplink:
    """As the routes say. Several interfaces with a default route: nobody knows which is used."""
    routes_now = list(found)
    local = tuple(sorted({route.network for route in routes_now if is_near(route, links)}))
    numbers: set[int] = set()
    for anywhere in ("0.0.0.0/0", "::/0"):
        defaults = [r for r in routes_now if r.is_default and r.network == anywhere]
        least = min((route.metric for route in defaults), default=0)
        numbers |= {n for route in defaults if route.metric == least for n in route.ifindexes}
    if not numbers:
        return Uplink(why="there is no default route", local_networks=local)
    if len(numbers) > 1:
        names = ", ".join(sorted(links[n].name for n in numbers if n in links))
        return Uplink(why=f"several default routes: {names}", local_networks=local)
    return Uplink(min(numbers), "", local)


def is_near(route: Route, links: Mapping[int, Interface]) -> bool:
    """Whether it leads to this node, or to something on it: no gateway, and a virtual link.

    Routes to other nodes' pods have a gateway, or a tunnel's interface.
    """
    if route.is_local:
        return True
    kinds = {links[number].kind for number in route.ifindexes if number in links}
    return not route.is_default and not route.has_gateway and kinds <= {"veth", "bridge"} != set()


def routes(netlink: Netlink) -> list[Route]:
    """Of both families."""
    found = []
    for family in _FAMILIES:
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for answer in netlink.ask(_RTM_GETROUTE, NLM_F_DUMP, body):
            route = _route(answer.body)
            if route is not None:
                found.append(route)
    return found


def _route(body: bytes) -> Route | None:
    family, bits, _, _, table, _, _, kind, _flags = _RTMSG.unpack_from(body)
    if family not in _FAMILIES or kind not in {_RTN_UNICAST, _RTN_LOCAL}:
        return None
    if table not in {_TABLE_MAIN, _TABLE_LOCAL}:
        return None
    said = attributes(body, _RTMSG.size)
    address = said.get(_RTA_DST, bytes(_FAMILIES[family]))
    numbers = [_u32(said[_RTA_OIF])] if _RTA_OIF in said else []
    has_gateway = _RTA_GATEWAY in said
    hops = said.get(_RTA_MULTIPATH, b"")
    while len(hops) >= _NEXT_HOP.size:
        length, _, _, number = _NEXT_HOP.unpack_from(hops)
        numbers.append(number)
        has_gateway = True
        hops = hops[max(length, _NEXT_HOP.size) :]
    network = str(ipaddress.ip_network((address, bits), strict=False))
    metric = _u32(said[_RTA_PRIORITY]) if _RTA_PRIORITY in said else 0
    return Route(network, tuple(numbers), has_gateway, kind == _RTN_LOCAL, metric)


def _u32(value: bytes) -> int:
    return int.from_bytes(value, "little")


def counted_bytes(netlink: Netlink, ifindex: int) -> tuple[int, int]:
    """What an interface has received and sent. Raises OSError."""
    (answer,) = netlink.ask(_RTM_GETLINK, 0, _IFINFO.pack(0, 0, ifindex, 0, 0))
    received, sent = _STATS.unpack_from(attributes(answer.body, _IFINFO.size)[_IFLA_STATS64])
    return received, sent


class NodeLink:
    """Implements ``ports.SharedLink``: what is known of capacities, and of routes and counters."""

    def __init__(self, capacity: Callable[[Direction], Capacity]) -> None:
        """Raises OSError."""
        self._capacity = capacity
        self._netlink = Netlink()
        self.uplink = Uplink()
        self.look()

    def look(self) -> None:
        """See ``ports.SharedLink``."""
        try:
            links = {link.ifindex: link for link in interfaces(self._netlink)}
            self.uplink = uplink_of(routes(self._netlink), links)
        except OSError as error:
            self.uplink = replace(self.uplink, ifindex=0, why=f"cannot read routes: {error}")

    def of(self, direction: Direction) -> Capacity:
        """See ``ports.SharedLink``."""
        found = self._capacity(direction)
        if found.bytes_per_sec is None or self.uplink.ifindex:
            return found
        return Capacity(None, CapacitySource.UNKNOWN, self.uplink.why)

    def counted_bytes(self) -> tuple[int, int] | None:
        """See ``ports.SharedLink``."""
        try:
            return counted_bytes(self._netlink, self.uplink.ifindex)
        except OSError:
            return None  # it has just gone: the next look says so
