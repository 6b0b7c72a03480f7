"""The API server for the webhook's loops: plain JSON objects, no typed models."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import kube.transport
from kube.transport import JSON, Configuration, NoClusterError, Transport
from webhook.errors import ApiError, ConflictError, GoneError, NotFoundError, WebhookError
from webhook.kube.ports import Json

_PAGE: Final = 500
_ERRORS: Final = {404: NotFoundError, 409: ConflictError, 410: GoneError}
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeApi:
    """Implements ``ports.Api``; safe for use by several threads."""

    def __init__(self, load: Callable[[], Configuration]) -> None:
        """Raises what ``load`` raises."""
        self._transport = Transport(load, _error)

    def get(self, path: str) -> Json:
        """Read one object."""
        return self._request("GET", path)

    def create(self, path: str, body: Json) -> Json:
        """Create an object in the collection ``path``."""
        return self._request("POST", path, body)

    def replace(self, path: str, body: Json) -> Json:
        """Write an object; its resourceVersion is the precondition."""
        return self._request("PUT", path, body)

    def delete(self, path: str) -> None:
        """Delete an object."""
        self._request("DELETE", path)

    def json_patch(self, path: str, operations: Sequence[Json]) -> Json:
        """Apply a JSON Patch."""
        return self._request("PATCH", path, operations, content_type="application/json-patch+json")

    def list(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON
    ) -> tuple[list[Json], str]:
        """All items, page by page, and the resource version to watch from."""
        items: list[Json] = []
        parameters = dict(query or {}) | {"limit": str(_PAGE)}
        while True:
            page = self._request("GET", f"{path}?{urlencode(parameters)}", accept=accept)
            items += page.get("items") or []
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, metadata["resourceVersion"]
            parameters["continue"] = metadata["continue"]

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        """Events until the server ends the watch; a watch that is silent too long is an error."""
        for line in self._transport.watch(path, query):
            event = _read(f"watch of {path}", line)
            if event["type"] == "ERROR":
                code = event["object"].get("code", 0)
                raise _error(f"watch of {path}: {line[:300].decode(errors='replace')}", code)
            yield event

    def _request(self, method: str, path: str, body: object = None, **types: str) -> Json:
        """``types``: ``content_type`` and ``accept``, where they are not JSON."""
        return _read(f"{method} {path}", self._transport.request(method, path, body, **types))


def _read(request: str, text: bytes) -> Json:
    try:
        content: Json = json.loads(text)
    except ValueError as e:
        raise ApiError(f"{request}: {e}") from e
    return content


def _error(message: str, status: int, _retry_after_seconds: float = 0.0) -> ApiError:
    return _ERRORS.get(status, ApiError)(message, status)


def load_configuration(kubeconfig: str | None) -> Configuration:
    """See ``kube.transport``. Raises WebhookError with what to do."""
    try:
        return kube.transport.load_configuration(kubeconfig)
    except NoClusterError as e:
        message = f"{e}; give --kubeconfig, or --policy-dir to serve without one"
        raise WebhookError(message) from e


def own_namespace() -> str | None:
    """The namespace of the pod we run in; None outside a cluster."""
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
