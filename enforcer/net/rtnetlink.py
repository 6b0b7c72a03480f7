"""rtnetlink, as far as the daemon speaks it: requests, dumps and events of one namespace.

Spoken here because the library for it (pyroute2 0.9) adds 12 MB to a daemon that is to stay below
60 MB, however little of it is imported (docs/design/0004-shaper.md). Everything raises OSError
with the kernel's errno and, where it gives one, its text.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_ECHO: Final = 0x8
"""Without it, what a request for one queue finds goes to listeners only."""
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
RTMGRP_LINK: Final = 1
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_ACK_TLVS: Final = 0x200
_NLM_F_CAPPED: Final = 0x100
_NLMSGERR_ATTR_MSG: Final = 1
_NETLINK_EXT_ACK: Final = 11
_SOL_NETLINK: Final = 270
_NLA_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERRNO: Final = struct.Struct("=i")
_RECEIVE_BYTES: Final = 1 << 18
_EVENT_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One answer or event."""

    kind: int
    body: bytes


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

    def ask(self, kind: int, flags: int, body: bytes) -> list[Message]:
        """A request; its answers, dumps included."""
        self._sequence += 1
        flags |= NLM_F_REQUEST
        if flags & NLM_F_DUMP != NLM_F_DUMP:
            flags |= NLM_F_ACK
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[Message] = []
        while True:
            for answer, answer_flags, sequence in _split(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if answer.kind == _NLMSG_DONE:
                    return answers
                if answer.kind == _NLMSG_ERROR:
                    _raise(answer.body, answer_flags)
                    return answers
                answers.append(answer)

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


def _raise(body: bytes, flags: int) -> None:
    (number,) = _ERRNO.unpack_from(body)
    if not number:
        return
    said = ""
    if flags & _NLM_F_ACK_TLVS:
        (length,) = struct.unpack_from("=I", body, _ERRNO.size)
        offset = _ERRNO.size + (_HEADER.size if flags & _NLM_F_CAPPED else length)
        said = word(attributes(body, (offset + 3) & ~3).get(_NLMSGERR_ATTR_MSG, b""))
    raise OSError(-number, said or os.strerror(-number))
