"""enforcer.api.http: what clients do to it, and that it serves the others all the same."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request

import pytest

from enforcer.api.http import MAX_BODY_BYTES, HttpServer, Response
from enforcer.api.sockets import listen_tcp
from tests.fakes import FakeLog

PLACES = 4
WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Served:
    """A server that echoes method, path and the body's length."""

    def __init__(self, seconds=60.0):
        self.log = FakeLog()
        self.begun, self.may_end = threading.Semaphore(0), threading.Event()
        self.most, self.now, self.lock = 0, 0, threading.Lock()
        listener = listen_tcp("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server = HttpServer(listener, self.answer, self.log, places=PLACES, seconds=seconds)
        self.server.start("test")

    def answer(self, request):
        """By its path."""
        if request.path == "/fault":
            raise ValueError("odd")
        if request.path == "/large":
            return Response(200, b"x" * 50_000_000, "text/plain")
        if request.path == "/wait":
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            self.begun.release()
            self.may_end.wait()
            with self.lock:
                self.now -= 1
        text = f"{request.method} {request.path} {len(request.body)}"
        return Response(200, text.encode(), "text/plain")

    def connect(self, data=b""):
        """A raw connection that has sent this."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        client.sendall(data)
        return client

    def ask(self, data):
        """All that comes back for these bytes."""
        with self.connect(data) as client:
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(65536):
                    received += chunk
            return received

    def get(self, path="/"):
        """A whole request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=120) as answer:
            return answer.read().decode()


@pytest.fixture
def served():
    """Closed at the end."""
    found = Served()
    yield found
    found.may_end.set()
    found.server.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /met", GET[:-2], b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_connections_that_stand_still_never_keep_a_request_out(served, sent):
    """Idle, half-sent, or with an answer that is not read: the oldest of them makes room."""
    rude = [served.connect(sent) for _ in range(10 * PLACES)]
    try:
        answers = [served.get() for _ in range(3)]
    finally:
        for client in rude:
            client.close()

    assert answers == ["GET / 0"] * 3


def test_what_is_being_answered_is_not_cut(served):
    """And no more of them than there are places; the next one waits."""
    clients = [served.connect(WAIT) for _ in range(PLACES)]
    for _ in clients:
        served.begun.acquire()
    clients += [served.connect(WAIT) for _ in range(2)]
    served.may_end.set()
    answers = [client.recv(65536).startswith(b"HTTP/1.1 200") for client in clients]
    for client in clients:
        client.close()

    assert answers == [True] * (PLACES + 2)
    assert served.most == PLACES


def test_a_client_that_sends_byte_by_byte_has_one_deadline_for_all():
    """Each byte in time is not enough."""
    served = Served(seconds=0.3)
    drip = iter(GET * 1000)
    with served.connect() as client:
        client.settimeout(0.05)
        end = None
        while end is None:
            try:
                client.sendall(bytes([next(drip)]) if end is None else b"")
                end = client.recv(1)
            except TimeoutError:
                continue
            except ConnectionError:
                end = b""
    served.server.close()

    assert end == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_http_is_refused(served, sent, status):
    """With the status for it."""
    assert served.ask(sent).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("head", "body", "length"),
    [
        (b"Content-Length: 5", b"hello", 5),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 5),
        (b"Content-Length: 300000", b"x" * 300_000, MAX_BODY_BYTES + 1),
    ],
)
def test_a_body_is_read_whole_or_cut_at_its_bound(served, head, body, length):
    """Who sent too much hears of it."""
    sent = b"PUT /a%2Fb%3f?x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + body

    assert served.ask(sent).endswith(f"PUT /a/b? {length}".encode())


def test_a_fault_of_ours_is_a_500_and_the_next_request_is_served(served):
    """It is logged, and told."""
    with pytest.raises(urllib.error.HTTPError) as fault:
        served.get("/fault")

    assert fault.value.code == 500
    assert "met a fault of its own" in fault.value.read().decode()
    assert served.log.lines[0][:2] == ("error", "fault")
    assert served.get() == "GET / 0"
