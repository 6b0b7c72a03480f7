"""Routes, no decisions: the admission app behind TLS, the health app on a plain port."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import Route

from webhook.admission import Handler, UnusableReviewError
from webhook.lifecycle import Lifecycle
from webhook.metrics import Metrics

log = structlog.stdlib.get_logger()

MAX_BODY_BYTES: Final = 3 * 1024 * 1024
"""An object is at most 1.5 MiB in etcd, and an update carries two."""
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
        self, route: str, handler: Handler, lifecycle: Lifecycle, metrics: Metrics
    ) -> None:
        self._handler = handler
        self._lifecycle = lifecycle
        self._unusable = metrics.requests.labels(route, "other", "unusable")

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answers one request."""
        status, content_type = 200, b"application/json"
        try:
            content = await self._answer(dict(scope["headers"]), receive)
        except _RefusedBodyError as e:
            status, content_type, content = e.status, b"text/plain", f"{e}\n".encode()
            self._unusable.inc()
            log.warning("review unusable", status=status, reason=str(e)[:300])
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(content)).encode()),
        ]
        # A refused body may not have been read to its end: the connection cannot be used again.
        if self._lifecycle.draining or status != 200:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, headers: dict[bytes, bytes], receive: _Receive) -> bytes:
        _check_headers(headers)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(receive)
            return self._handler(body)
        except TimeoutError as e:
            message = f"the body did not arrive within {BODY_SECONDS:.0f} s"
            raise _RefusedBodyError(408, message) from e
        except UnusableReviewError as e:
            raise _RefusedBodyError(400, str(e)) from e


def _check_headers(headers: dict[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise _RefusedBodyError(415, "send Content-Type: application/json")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _RefusedBodyError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")


async def _read_body(receive: _Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    chunks, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedBodyError(400, "the connection ended before the body did")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _RefusedBodyError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def create_admission_app(
    mutate: Handler, validate: Handler, lifecycle: Lifecycle, metrics: Metrics
) -> FastAPI:
    """``POST /mutate`` and ``POST /validate``."""
    app = FastAPI(openapi_url=None)
    for route, handler in (("mutate", mutate), ("validate", validate)):
        endpoint = ReviewRoute(route, handler, lifecycle, metrics)
        app.router.routes.append(Route(f"/{route}", endpoint, methods=["POST"]))
    return app


def create_health_app(lifecycle: Lifecycle, metrics: Metrics) -> FastAPI:
    """``GET /livez``, ``/readyz`` and ``/metrics``."""
    app = FastAPI(openapi_url=None)

    @app.get("/livez")
    async def livez() -> Response:
        return PlainTextResponse("ok\n")

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
