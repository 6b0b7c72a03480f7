"""Routes, no decisions: the admission app behind TLS, the health app on a plain port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from webhook.admission import Handler, UnusableReviewError, too_large_answer
from webhook.large import LargeReviews, TooLargeError, UnreadableError
from webhook.lifecycle import Lifecycle
from webhook.loops import Loops
from webhook.metrics import Metrics

log = structlog.stdlib.get_logger()

SMALL_BODY_BYTES: Final = 256 * 1024
"""Read here, at once: that takes a millisecond or two. Nearly every pod is a twentieth of that."""
BODY_SECONDS: Final = 5.0
"""The API server sends a body at once; whoever does not is not the API server."""

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class _RefusedBodyError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ReviewRoute:
    """One handler as an ASGI endpoint.

    The hot path: no request object, no parameter parsing, no second copy of the body.
    """

    def __init__(
        self,
        route: str,
        handler: Handler,
        lifecycle: Lifecycle,
        metrics: Metrics,
        large: LargeReviews,
    ) -> None:
        self._route = route
        self._handler = handler
        self._lifecycle = lifecycle
        self._unusable = metrics.requests.labels(route, "other", "unusable")
        self._too_large = metrics.requests.labels(route, "other", "denied")
        self._large = large

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answers one request."""
        status, content_type, whole = 200, b"application/json", True
        try:
            _check_headers(dict(scope["headers"]))
            content = await self._answer(scope, receive)
        except TooLargeError as e:
            self._too_large.inc()
            content, whole = too_large_answer(e.uid), False
        except _RefusedBodyError as e:
            status, content_type, whole = e.status, b"text/plain", False
            content = f"{e}\n".encode()
            self._unusable.inc()
            log.warning("review unusable", status=status, reason=str(e)[:300])
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(content)).encode()),
        ]
        # A refused body may not have been read to its end: the connection cannot be used again.
        if self._lifecycle.draining or not whole:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: _Message, receive: _Receive) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body, more = await _read_small(receive)
                if more or len(body) > SMALL_BODY_BYTES:
                    body = await self._read_large(scope, receive, body, more)
            return self._handler(body)
        except TimeoutError as e:
            message = f"the body did not arrive within {BODY_SECONDS:.0f} s"
            raise _RefusedBodyError(408, message) from e
        except (UnusableReviewError, UnreadableError) as e:
            raise _RefusedBodyError(400, str(e)) from e
        except TooLargeError as e:
            if e.uid:
                raise
            raise _RefusedBodyError(413, str(e)) from e

    async def _read_large(
        self, scope: _Message, receive: _Receive, begun: bytes, more: bool
    ) -> bytes:
        sender = (scope.get("client") or ("", 0))[0]
        async with self._large.spool(sender) as spool:
            spool.write(begun)
            while more:
                chunk, more = await _receive(receive)
                spool.write(chunk)
            return await self._large.digest(self._route, spool)


def _check_headers(headers: dict[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise _RefusedBodyError(415, "send Content-Type: application/json")


async def _receive(receive: _Receive) -> tuple[bytes, bool]:
    """The next piece of a body, and whether there is more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _RefusedBodyError(400, "the connection ended before the body did")
    return message.get("body", b""), bool(message.get("more_body"))


async def _read_small(receive: _Receive) -> tuple[bytes, bool]:
    """The body, or the beginning of one that is not small, and whether there is more."""
    body, more = await _receive(receive)
    if not more:
        return body, False
    chunks, size = [body], len(body)
    while more and size <= SMALL_BODY_BYTES:
        chunk, more = await _receive(receive)
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks), more


def create_admission_app(
    handlers: Mapping[str, Handler], lifecycle: Lifecycle, metrics: Metrics, large: LargeReviews
) -> FastAPI:
    """``POST /ROUTE`` for each handler."""
    return FastAPI(
        openapi_url=None,
        routes=[
            Route(
                f"/{route}",
                ReviewRoute(route, handler, lifecycle, metrics, large),
                methods=["POST"],
            )
            for route, handler in handlers.items()
        ],
    )


def create_health_app(lifecycle: Lifecycle, metrics: Metrics, loops: Loops) -> FastAPI:
    """``GET /livez``, ``/readyz`` and ``/metrics``."""
    app = FastAPI(openapi_url=None)

    @app.get("/livez")
    async def livez() -> Response:
        faults = loops.faults()
        if faults:
            return PlainTextResponse("\n".join(["to be started anew:", *faults, ""]), 503)
        return PlainTextResponse("\n".join(["ok", *loops.lines(), ""]))

    @app.get("/readyz")
    async def readyz() -> Response:
        reasons = lifecycle.unready()
        if reasons:
            return PlainTextResponse("\n".join(["not ready:", *reasons, ""]), 503)
        return PlainTextResponse("ok\n")

    @app.get("/metrics")
    async def metrics_page() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
