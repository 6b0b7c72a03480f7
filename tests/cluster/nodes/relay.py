"""A TCP relay between network namespaces, that counts and that can fail like a network.

A simulated node has no route to the API server, which listens on this machine's loopback. Its
namespace has a listener at the same address instead, so that certificates and kubeconfigs fit.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.cluster.nodes.network import enter, inside

_CHUNK: Final = 65536


class Relay:
    """Listens at ``listen`` in ``namespace`` (None: this machine's) and passes on to ``target``.

    ``target_namespace`` is where the connections to the target are made from.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        target: tuple[str, int],
        namespace: str | None = None,
        target_namespace: str | None = None,
    ) -> None:
        self.connections = 0
        """Made so far."""
        self.received_bytes = 0
        """From clients."""
        self.sent_bytes = 0
        """To clients."""
        self._target = target
        self._gates: set[asyncio.Event] = set()
        """Of the open connections; nothing passes while it is cleared."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False

        def make() -> socket.socket:
            listener = socket.create_server(listen, backlog=64)
            # Inherited by what it accepts: a small event must not wait for the last one's ACK.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener

        self._listener = make() if namespace is None else inside(namespace, make)
        self._connector = (
            ThreadPoolExecutor(1, initializer=enter, initargs=(target_namespace,))
            if target_namespace
            else None
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Resets every connection."""
        self._do(self._cut)

    def refuse(self, refusing: bool) -> None:
        """The target is down: connections are reset, those that come at once."""
        self._do(lambda: self._refuse(refusing))

    def freeze(self) -> None:
        """The connections that are open now go half-open: they stay, and nothing passes.

        The relay's end answers keep-alives, as a machine in the middle does. New ones work.
        """
        self._do(lambda: [gate.clear() for gate in self._gates])

    def close(self) -> None:
        """Ends it."""
        self._do(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._connector is not None:
            self._connector.shutdown()

    def _do(self, work: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, sock=self._listener)
        )
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _refuse(self, refusing: bool) -> None:
        self._refusing = refusing
        if refusing:
            self._cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        both, gate = {writer, far_writer}, asyncio.Event()
        gate.set()
        self._writers |= both
        self._gates.add(gate)
        try:
            await asyncio.gather(
                self._copy(reader, far_writer, gate, received=True),
                self._copy(far_reader, writer, gate, received=False),
            )
        except OSError:
            pass  # one side hung up: the other learns it below
        finally:
            self._writers -= both
            self._gates.discard(gate)
            for end in both:
                end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connector is None:
            return await asyncio.open_connection(*self._target)
        make = self._loop.run_in_executor(
            self._connector, lambda: socket.create_connection(self._target, 3)
        )
        return await asyncio.open_connection(sock=await make)

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        *,
        received: bool,
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            await gate.wait()
            if received:
                self.received_bytes += len(chunk)
            else:
                self.sent_bytes += len(chunk)
            writer.write(chunk)
            await writer.drain()
        # A closed direction closes both: nobody here half-closes.
        raise ConnectionResetError
