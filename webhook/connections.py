"""Who is connected, and who has to go: no sender keeps others out by connecting.

A connection has to send a request's headers within seconds and within some kilobytes. At most so
many are open; then the one goes that has waited longest among those of the sender who has most.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS: Final = 10.0
"""For a request's line and headers; the API server sends them at once."""
HEADER_BYTES: Final = 16384
HANDSHAKE_SECONDS: Final = 5.0
_FULL_PAUSE_SECONDS: Final = 0.05
"""When the system has no descriptor left."""


@dataclass(eq=False)
class Connection:
    """One, from its acceptance on."""

    sender: str
    forget: Callable[["Connection"], None]
    """Called when it is over."""
    close: Callable[[], object] = lambda: None
    waiting: bool = True
    """For its handshake, or a request; one that is being answered stays."""
    since: float = field(default_factory=time.monotonic)


def choose(connections: Iterable[Connection]) -> Connection | None:
    """Which has to go; None: all of them are being answered."""
    waiting = [c for c in connections if c.waiting]
    senders = Counter(c.sender for c in waiting)
    return min(waiting, key=lambda c: (-senders[c.sender], c.since), default=None)


class GuardedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's, with a time and a size for headers. :func:`guard` gives it its connection."""

    def __init__(
        self, connection: Connection, admits: Callable[[asyncio.Transport], bool], **options: Any
    ) -> None:
        super().__init__(**options)
        self._connection = connection
        self._admits = admits
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The handshake is done."""
        super().connection_made(transport)
        self._connection.close = transport.abort
        if not self._admits(transport):
            transport.abort()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_timer()
        self._connection.forget(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passed on; then the headers are complete, or the time for them runs."""
        super().data_received(data)
        self._connection.waiting = self.cycle is None or self.cycle.response_complete
        self._connection.since = time.monotonic()
        if not self._connection.waiting:
            self._header_bytes = 0
            self._stop_timer()
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES:
            self.transport.abort()
        elif self._timer is None:
            self._start_timer()

    def on_body(self, body: bytes) -> None:
        """Kept as it is where nothing else waits; a bytearray would copy it in and out."""
        if not self.cycle.body:
            self.cycle.body = b""
        super().on_body(body)

    def on_response_complete(self) -> None:
        """It waits for another request: as long as is usual for connections that are kept."""
        self._connection.waiting = True
        self._connection.since = time.monotonic()
        super().on_response_complete()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Acceptor:
    """Accepts connections on ``listening``; ``make_protocol`` is given each.

    ``tls`` is asked at each handshake; None is plain HTTP.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[Connection], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None,
        most: int,
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._tls = tls
        self._most = most
        self._open: set[Connection] = set()
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled; what is open then is left to its protocol."""
        loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        try:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listening)
                except OSError:
                    self._make_room()
                    await asyncio.sleep(_FULL_PAUSE_SECONDS)
                    continue
                if len(self._open) < self._most or self._make_room():
                    self._begin(accepted, str(address[0]))
                else:
                    accepted.close()
        finally:
            for task in self._handshakes:
                task.cancel()

    def _begin(self, accepted: socket.socket, sender: str) -> None:
        connection = Connection(sender, self._open.discard)
        self._open.add(connection)
        task = asyncio.create_task(self._shake_hands(connection, accepted))
        connection.close = task.cancel
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: Connection, accepted: socket.socket) -> None:
        tls: dict[str, Any] = (
            {}
            if self._tls is None
            else {"ssl": self._tls(), "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make_protocol(connection), accepted, **tls
            )
        except BaseException as e:
            connection.forget(connection)
            accepted.close()
            if not isinstance(e, OSError):
                raise

    def _make_room(self) -> bool:
        victim = choose(self._open)
        if victim is None:
            return False
        self._open.discard(victim)
        victim.close()
        return True
