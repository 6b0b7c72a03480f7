"""Connections: who has to go, and that neither slow nor many senders keep others out."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from webhook import connections
from webhook.connections import Connection, choose
from webhook.serve import _listen, _Server

GET = b"GET / HTTP/1.1\r\nHost: w\r\n\r\n"


def connection(sender: str, since: float, *, waiting: bool = True) -> Connection:
    """One of ``sender``."""
    return Connection(sender, lambda _: None, waiting=waiting, since=since)


def test_the_sender_with_most_connections_loses_the_oldest() -> None:
    """Others keep theirs, however old."""
    crowd = [connection("10.0.0.9", at) for at in (5.0, 3.0, 4.0)]

    assert choose([connection("10.0.0.1", 1.0), *crowd]) is crowd[1]


def test_a_connection_that_is_being_answered_stays() -> None:
    """Its answer is what others wait for."""
    busy = [connection("a", 1.0, waiting=False) for _ in range(3)]
    idle = connection("b", 2.0)

    assert choose([*busy, idle]) is idle
    assert choose(busy) is None


@contextlib.contextmanager
def serving(app: Starlette, most: int) -> Iterator[int]:
    """A server in a thread of its own; gives its port."""
    listening = _listen("127.0.0.1", 0)
    server = _Server(app, listening, None, most)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def answering(answer: Callable[[], str] = lambda: "ok") -> Starlette:
    """One page; ``answer`` runs on the event loop."""

    async def page(_: Request) -> Response:
        return PlainTextResponse(answer())

    return Starlette(routes=[Route("/", page)])


def connect(port: int) -> socket.socket:
    """A connection that nothing is sent on yet."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def answered(client: socket.socket) -> bytes:
    """One answer, whole."""
    received = b""
    while not received.endswith((b"ok", b"done")) and (piece := client.recv(4096)):
        received += piece
    return received


def ask(port: int) -> bytes:
    """One request on a connection of its own."""
    with connect(port) as client:
        client.sendall(GET)
        return answered(client)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: w\r\n"])
def test_headers_that_do_not_come_end_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """The first request's, and a later one's."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    with serving(answering(), 8) as port, connect(port) as first, connect(port) as later:
        later.sendall(GET)
        answered(later)
        first.sendall(sent)
        later.sendall(sent or b"G")

        assert _all(first) == _all(later) == b""


def test_headers_without_an_end_end_the_connection() -> None:
    """And their memory."""
    with serving(answering(), 8) as port, connect(port) as client:
        with contextlib.suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(100):
                client.sendall(b"a: " + b"b" * 1000 + b"\r\n")

        assert _all(client) == b""


def test_a_newcomer_is_answered_when_one_sender_holds_all_connections() -> None:
    """Idle ones, half a request each; the longest wait ends."""
    with serving(answering(), 4) as port, contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(port)) for _ in range(4)]
        for client in held:
            client.sendall(GET)
            answered(client)
            client.sendall(b"GET / HT")

        assert b"200 OK" in ask(port)
        assert _all(held[0]) == b""


def test_health_answers_while_admission_is_busy() -> None:
    """Or the kubelet would end a replica for being asked much."""
    release, begun = threading.Event(), threading.Event()

    def busy() -> str:
        begun.set()
        assert release.wait(60)
        return "done"

    with (
        serving(answering(busy), 8) as port,
        serving(answering(), 8) as health,
        connect(port) as client,
    ):
        client.sendall(GET)
        assert begun.wait(60)

        assert b"200 OK" in ask(health)

        release.set()
        assert b"200 OK" in answered(client)


def _all(client: socket.socket) -> bytes:
    """What comes until the end; a reset is one."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received
