"""The control socket's routes (contract.api). They parse and answer; the daemon decides."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import fields
from typing import Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from contract.api import Health, Refusal, TargetList, TargetRequest
from contract.problems import Problem
from enforcer.api.requests import Requests
from enforcer.api.status import to_status
from enforcer.errors import RefusedError
from enforcer.ports import Log
from enforcer.reconcile.daemon import Daemon

_MAX_BODY_BYTES: Final = 65536
_FIELDS: Final = frozenset(field.name for field in fields(TargetRequest))
T = TypeVar("T")


def create_app(
    daemon: Daemon, requests: Requests, health: Health, worker: Executor, log: Log
) -> FastAPI:
    """The app. Work runs in ``worker``, so that a slow kernel call never blocks ``/healthz``."""
    # Without the OpenAPI document nothing builds pydantic schemas: less memory, faster start.
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    async def in_worker(call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(worker, call, *arguments)

    @app.put("/targets/{target:path}")
    async def put(target: str, request: Request) -> Response:
        body = read_request(await _read_body(request))
        return _json(to_status(*await in_worker(requests.set_target, target, body)))

    @app.get("/targets/{target:path}")
    async def show(target: str) -> Response:
        return _json(to_status(*await in_worker(requests.show_target, target)))

    @app.delete("/targets/{target:path}")
    async def delete(target: str) -> Response:
        await in_worker(requests.remove_target, target)
        return Response(status_code=204)

    @app.get("/targets")
    async def list_all() -> Response:
        counted = await in_worker(lambda: list(daemon.counters()))
        return _json(TargetList(tuple(to_status(*pair) for pair in counted)))

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json(health)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 - what it is registered for
        return _json(Refusal(error.problems), error.status)

    @app.exception_handler(ClientDisconnect)
    async def hung_up(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        log.error("fault", path=request.url.path, reason=repr(error))
        problem = Problem(
            "podpace-enforcer", request.url.path, f"met a fault of its own: {error!r}",
            "report it with the daemon's log",
        )  # fmt: skip
        return _json(Refusal((problem,)), 500)

    return app


def read_request(body: bytes) -> TargetRequest:
    """The body of a PUT. Raises ``RefusedError`` 422; a misspelt field never lifts a limit."""
    try:
        raw = msgspec.json.decode(body or b"{}", type=dict[str, Any])
        unknown = sorted(raw.keys() - _FIELDS)
        if unknown:
            raise RefusedError(
                422,
                *(
                    Problem(name, str(raw[name]), "is not a field", f"use {_list(_FIELDS)}")
                    for name in unknown
                ),
            )
        return msgspec.convert(raw, TargetRequest)
    except msgspec.MsgspecError as error:
        text = body[:80].decode(errors="replace")
        raise RefusedError(
            422, Problem("body", text, f"cannot be read: {error}", "send contract.api as JSON")
        ) from error


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise RefusedError(
                422,
                Problem("body", "…", f"is longer than {_MAX_BODY_BYTES} bytes", "send less"),
            )
    return bytes(body)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
