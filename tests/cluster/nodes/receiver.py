"""Counts what reaches a pod, from the first byte on; listens before anybody can send."""

import socket
import threading
import time
from typing import Final

from tests.cluster.nodes.network import inside
from tests.cluster.nodes.sandbox import Sandbox

FRAME_OF_PAYLOAD: Final = 1514 / 1448
"""A full TCP segment with its headers, at an MTU of 1500."""
_CHUNK: Final = 1 << 18


class Receiver:
    """Takes one connection in the pod's namespace. Use as a context manager."""

    def __init__(self, sandbox: Sandbox) -> None:
        assert sandbox.network is not None
        self.address = sandbox.network.addresses[4]
        self._arrivals: list[tuple[float, int]] = []
        self._listener = inside(
            sandbox.network.name, lambda: socket.create_server((self.address, 0))
        )
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._first = threading.Event()

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def frame_bytes(self, seconds: float) -> float:
        """What arrived within this time after the first byte, as full frames; waits for it."""
        assert self._first.wait(30), "nothing arrived"
        begin = self._arrivals[0][0]
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        within = sum(n for at, n in list(self._arrivals) if at <= begin + seconds)
        return within * FRAME_OF_PAYLOAD

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while chunk := connection.recv(_CHUNK):
                self._arrivals.append((time.monotonic(), len(chunk)))
                self._first.set()
