"""Large reviews: spooled beside the heap, a few at a time, and read by a process of their own."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import structlog

from webhook import digest

log = structlog.stdlib.get_logger()

MAX_BODY_BYTES: Final = 28 * 1024 * 1024
"""The largest legal review: an object of 3 MiB, the largest that the API server is sent, and an old
one of 1.5 MiB, the largest that etcd keeps, six times as long in JSON; and 1 MiB of request."""
_GIVEN_UP_BYTES: Final = 4 * MAX_BODY_BYTES
"""Up to here a body that is too large is read to its end, and answered as any other."""
_AT_A_TIME: Final = 3
"""So many bodies are received at once, and no second one of a sender who has one."""
_ANSWER_SECONDS: Final = 5.0
_UID: Final = re.compile(rb'"uid"\s*:\s*"([^"\\]{1,128})"')
_ESCAPE: Final = re.compile(rb"[^\\]\\(?=[^u]|u[^dD])")
"""Its second sign begins an escape of a whole character, not of half a surrogate pair."""
_NEAR_BYTES: Final = 64


class TooLargeError(Exception):
    """Nobody can judge it; ``uid`` is the request's, if it has one."""

    def __init__(self, uid: str) -> None:
        super().__init__(f"the review is larger than {MAX_BODY_BYTES} bytes")
        self.uid = uid


class UnreadableError(Exception):
    """It is no review; the message says why."""


class Spool:
    """A body as it arrives: in memory that belongs to no heap, and is given back at once."""

    def __init__(self) -> None:
        self.descriptor: Final = os.memfd_create("podpace-review", os.MFD_CLOEXEC)
        self._size = 0
        self._unquoted_bytes = 0
        self._uid = ""

    def write(self, chunk: bytes) -> None:
        """Keeps what can be judged, and counts the rest.

        Raises:
            TooLargeError: there is no end to it.
        """
        if not self._size:
            found = _UID.search(chunk)
            self._uid = found[1].decode(errors="replace") if found else ""
        self._size += len(chunk)
        if self._size <= MAX_BODY_BYTES:
            os.write(self.descriptor, self._readable(chunk))
        elif self._size - len(chunk) <= MAX_BODY_BYTES:
            os.ftruncate(self.descriptor, 0)
        if self._size > _GIVEN_UP_BYTES:
            raise TooLargeError(self._uid)

    def _readable(self, chunk: bytes) -> bytes:
        """Without the middle of a string that is longer than anything that is read of a review.

        A piece with an escape and without a quote lies within one string. What is kept of it is too
        long still, so the review is judged as it would be whole.
        """
        before, self._unquoted_bytes = self._unquoted_bytes, self._unquoted_bytes + len(chunk)
        if b'"' in chunk:
            self._unquoted_bytes = 0
        elif before > digest.MAX_MAP_BYTES:
            begin = _ESCAPE.search(chunk, 0, _NEAR_BYTES)
            end = _ESCAPE.search(chunk, max(_NEAR_BYTES, len(chunk) - _NEAR_BYTES))
            if begin and end:
                return chunk[: begin.end() - 1] + chunk[end.end() - 1 :]
        return chunk

    def check(self) -> None:
        """Raises TooLargeError when not all of it was kept."""
        if self._size > MAX_BODY_BYTES:
            raise TooLargeError(self._uid)

    def read(self) -> bytes:
        """All that is in it now."""
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)


class LargeReviews:
    """Receives and digests them. For one event loop."""

    def __init__(self) -> None:
        self._senders: Counter[str] = Counter()
        self._sender_locks: dict[str, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    @contextlib.asynccontextmanager
    async def spool(self, sender: str) -> AsyncIterator[Spool]:
        """A place for one body, when it is its sender's turn."""
        lock = self._sender_locks.setdefault(sender, asyncio.Lock())
        self._senders[sender] += 1
        try:
            async with lock, self._slots:
                spool = Spool()
                try:
                    yield spool
                finally:
                    os.close(spool.descriptor)
        finally:
            self._senders[sender] -= 1
            if not self._senders[sender]:
                del self._senders[sender], self._sender_locks[sender]

    async def digest(self, route: str, spool: Spool) -> bytes:
        """See :func:`webhook.digest.digest`.

        Raises:
            TooLargeError: it was not kept whole.
            UnreadableError: it is no review.
        """
        spool.check()
        async with self._turn:
            try:
                answer = await self._ask(route, spool)
            except (OSError, TimeoutError) as e:
                log.warning("large review read in the server itself", reason=str(e) or repr(e))
                self.stop()
                answer = None
            except asyncio.CancelledError:
                # Or its answer would be taken for the next one's.
                self.stop()
                raise
        if answer is None:
            return await asyncio.to_thread(_digest_here, route, spool)
        if answer == digest.UNUSABLE:
            raise UnreadableError(spool.read().decode(errors="replace"))
        return spool.read()

    def start(self) -> None:
        """The process; it ends with this one, by the socket's end."""
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "webhook.digest"], stdin=its.fileno(), start_new_session=True
            )
        ours.setblocking(False)
        self._channel = ours

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _ask(self, route: str, spool: Spool) -> bytes:
        if self._channel is None:
            await asyncio.to_thread(self.start)
        channel = self._channel
        if channel is None:
            raise OSError("the process was stopped")
        socket.send_fds(channel, [route.encode()], [spool.descriptor])
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await asyncio.get_running_loop().sock_recv(channel, 1)
        if not answer:
            raise OSError("the process that reads large reviews ended")
        return answer


def _digest_here(route: str, spool: Spool) -> bytes:
    try:
        return digest.digest(route, spool.read())
    except (ValueError, RecursionError) as e:
        raise UnreadableError(str(e) or "nested too deeply") from e
