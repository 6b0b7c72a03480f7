"""The control socket's client side; httpx's exceptions stop here."""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from client.errors import ClientError, RefusedError, UnreachableError
from contract.api import Health, Refusal, TargetList, TargetRequest, TargetStatus

_TIMEOUT_SECONDS: Final = 10.0
T = TypeVar("T")


class Enforcer:
    """The daemon behind ``socket``. Methods raise ``RefusedError`` and ``UnreachableError``."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)),
            base_url="http://podpace-enforcer",
            timeout=_TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def attach(self, target: str, request: TargetRequest) -> TargetStatus:
        """Set or change the limits of ``target``."""
        body = msgspec.json.encode(request)
        return self._ask("PUT", _path(target), TargetStatus, body)

    def detach(self, target: str) -> None:
        """Take the limits off."""
        self._send("DELETE", _path(target))

    def show(self, target: str) -> TargetStatus:
        """One target."""
        return self._ask("GET", _path(target), TargetStatus)

    def list_targets(self) -> TargetList:
        """All targets, sorted by name."""
        return self._ask("GET", "/targets", TargetList)

    def health(self) -> Health:
        """What the daemon is and can do."""
        return self._ask("GET", "/healthz", Health)

    def _ask(self, method: str, path: str, answer: type[T], body: bytes | None = None) -> T:
        content = self._send(method, path, body)
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.MsgspecError as error:
            raise self._not_ours(str(error)) from error

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            response = self._http.request(method, path, content=body)
        except httpx.ConnectError as error:
            raise UnreachableError(self._why_unreachable(error)) from error
        except httpx.TimeoutException as error:
            raise UnreachableError(
                f"the daemon on {self._socket} did not answer within {_TIMEOUT_SECONDS:g} s; "
                "see its log: journalctl -u podpace-enforcer"
            ) from error
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the daemon on {self._socket} hung up ({error}); "
                "see its log: journalctl -u podpace-enforcer"
            ) from error
        if response.is_success:
            return response.content
        try:
            refusal = msgspec.json.decode(response.content, type=Refusal)
        except msgspec.MsgspecError as error:
            raise self._not_ours(f"HTTP status {response.status_code}") from error
        raise RefusedError(*refusal.problems)

    def _not_ours(self, what: Any) -> ClientError:
        return ClientError(
            f"what answers on {self._socket} does not speak this client's language ({what}); "
            "install the same version of both"
        )

    def _why_unreachable(self, error: httpx.ConnectError) -> str:
        if _is_permission(error):
            return f"may not use {self._socket}: only root may; run it again with sudo"
        return (
            f"no daemon answers on {self._socket}; start it with: sudo podpace-enforcer, or: "
            "sudo systemctl start podpace-enforcer"
        )


def _is_permission(error: BaseException | None) -> bool:
    """httpx wraps the OSError twice; the original is at the end of the chain."""
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _path(target: str) -> str:
    return "/targets/" + quote(target, safe="")
