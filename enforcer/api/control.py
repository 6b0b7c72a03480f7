"""The control socket's routes (contract.api). They parse and answer; the daemon decides."""

from dataclasses import fields
from typing import Any, Final

import msgspec

from contract.api import Health, Refusal, TargetList, TargetRequest
from contract.problems import Problem
from enforcer.api.http import MAX_BODY_BYTES, Answer, Request, Response
from enforcer.api.requests import Requests
from enforcer.api.status import to_status
from enforcer.errors import RefusedError
from enforcer.reconcile.reconciler import Reconciler

_FIELDS: Final = frozenset(field.name for field in fields(TargetRequest))
_TARGETS: Final = "/targets/"


def make_control(reconciler: Reconciler, requests: Requests, health: Health) -> Answer:
    """What the control socket answers."""

    def answer(request: Request) -> Response:
        try:
            return route(request)
        except RefusedError as error:
            return _json(Refusal(error.problems), error.status)

    def route(request: Request) -> Response:
        name = request.path.removeprefix(_TARGETS)
        match request.method, request.path:
            case "GET", "/healthz":
                return _json(health)
            case "GET", "/targets":
                return _json(TargetList(tuple(to_status(*pair) for pair in reconciler.counters())))
            case _, path if not path.startswith(_TARGETS):
                pass
            case "PUT", _:
                return _json(to_status(*requests.set_target(name, read_request(request.body))))
            case "GET", _:
                return _json(to_status(*requests.show_target(name)))
            case "DELETE", _:
                requests.remove_target(name)
                return Response(204)
        return Response(404, b"see contract.api for what is served here\n", "text/plain")

    return answer


def read_request(body: bytes) -> TargetRequest:
    """The body of a PUT. Raises ``RefusedError`` 422; a misspelt field never lifts a limit."""
    if len(body) > MAX_BODY_BYTES:
        raise RefusedError(
            422, Problem("body", "…", f"is longer than {MAX_BODY_BYTES} bytes", "send less")
        )
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


def _json(body: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(body))


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
