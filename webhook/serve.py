"""The two servers of one replica, and its orderly end."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Generator
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from webhook.errors import WebhookError
from webhook.lifecycle import Lifecycle
from webhook.settings import Settings

log = structlog.stdlib.get_logger()

_KEEP_ALIVE_SECONDS: Final = 120
"""Longer than the 90 s after which the API server closes an idle connection: it should be first,
or a request could meet our close half-way."""
_CLOSE_SECONDS: Final = 3
_HEADER_BYTES: Final = 16384
_BACKLOG: Final = 1024


class _Server(uvicorn.Server):
    """Leaves signals alone: they begin the draining, not the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """No handlers of its own."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    """A socket of our own: uvicorn would end the process from within when it cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as e:
        message = f"cannot listen on {host} port {port}: {e.strerror}; give another port"
        raise WebhookError(message) from e


def _server(app: FastAPI, context: ssl.SSLContext | None) -> _Server:
    config = uvicorn.Config(
        app,
        ssl_context_factory=(lambda *_: context) if context is not None else None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        backlog=_BACKLOG,
    )
    config.load()
    return _Server(config)


async def serve(
    admission: FastAPI,
    health: FastAPI,
    context: ssl.SSLContext,
    lifecycle: Lifecycle,
    settings: Settings,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends it at once.

    Raises:
        WebhookError: a port cannot be had.
    """
    sockets = [_listen(settings.host, port) for port in (settings.port, settings.health_port)]
    servers = [_server(admission, context), _server(health, None)]
    asked = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    serving = [
        asyncio.create_task(server.serve(sockets=[listening]))
        for server, listening in zip(servers, sockets, strict=True)
    ]
    log.info("serving", port=settings.port, health_port=settings.health_port)
    stopped = asyncio.create_task(asked.wait())
    # A server that cannot start ends the process.
    await asyncio.wait([*serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set():
        lifecycle.draining = True
        log.info("draining", seconds=settings.drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), settings.drain_seconds)
    stopped.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving)
    log.info("stopped")


def run(
    admission: FastAPI,
    health: FastAPI,
    context: ssl.SSLContext,
    lifecycle: Lifecycle,
    settings: Settings,
) -> None:
    """:func:`serve` on the fastest event loop there is."""
    factory = uvicorn.Config(admission, log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(admission, health, context, lifecycle, settings))
