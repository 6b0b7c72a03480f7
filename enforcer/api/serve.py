"""The daemon's two servers while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enforcer.api.http import Answer, HttpServer
from enforcer.api.sockets import listen_tcp, listen_unix, remove_own
from enforcer.ports import Log


@contextmanager
def served(
    socket: Path, metrics_address: tuple[str, int] | None, control: Answer, pages: Answer, log: Log
) -> Iterator[None]:
    """Others reach the metrics' address: its threads, places and readings are its own."""
    listener = listen_unix(socket)
    inode = socket.stat().st_ino
    servers = {"control": HttpServer(listener, control, log, places=32, seconds=10)}
    try:
        if metrics_address is not None:
            tcp = listen_tcp(*metrics_address)
            servers["metrics"] = HttpServer(tcp, pages, log, places=16, seconds=5)
        for name, server in servers.items():
            server.start(name)
        yield
    finally:
        for server in servers.values():
            server.close()
        remove_own(socket, inode)
