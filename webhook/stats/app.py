"""Routes of the aggregated API, and what keeps one namespace from taking it from the others."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import structlog

from kube.errors import ApiError
from webhook.stats.page import Json, discovery, namespace_of, status

log = structlog.stdlib.get_logger()

PLACES: Final = 4
"""Namespaces that are read at the same time; one namespace has one place at most."""
WAITING: Final = 64
"""Namespaces that are read or wait for it; the next one is told to come again."""
WAIT_SECONDS: Final = 10.0
FRESH_SECONDS: Final = 0.5
"""However many ask, and however often: a namespace costs one reading in this time."""

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Answer = tuple[int, bytes]


class StatsApp:
    """An ASGI app. Who asks was authenticated and authorised by the API server, see
    ``docs/design/0013-stats.md``; ``read`` makes a namespace's list, in a thread."""

    def __init__(
        self, read: Callable[[str], bytes], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(PLACES, thread_name_prefix="stats")
        self._running: dict[str, asyncio.Task[_Answer]] = {}
        self._fresh: dict[str, tuple[float, _Answer]] = {}

    async def __call__(self, scope: _Message, _: _Receive, send: _Send) -> None:
        """Answers one request."""
        code, body = await self._answer(scope)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if code in (429, 503):
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: _Message) -> _Answer:
        path: str = scope["path"]
        if scope["method"] != "GET" or b"watch=" in scope["query_string"]:
            return _encode(status(405, "MethodNotAllowed", "only lists are served here"))
        if (page := discovery(path)) is not None:
            return 200, msgspec.json.encode(page)
        namespace = namespace_of(path)
        if namespace is None:
            return _encode(status(404, "NotFound", "there is nothing here"))
        return await self._shared(namespace)

    async def _shared(self, namespace: str) -> _Answer:
        """Whoever asks for a namespace meanwhile has the same answer."""
        now = self._monotonic()
        self._fresh = {k: kept for k, kept in self._fresh.items() if now - kept[0] < FRESH_SECONDS}
        if namespace in self._fresh:
            return self._fresh[namespace][1]
        task = self._running.get(namespace)
        if task is None:
            if len(self._running) >= WAITING:
                return _encode(status(429, "TooManyRequests", "too many ask; try again"))
            task = asyncio.create_task(self._make(namespace))
            self._running[namespace] = task
            task.add_done_callback(lambda _: self._running.pop(namespace, None))
        try:
            # One that goes away does not end what others wait for.
            return await asyncio.wait_for(asyncio.shield(task), WAIT_SECONDS)
        except TimeoutError:
            return _encode(status(503, "ServiceUnavailable", "nodes answer slowly; try again"))

    async def _make(self, namespace: str) -> _Answer:
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._threads, self._read, namespace)
        except ApiError as error:
            return _encode(status(503, "ServiceUnavailable", f"the API server: {error}"))
        except Exception as error:
            log.error("stats failed", namespace=namespace, reason=repr(error)[:300])
            return _encode(status(500, "InternalError", "see the webhook's log"))
        answer = (200, body)
        self._fresh[namespace] = (self._monotonic(), answer)
        return answer


def _encode(said: Json) -> _Answer:
    return said["code"], msgspec.json.encode(said)
