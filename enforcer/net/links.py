"""Network interfaces, as rtnetlink tells of them: this namespace's, and others' from inside."""

import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from enforcer.net.namespaces import in_namespace
from enforcer.net.rtnetlink import (
    NLM_F_DUMP,
    RTMGRP_LINK,
    Message,
    Netlink,
    attributes,
    u32,
    word,
)

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_GETNSID: Final = 90
_IFINFO: Final = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO = 3, 5, 18
_IFLA_EXT_MASK, _IFLA_LINK_NETNSID, _IFLA_INFO_KIND = 29, 37, 1
_SKIP_STATS: Final = 8
_IFF_UP: Final = 1
_IFF_LOOPBACK: Final = 8
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NUMBER: Final = struct.Struct("=i")
NO_ID: Final = -1


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface."""

    ifindex: int
    name: str
    kind: str
    """``veth``, ``macvlan``, …; empty for hardware."""
    is_up: bool
    peer_ifindex: int
    """The other end of a veth, or what it stands on; 0 for none."""
    peer_namespace_id: int
    """Where the peer is, as this namespace numbers others; NO_ID for here or nowhere."""


def _decode(body: bytes) -> Interface:
    _family, _type, ifindex, flags, _change = _IFINFO.unpack_from(body)
    found = attributes(body, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    kind = word(info.get(_IFLA_INFO_KIND, b""))
    return Interface(
        ifindex,
        word(found.get(_IFLA_IFNAME, b"")),
        "loopback" if flags & _IFF_LOOPBACK else kind,
        bool(flags & _IFF_UP),
        _number(found.get(_IFLA_LINK), 0),
        _number(found.get(_IFLA_LINK_NETNSID), NO_ID),
    )


def _number(value: bytes | None, default: int) -> int:
    return default if value is None else int(_NUMBER.unpack(value)[0])


def interfaces(netlink: Netlink) -> list[Interface]:
    """Every interface of the socket's namespace."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return [
        _decode(answer.body)
        for answer in netlink.ask(_RTM_GETLINK, NLM_F_DUMP, body)
        if answer.kind == _RTM_NEWLINK
    ]


def interfaces_inside(namespace_path: str) -> list[Interface]:
    """Every interface of another namespace, loopback left out."""

    def look() -> list[Interface]:
        with Netlink() as netlink:
            return [found for found in interfaces(netlink) if found.kind != "loopback"]

    return in_namespace(namespace_path, look)


def namespace_id(netlink: Netlink, namespace_path: str) -> int:
    """The number that the socket's namespace has for another; NO_ID where nothing joins them."""
    fd = os.open(namespace_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        body = bytes(4) + u32(_NETNSA_FD, fd)
        (answer,) = netlink.ask(_RTM_GETNSID, 0, body)
    finally:
        os.close(fd)
    return _number(attributes(answer.body, 4).get(_NETNSA_NSID), NO_ID)


@dataclass(frozen=True, slots=True)
class LinkChange:
    """An interface of this namespace came, changed or went."""

    interface: Interface
    is_gone: bool


def _change(event: Message) -> LinkChange | None:
    if event.kind not in (_RTM_NEWLINK, _RTM_DELLINK) or _of_a_bridge(event.body):
        return None
    return LinkChange(_decode(event.body), event.kind == _RTM_DELLINK)


def _of_a_bridge(body: bytes) -> bool:
    """Bridges tell of their ports with messages of the same kind, and another family."""
    return body[0] != 0


class LinkTable:
    """This namespace's interfaces, kept up to date by events: cheap to ask five hundred times."""

    def __init__(self) -> None:
        self._events = Netlink(RTMGRP_LINK)
        self._table: dict[int, Interface] | None = None
        self.version = 0
        """Another one each time :meth:`all` found that something had changed."""

    def all(self) -> dict[int, Interface]:
        """By ifindex, as of now."""
        try:
            events = self._events.events()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._table = None
        if self._table is None:
            self.version += 1
            with Netlink() as netlink:
                self._table = {found.ifindex: found for found in interfaces(netlink)}
            return self._table
        for change in filter(None, map(_change, events)):
            self.version += 1
            if change.is_gone:
                self._table.pop(change.interface.ifindex, None)
            else:
                self._table[change.interface.ifindex] = change.interface
        return self._table

    def close(self) -> None:
        """Close the socket."""
        self._events.close()


class LinkWatch:
    """Link events, for a thread that waits for them."""

    def __init__(self) -> None:
        self._events = Netlink(RTMGRP_LINK)

    def wait(self, timeout_seconds: float) -> list[LinkChange] | None:
        """What changed; None when some of it was lost and everything may have."""
        try:
            events = self._events.events(timeout_seconds)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return None
        return list(filter(None, map(_change, events)))
