"""HTTP to one API server: bytes both ways, every failure an ``ApiError``."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import urllib3

from kube.credentials import Credentials
from kube.errors import ApiError, ConflictError, GoneError, NoClusterError, NotFoundError

_CHUNK_BYTES: Final = 65536
_UNAUTHORIZED: Final = 401
_TEXT_BYTES: Final = 300
_BROKEN: Final = (urllib3.exceptions.HTTPError, OSError)
_KINDS: Final = {404: NotFoundError, 409: ConflictError, 410: GoneError}
_POOL_CONNECTIONS: Final = 16


class Http:
    """Safe for use by several threads.

    ``load`` is called again when the API server takes the credentials for expired.
    """

    def __init__(self, load: Callable[[], Credentials], connect_seconds: float) -> None:
        """Raises what ``load`` raises."""
        self._load = load
        self._connect_seconds = connect_seconds
        self._server = _Server(load())

    @property
    def host(self) -> str:
        """For messages."""
        return self._server.credentials.server

    def read(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float
    ) -> bytes:
        """The answer's body; ``seconds`` between bytes."""
        response = self._open(method, path, body, headers, seconds)
        try:
            data: bytes = response.data
        except _BROKEN as error:
            raise ApiError(innermost(error), request=f"{method} {path}") from error
        return data

    def lines(self, path: str, headers: dict[str, str], seconds: float) -> Iterator[bytes]:
        """An answer's lines as they come, until its end."""
        response = self._open("GET", path, None, headers, seconds)
        try:
            rest = b""
            for chunk in response.stream(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except _BROKEN as error:
            raise ApiError(innermost(error), request=f"GET {path}") from error
        finally:
            # Not released to the pool: there is a half-read answer on the connection.
            response.close()

    def _open(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """An answer whose body is not read yet."""
        response = self._send(method, path, body, headers, seconds)
        if response.status == _UNAUTHORIZED:
            response.drain_conn()
            # Also read by other threads: a new one takes the old one's place in one assignment.
            with contextlib.suppress(NoClusterError):
                self._server = _Server(self._load())
            response = self._send(method, path, body, headers, seconds)
        if response.status < 400:
            return response
        raise _refusal(f"{method} {path}", response)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float
    ) -> urllib3.BaseHTTPResponse:
        server = self._server
        try:
            sent = urllib3.HTTPHeaderDict(headers | server.credentials.headers())
            for group in server.credentials.impersonate_groups:
                sent.add("Impersonate-Group", group)
            return server.pool.request(
                method,
                server.credentials.server + path,
                body=body,
                headers=sent,
                timeout=urllib3.Timeout(connect=self._connect_seconds, read=seconds),
                # The callers' loops do the retrying; a hidden retry would repeat a write.
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (*_BROKEN, NoClusterError) as error:
            raise ApiError(innermost(error), request=f"{method} {path}") from error


class _Server:
    """One set of credentials and its connections."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        options: dict[str, Any] = {
            "maxsize": _POOL_CONNECTIONS,
            "socket_options": _KEEP_ALIVE,
            "ssl_context": credentials.tls,
        }
        if credentials.tls_server_name:
            options["server_hostname"] = credentials.tls_server_name
            options["assert_hostname"] = credentials.tls_server_name
        self.pool: urllib3.PoolManager = (
            urllib3.ProxyManager(credentials.proxy, **options)
            if credentials.proxy
            else urllib3.PoolManager(**options)
        )


def _keep_alive() -> list[tuple[int, int, int]]:
    """As client-go does: a connection that went silent is noticed within two minutes."""
    import socket

    wanted = [(socket.SOL_SOCKET, "SO_KEEPALIVE", 1), (socket.IPPROTO_TCP, "TCP_NODELAY", 1)]
    wanted += [
        (socket.IPPROTO_TCP, name, value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 6))
    ]
    return [
        (level, getattr(socket, name), value)
        for level, name, value in wanted
        if hasattr(socket, name)
    ]


_KEEP_ALIVE: Final = _keep_alive()


def _refusal(request: str, response: urllib3.BaseHTTPResponse) -> ApiError:
    try:
        data = response.data
    except _BROKEN as error:
        data = innermost(error).encode()
    after = response.headers.get("Retry-After") or ""
    kind = _KINDS.get(response.status, ApiError)
    retry_after_seconds = float(after) if after.isdigit() else 0.0
    return kind(message_of(data), response.status, retry_after_seconds, request)


def message_of(data: bytes) -> str:
    """What a Status object says, or the text itself; bounded."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(data)["message"])[:_TEXT_BYTES]
    return data[:_TEXT_BYTES].decode(errors="replace").strip()


def innermost(error: BaseException) -> str:
    """The reason below urllib3's wrappers."""
    reason = getattr(error, "reason", None)
    return innermost(reason) if isinstance(reason, BaseException) else str(error)
