"""The event loop: two servers, the periodic work, and an end on SIGTERM that detaches nothing."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

TEND_SECONDS: Final = 0.1
RESYNC_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 2


class _Server(uvicorn.Server):
    """A server that leaves signals to :func:`serve`, because there are two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
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
    servers = [_server(app) for app, _ in apps]
    with ThreadPoolExecutor(2, "periodic") as executor:
        jobs = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, (_, listener) in zip(servers, apps, strict=True)
        ]
        jobs += [
            asyncio.create_task(_every(TEND_SECONDS, tend, executor, stopping)),
            asyncio.create_task(_every(RESYNC_SECONDS, resync, executor, stopping)),
        ]
        notify_systemd()
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([*jobs, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*jobs, stopped)


async def _every(
    seconds: float, call: Callable[[], Any], executor: ThreadPoolExecutor, stopping: asyncio.Event
) -> None:
    """Call in a thread, then wait out the rest of the period; never two at once."""
    loop = asyncio.get_running_loop()
    while not stopping.is_set():
        started = loop.time()
        await loop.run_in_executor(executor, call)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), max(0.0, started + seconds - loop.time()))


def notify_systemd() -> None:
    """Tell systemd (Type=notify) that targets are in force and requests are served."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", address.replace("@", "\0", 1))
