"""A small HTTP/1.1 server: one request for each connection, and no client keeps the next one out.

A connection is read for a bounded time and length. Where all places are taken, those that wait for
their clients are cut to make room: half-sent requests and idle connections never stop one that is
whole.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import h11
import msgspec

from contract.api import Refusal
from contract.problems import Problem
from enforcer.ports import Log

MAX_BODY_BYTES: Final = 65536
_MAX_HEAD_BYTES: Final = 16384
_CHUNK_BYTES: Final = 16384
_MAX_REQUEST_BYTES: Final = 1_000_000
"""What is longer than its bound is read up to here, so that its sender hears why it is refused."""
_PATIENCE_SECONDS: Final = 0.05
"""A whole request is sent and read within this; so a flood of connections costs little, too."""
_PAUSE_SECONDS: Final = 0.005
_BACKLOG: Final = 128

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    body: bytes
    """Cut one byte above ``MAX_BODY_BYTES``."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes = b""
    content_type: str = JSON


Answer = Callable[[Request], Response]


class HttpServer:
    """Answers what comes in at ``listener``; each connection has a thread, ``places`` at most.

    ``answer`` is called in those threads. Reading a request may take ``seconds``, and so may
    writing its answer; how long the answer itself takes is ``answer``'s own matter.
    """

    def __init__(
        self, listener: socket.socket, answer: Answer, log: Log, *, places: int, seconds: float
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._log = log
        self._places = threading.Semaphore(places)
        self._seconds = seconds
        self._waiting: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._ended = False

    def start(self, name: str) -> None:
        """Serve from now on, in threads of its own."""
        self._listener.listen(_BACKLOG)
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; what is being answered goes on."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the end, or no descriptor is left
                time.sleep(_PAUSE_SECONDS)
                continue
            while not self._places.acquire(timeout=_PAUSE_SECONDS):
                self._cut_patient()
            try:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except RuntimeError:  # no thread is to be had
                connection.close()
                self._places.release()
                time.sleep(_PAUSE_SECONDS)

    def _cut_patient(self) -> None:
        """Their threads wake and give their places back. There are none where all are answered."""
        with self._lock:
            since = time.monotonic() - _PATIENCE_SECONDS
            for connection in [each for each, at in self._waiting.items() if at < since]:
                del self._waiting[connection]
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            with connection:
                try:
                    with self._waits(connection):
                        request = _read(connection, http, time.monotonic() + self._seconds)
                    response = None if request is None else self._answer_safely(request)
                except h11.RemoteProtocolError as error:
                    text = f"no HTTP that is understood here: {error}\n".encode()
                    response = Response(error.error_status_hint, text, "text/plain")
                if response is not None:
                    with self._waits(connection):
                        connection.settimeout(self._seconds)
                        connection.sendall(_encode(http, response))
        except (OSError, h11.LocalProtocolError):
            pass  # it hung up, was too slow, or had to make room
        finally:
            self._places.release()

    @contextlib.contextmanager
    def _waits(self, connection: socket.socket) -> Iterator[None]:
        """Meanwhile it is its client who is waited for, and it may be cut."""
        with self._lock:
            self._waiting[connection] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(connection, None)

    def _answer_safely(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except Exception as error:
            self._log.error("fault", path=request.path[:200], reason=repr(error)[:300])
            problem = Problem(
                "podpace-enforcer", request.path, f"met a fault of its own: {error!r}",
                "report it with the daemon's log",
            )  # fmt: skip
            return Response(500, msgspec.json.encode(Refusal((problem,))))


def _read(connection: socket.socket, http: h11.Connection, deadline: float) -> Request | None:
    """None: it hung up before it had asked. Raises OSError and h11.RemoteProtocolError."""
    head: h11.Request | None = None
    body, received = bytearray(), 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                connection.sendall(http.send(go_on) or b"")
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(_CHUNK_BYTES)
            received += len(data)
            if received > _MAX_REQUEST_BYTES or time.monotonic() > deadline:
                return None
            http.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data[: MAX_BODY_BYTES + 1 - len(body)]
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            path = unquote(head.target.decode("ascii").partition("?")[0])
            return Request(head.method.decode("ascii"), path, bytes(body))
        else:
            return None


def _encode(http: h11.Connection, response: Response) -> bytes:
    headers = [("Connection", "close"), ("Content-Length", str(len(response.body)))]
    if response.body:
        headers.append(("Content-Type", response.content_type))
    if response.status == 204:
        del headers[1]
    head = h11.Response(status_code=response.status, headers=headers)
    events = (head, h11.Data(data=response.body), h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)
