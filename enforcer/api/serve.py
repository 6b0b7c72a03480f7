"""The event loop: two servers, the periodic work, and an end on SIGTERM that detaches nothing."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

TEND_SECONDS: Final = 0.1
RESYNC_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 2


class _Server(uvicorn.Server):
    """A server that leaves signals to :func:`serve`, because there are two of them.

    And that sleeps until it is to end: uvicorn's own loop wakes ten times a second, which for two
    servers was half of what an idle daemon cost.
    """

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the headers that every answer has
        await self._stopping.wait()


def _server(app: FastAPI, stopping: asyncio.Event) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            date_header=False,  # would stand still
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        ),
        stopping,
    )


async def serve(
    apps: list[tuple[FastAPI, socket.socket]],
    tend: Callable[[], Any],
    resync: Callable[[], Any],
    stopping: asyncio.Event,
) -> None:
    """Serve until SIGTERM or SIGINT, or until a server or a periodic job fails."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    servers = [_server(app, stopping) for app, _ in apps]
    ending = threading.Event()
    with ThreadPoolExecutor(2, "periodic") as executor:
        jobs: list[asyncio.Future[Any]] = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, (_, listener) in zip(servers, apps, strict=True)
        ]
        jobs += [
            loop.run_in_executor(executor, _every, TEND_SECONDS, tend, ending),
            loop.run_in_executor(executor, _every, RESYNC_SECONDS, resync, ending),
        ]
        notify_systemd()
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([*jobs, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        ending.set()
        await asyncio.gather(*jobs, stopped)


def _every(seconds: float, call: Callable[[], Any], ending: threading.Event) -> None:
    """Call, then wait out the rest of the period; in a thread of its own, which wakes for less."""
    while not ending.is_set():
        started = time.monotonic()
        call()
        ending.wait(max(0.0, started + seconds - time.monotonic()))


def notify_systemd() -> None:
    """Tell systemd (Type=notify) that targets are in force and requests are served."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", address.replace("@", "\0", 1))
