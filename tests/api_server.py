"""An API server over real HTTPS that serves pods and has the faults a test asks for."""

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from certs.authority import issue_leaf, make_authority, utc_now

Json = dict[str, Any]
RESET = "reset"
END = "end"
SILENCE = "silence"


class ApiServer:
    """``pods`` is the list; there are no nodes.

    What is put into ``events`` goes to the watch of pods that is open.

    An event is a watch event, ``RESET`` (the connection breaks), ``SILENCE`` (nothing comes any
    more, not even an end) or ``END`` (the watch ends as after its timeout). ``refusals`` are
    answered, one each, to the next requests: (status, headers).
    """

    def __init__(self, work: Path) -> None:
        self.pods: list[Json] = []
        self.streams = True
        """Whether it streams lists, as watches with ``sendInitialEvents``."""
        self.first_state_ends = True
        """Whether such a stream says when everything has been sent."""
        self.version = 10
        self.events: SimpleQueue[Json | str] = SimpleQueue()
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.token = "first"
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Json] = []
        self.content_types: list[str] = []
        self.page = 500
        """Objects in one answer to a list."""
        self.keeps = False
        """Whether conditions that are written stay, and are told to the watch that is open."""
        self.asked = threading.Semaphore(0)
        """Released with each request."""
        self._closing = threading.Event()
        authority = make_authority(utc_now())
        leaf = issue_leaf(authority, ["127.0.0.1"], utc_now())
        (work / "ca.pem").write_bytes(authority.certificate)
        (work / "leaf.pem").write_bytes(leaf.pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(work / "leaf.pem")
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._work = work
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def kubeconfig(self, token: str | None = None) -> str:
        """A kubeconfig with this token, or with the right one."""
        path = self._work / "kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self._work / "ca.pem")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def lists(self) -> list[dict[str, str]]:
        """The queries of all lists that were asked for."""
        return [query for _, _, query in self.requests if "watch" not in query]

    def watches(self) -> list[dict[str, str]]:
        """The queries of all watches that were asked for."""
        return [query for _, _, query in self.requests if "watch" in query]

    def keep(self, name: str, patch: Json) -> None:
        """What a patch of a pod's status leaves behind."""
        pod = next(pod for pod in self.pods if pod["metadata"]["name"] == name)
        pod["status"]["conditions"] = patch["status"]["conditions"]
        self.events.put({"type": "MODIFIED", "object": pod})

    def stop(self) -> None:
        """End every connection and thread."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_event(self) -> Json | str:
        """For a watch: waits for the next one."""
        while not self._closing.is_set():
            with contextlib.suppress(Empty):
                return self.events.get(timeout=0.02)
        return END

    def wait_until_closing(self) -> None:
        """For a silent watch."""
        self._closing.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up here on purpose."""


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if urlsplit(self.path).path == "/api/v1/nodes":
                self._watch_no_nodes()
                return
            query = self._begin()
            if query is None:
                return
            if "sendInitialEvents" in query and not server.streams:
                self._answer(422, {"message": "sendInitialEvents is forbidden for watch"})
            elif "watch" in query:
                self._watch("sendInitialEvents" in query)
            else:
                start = int(query.get("continue", 0))
                end = start + server.page
                metadata = {"resourceVersion": str(server.version)}
                if end < len(server.pods):
                    metadata["continue"] = str(end)
                self._answer(200, {"metadata": metadata, "items": server.pods[start:end]})

        def _watch_no_nodes(self) -> None:
            """The other watch of the daemon: there are none, and none comes."""
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._send(_last_event(server, "Node"))
            server.wait_until_closing()
            self.wfile.write(b"0\r\n\r\n")

        def do_POST(self) -> None:
            if self._begin() is not None:
                self._answer(200, {})

        def do_PATCH(self) -> None:
            if self._begin() is None:
                return
            if server.keeps and self.path.endswith("/status"):
                server.keep(self.path.split("/")[-2], server.bodies[-1])
            self._answer(200, {})

        def _begin(self) -> dict[str, str] | None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            server.requests.append((self.command, parts.path, query))
            if body:
                server.bodies.append(json.loads(body))
                server.content_types.append(self.headers["Content-Type"])
            server.asked.release()
            if self.headers.get("Authorization") != f"Bearer {server.token}":
                self._answer(401, {"message": "Unauthorized"})
                return None
            if server.refusals:
                status, headers = server.refusals.pop(0)
                self._answer(status, {"message": "refused"}, headers)
                return None
            return query

        def _answer(self, status: int, body: Json, headers: Json | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _watch(self, initial: bool) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in _initial_events(server) if initial else ():
                self._send(event)
            for event in iter(server.next_event, END):
                if event == RESET:
                    self.connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    self.connection.close()
                    self.close_connection = True
                    return
                if event == SILENCE:
                    server.wait_until_closing()
                    return
                self._send(event)
            self.wfile.write(b"0\r\n\r\n")

        def _send(self, event: Json | str) -> None:
            data = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def log_message(self, *arguments: Any) -> None:
            """Says nothing."""

    return Handler


def _initial_events(server: ApiServer) -> list[Json]:
    added = [{"type": "ADDED", "object": found} for found in server.pods]
    return [*added, _last_event(server, "Pod")] if server.first_state_ends else added


def _last_event(server: ApiServer, kind: str) -> Json:
    end = {
        "resourceVersion": str(server.version),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    return {"type": "BOOKMARK", "object": {"kind": kind, "metadata": end}}


@contextlib.contextmanager
def serve(work: Path) -> Iterator[ApiServer]:
    """One that runs."""
    server = ApiServer(work)
    try:
        yield server
    finally:
        server.stop()
