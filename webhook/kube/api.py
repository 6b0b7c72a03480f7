"""Requests to the API server as plain JSON; no typed models, which cost memory and time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import kubernetes.config
import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException

from webhook.errors import ApiError, ConflictError, GoneError, NotFoundError, WebhookError
from webhook.kube.ports import Json

_TIMEOUTS: Final = (3.0, 15.0)
"""Seconds to connect and between bytes."""
WATCH_READ_SECONDS: Final = 90.0
"""Bookmarks come about once a minute; without them a watch is taken for dead."""
_PAGE: Final = 500
_ERRORS: Final = {404: NotFoundError, 409: ConflictError, 410: GoneError}
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeApi:
    """The API server, through the official client's transport and credentials."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.keep_alive = True
        # Our loops do the retrying; a hidden retry would repeat a write.
        configuration.retries = False
        self._client: Any = ApiClient(configuration)

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
        self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
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
        parameters = dict(query) | {"watch": "1", "allowWatchBookmarks": "true"}
        response = self._open(
            "GET", f"{path}?{urlencode(parameters)}", timeouts=(_TIMEOUTS[0], WATCH_READ_SECONDS)
        )
        try:
            rest = b""
            for chunk in response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event: Json = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _error(event["object"].get("code", 0), line[:300].decode())
                    yield event
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise ApiError(f"watch of {path}: {e}") from e
        finally:
            # Not released to the pool: there is a half-read answer on the connection.
            response.close()

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        response = self._open(method, path, body, content_type=content_type, accept=accept)
        try:
            content: Json = json.loads(response.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise ApiError(f"{method} {path}: {e}") from e
        return content

    def _open(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeouts: tuple[float, float] = _TIMEOUTS,
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            request = self._client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = self._client.call_api(*request, _request_timeout=timeouts).response
            if response.status < 400:
                return response
            text = response.data[:300].decode(errors="replace")
        except (urllib3.exceptions.HTTPError, kubernetes.client.ApiException, OSError) as e:
            raise ApiError(f"{method} {path}: {e}") from e
        raise _error(response.status, f"{method} {path}: {text}")


def _error(status: int, message: str) -> ApiError:
    return _ERRORS.get(status, ApiError)(message, status)


def load_configuration(kubeconfig: str | None) -> Configuration:
    """From a kubeconfig file, or from the service account of the pod we run in.

    Raises:
        WebhookError: neither is usable.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
                kubeconfig, client_configuration=configuration
            )
        else:
            kubernetes.config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration
            )
    except (ConfigException, OSError) as e:
        message = f"no Kubernetes API: {e}; give --kubeconfig, or --policy-dir to serve without one"
        raise WebhookError(message) from e
    return configuration


def own_namespace() -> str | None:
    """The namespace of the pod we run in; None outside a cluster."""
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
