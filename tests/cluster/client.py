"""The API server as a test talks to it."""

import re
import ssl
from pathlib import Path
from typing import Any, Final

import httpx

Json = dict[str, Any]

_WARNING: Final = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')


class Client:
    """Plain HTTP to the API server: what is sent and what comes back, warnings included."""

    def __init__(self, url: str, ca_file: Path, token: str) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        self.http = httpx.Client(
            base_url=url,
            verify=context,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str) -> Json:
        """An object; fails the test when there is none."""
        return _content(self.http.get(path))

    def create(self, path: str, body: Json) -> Json:
        """Create; fails the test when refused."""
        return _content(self.http.post(path, json=body))

    def delete(self, path: str) -> None:
        """Delete at once; gone already is fine."""
        response = self.http.request("DELETE", path, json={"gracePeriodSeconds": 0})
        assert response.status_code in (200, 202, 404), response.text

    def patch(self, path: str, body: Json | list[Json], kind: str = "merge-patch+json") -> Json:
        """Patch; fails the test when refused."""
        return _content(self.try_patch(path, body, kind))

    def try_patch(
        self, path: str, body: Json | list[Json], kind: str = "merge-patch+json"
    ) -> httpx.Response:
        """Patch, whatever comes of it."""
        return self.http.patch(path, json=body, headers={"Content-Type": f"application/{kind}"})

    def apply(self, path: str, body: Json, manager: str) -> httpx.Response:
        """Server-side apply without force."""
        return self.http.patch(
            path,
            params={"fieldManager": manager},
            json=body,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )


def warnings(response: httpx.Response) -> list[str]:
    """The texts of the ``Warning`` headers."""
    header = ", ".join(response.headers.get_list("warning"))
    return [re.sub(r"\\(.)", r"\1", text) for text in _WARNING.findall(header)]


def _content(response: httpx.Response) -> Json:
    assert response.is_success, f"{response.request.method} {response.url}: {response.text}"
    content: Json = response.json()
    return content
