"""The servers of one replica, and its orderly end."""

import asyncio
import contextlib
import ctypes
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

from webhook.connections import HEADER_BYTES, Acceptor, Connection, GuardedProtocol
from webhook.errors import WebhookError
from webhook.lifecycle import Lifecycle
from webhook.loops import Loops
from webhook.settings import Settings

log = structlog.stdlib.get_logger()

_KEEP_ALIVE_SECONDS: Final = 120
"""Longer than the 90 s after which the API server closes an idle connection: it should be first,
or a request could meet our close half-way."""
_CLOSE_SECONDS: Final = 3
_BACKLOG: Final = 1024
_CONNECTIONS: Final = 1024
"""Of admission; the API server needs one for each review that it waits for."""
_HEALTH_CONNECTIONS: Final = 64
_STATS_CONNECTIONS: Final = 128
_SWITCH_SECONDS: Final = 0.001
"""After which a thread that computes lets others compute: a fifth of Python's default, since a
review takes less than a millisecond."""
_FREE_BYTES: Final = 2 * 1024 * 1024
"""Of memory that stays with the process: some pieces of a large body, 256 KiB each."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class StatsServer:
    """What the aggregated API is served by, on a port of its own."""

    app: Callable[..., Any]
    tls: Callable[[], ssl.SSLContext]
    admits: Callable[[asyncio.BaseTransport], bool]
    leave: Callable[[], None]
    """Called in a thread of its own when the draining begins."""


class _Server(uvicorn.Server):
    """Leaves signals alone: they begin the draining, not the end. Accepts by rules of its own."""

    def __init__(
        self,
        app: Callable[..., Any],
        listening: socket.socket,
        tls: Callable[[], ssl.SSLContext] | None,
        most: int,
        admits: Callable[[asyncio.BaseTransport], bool] = lambda _: True,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        config.load()
        super().__init__(config)
        self._acceptor = Acceptor(listening, self._make_protocol, tls, most)
        self._listening = listening
        self._admits = admits
        self._accepting: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """No handlers of its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Accepts from here on."""
        await self.lifespan.startup()
        self.servers = []
        self._accepting = asyncio.create_task(self._acceptor.run())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts no more; what is open gets its answer."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        self._listening.close()
        await super().shutdown(sockets)

    def _make_protocol(self, connection: Connection) -> GuardedProtocol:
        return GuardedProtocol(
            connection,
            self._admits,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def _listen(host: str, port: int) -> socket.socket:
    """A socket of our own: uvicorn would end the process from within when it cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as e:
        message = f"cannot listen on {host} port {port}: {e.strerror}; give another port"
        raise WebhookError(message) from e


def run(
    admission: FastAPI,
    health: FastAPI,
    context: ssl.SSLContext,
    *,
    lifecycle: Lifecycle,
    loops: Loops,
    settings: Settings,
    stats: StatsServer | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends it at once.

    Health has a thread and a loop of its own: whatever keeps admission busy, it answers. So have
    stats, so that they never keep admission busy.

    Raises:
        WebhookError: a port cannot be had.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    _keep_free_memory()
    admission_socket = _listen(settings.host, settings.port)
    server = _Server(admission, admission_socket, lambda: context, _CONNECTIONS)
    health_socket = _listen(settings.host, settings.health_port)
    beside = {"health": _Server(health, health_socket, None, _HEALTH_CONNECTIONS)}
    if stats is not None:
        stats_socket = _listen(settings.host, settings.stats_port)
        beside["stats"] = _Server(
            stats.app, stats_socket, stats.tls, _STATS_CONNECTIONS, stats.admits
        )
    threads = [
        threading.Thread(target=_run, args=(one.serve,), name=name, daemon=True)
        for name, one in beside.items()
    ]
    for thread in threads:
        thread.start()
    try:
        leave = stats.leave if stats is not None else lambda: None
        _run(lambda: _serve(server, lifecycle, loops, settings, leave))
    finally:
        for one in beside.values():
            one.should_exit = True
        for thread in threads:
            thread.join()
    log.info("stopped")


def _keep_free_memory() -> None:
    """glibc has pieces of a large body from the kernel anew, each, and page by page: that is half
    of the time that 20 MB take."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _FREE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On the fastest event loop there is."""
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def _serve(
    server: _Server,
    lifecycle: Lifecycle,
    loops: Loops,
    settings: Settings,
    leave: Callable[[], None],
) -> None:
    asked = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    serving = asyncio.create_task(server.serve())
    beating = asyncio.create_task(loops.add("admission").watch_over())
    log.info("serving", port=settings.port, health_port=settings.health_port)
    stopped = asyncio.create_task(asked.wait())
    # A server that cannot start ends the process.
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set():
        lifecycle.draining = True
        threading.Thread(target=leave, name="leave", daemon=True).start()
        log.info("draining", seconds=settings.drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), settings.drain_seconds)
    stopped.cancel()
    beating.cancel()
    server.should_exit = True
    await serving
