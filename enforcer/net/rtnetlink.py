"""rtnetlink, as far as the daemon speaks it: requests, dumps, events; interfaces and namespaces.

Spoken here, since the library for it (pyroute2 0.9) takes 10 MB and fifteen times as long for an
interface (docs/design/0008-netlink.md). Everything raises OSError with the kernel's errno and,
where it gives one, its text.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_ECHO: Final = 0x8
"""Without it, what a request for one queue finds goes to listeners only."""
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
RTMGRP_LINK: Final = 1
_NLM_F_DUMP_INTR: Final = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_ACK_TLVS, _NLM_F_CAPPED = 0x200, 0x100
_NLMSGERR_ATTR_MSG: Final = 1
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NLA_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=i")
_RECEIVE_BYTES: Final = 1 << 18
_EVENT_BUFFER_BYTES: Final = 1 << 20
_ANY_NUMBER: Final = 1 << 20
_TRIES: Final = 5

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_GETNSID = 16, 17, 18, 90
_IFINFO: Final = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 4, 5, 18, 1
_IFLA_EXT_MASK, _IFLA_LINK_NETNSID, _SKIP_STATS = 29, 37, 8
_IFF_UP, _IFF_LOOPBACK = 1, 8
_NETNSA_NSID, _NETNSA_FD = 1, 3
NO_ID: Final = -1


@dataclass(frozen=True, slots=True)
class Message:
    """One answer or event."""

    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface."""

    ifindex: int
    name: str
    kind: str
    """``veth``, ``macvlan``, …; empty for hardware."""
    is_up: bool
    mtu_bytes: int
    peer_ifindex: int
    """The other end of a veth, or what it stands on; 0 for none."""
    peer_namespace_id: int
    """Where the peer is, as this namespace numbers others; NO_ID for here or nowhere."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """An interface of this namespace came, changed (its MTU, too) or went."""

    interface: Interface
    is_gone: bool


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def u32(kind: int, number: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return attribute(kind, struct.pack("=I", number))


def text(kind: int, word: str) -> bytes:
    """An attribute that is a word."""
    return attribute(kind, word.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attribute kind to value; of several of one kind the last."""
    found = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def word(value: bytes) -> str:
    """The inverse of :func:`text`."""
    return value.rstrip(b"\0").decode(errors="replace")


class Netlink:
    """A socket in the network namespace of the thread that made it. One user at a time."""

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0
        with contextlib.suppress(OSError):  # only the text of refusals is lost
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        if groups:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER_BYTES)
        self._socket.bind((0, groups))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """A request that the kernel only acknowledges."""
        self.ask(kind, flags, body)

    def ask(self, kind: int, flags: int, body: bytes, most: int = _ANY_NUMBER) -> list[Message]:
        """A request; its answers. A dump's are consistent, or the first ``most`` and a few more.

        Where there are more than that, they stay unread: close the socket.
        """
        for _ in range(_TRIES):
            answers, is_consistent = self._ask(kind, flags | NLM_F_REQUEST, body, most)
            if is_consistent or len(answers) >= most:
                return answers
        raise OSError(errno.EAGAIN, f"what was asked for changed during each of {_TRIES} dumps")

    def _ask(self, kind: int, flags: int, body: bytes, most: int) -> tuple[list[Message], bool]:
        self._sequence += 1
        if flags & NLM_F_DUMP != NLM_F_DUMP:
            flags |= NLM_F_ACK
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[Message] = []
        is_consistent = True
        while len(answers) < most:
            for answer, answer_flags, sequence in _split(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                is_consistent &= not answer_flags & _NLM_F_DUMP_INTR
                if answer.kind in {_NLMSG_DONE, _NLMSG_ERROR}:
                    _raise(answer, answer_flags)
                    return answers, is_consistent
                answers.append(answer)
        return answers, False

    def events(self, timeout_seconds: float | None = 0.0) -> list[Message]:
        """What has happened in the groups; waits for the first if there is time.

        Raises OSError(ENOBUFS) when some were lost.
        """
        found: list[Message] = []
        self._socket.settimeout(timeout_seconds)
        with contextlib.suppress(BlockingIOError, TimeoutError):
            while True:
                found += [event for event, _, _ in _split(self._socket.recv(_RECEIVE_BYTES))]
                self._socket.settimeout(0.0)
        return found


def _split(data: bytes) -> Iterator[tuple[Message, int, int]]:
    """(message, flags, sequence) of each."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        yield Message(kind, data[offset + _HEADER.size : offset + length]), flags, sequence
        offset += (length + 3) & ~3


def _raise(answer: Message, flags: int) -> None:
    """What ends an answer; a dump that failed halfway says so there, too."""
    number = _number(answer.body[: _NUMBER.size] or None, 0)
    if number >= 0:
        return
    offset, said = _NUMBER.size, ""
    if flags & _NLM_F_ACK_TLVS:
        if answer.kind == _NLMSG_ERROR:
            (length,) = struct.unpack_from("=I", answer.body, offset)
            offset += _HEADER.size if flags & _NLM_F_CAPPED else length
        said = word(attributes(answer.body, (offset + 3) & ~3).get(_NLMSGERR_ATTR_MSG, b""))
    raise OSError(-number, said or os.strerror(-number))


def _number(value: bytes | None, default: int) -> int:
    return default if value is None else int(_NUMBER.unpack(value)[0])


def interfaces(netlink: Netlink, most: int = _ANY_NUMBER) -> list[Interface]:
    """The interfaces of the socket's namespace; of more than ``most`` some, see ``ask``."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return [_interface(answer.body) for answer in netlink.ask(_RTM_GETLINK, NLM_F_DUMP, body, most)]


def link_changes(messages: list[Message]) -> list[LinkChange]:
    """Those of them that tell of interfaces.

    Bridges tell of their ports with messages of the same kind, and another family.
    """
    kinds = {_RTM_NEWLINK, _RTM_DELLINK}
    found = [event for event in messages if event.kind in kinds and not event.body[0]]
    return [LinkChange(_interface(event.body), event.kind == _RTM_DELLINK) for event in found]


def namespace_id(netlink: Netlink, namespace_fd: int) -> int:
    """The number that the socket's namespace has for another; NO_ID where nothing joins them."""
    (answer,) = netlink.ask(_RTM_GETNSID, 0, bytes(4) + u32(_NETNSA_FD, namespace_fd))
    return _number(attributes(answer.body, 4).get(_NETNSA_NSID), NO_ID)


def _interface(body: bytes) -> Interface:
    _family, _type, ifindex, flags, _change = _IFINFO.unpack_from(body)
    found = attributes(body, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    kind = word(info.get(_IFLA_INFO_KIND, b""))
    return Interface(
        ifindex,
        word(found.get(_IFLA_IFNAME, b"")),
        "loopback" if flags & _IFF_LOOPBACK else kind,
        bool(flags & _IFF_UP),
        _number(found.get(_IFLA_MTU), 0),
        _number(found.get(_IFLA_LINK), 0),
        _number(found.get(_IFLA_LINK_NETNSID), NO_ID),
    )
