"""What tests of the guards around an enforcer share."""

from typing import Final

import httpx

from tests.cluster.client import Client, Json

NODE: Final = "node-1"
OTHER_NODE: Final = "node-2"
STRATEGIC: Final = "strategic-merge-patch+json"


def write(client: Client, path: str, *conditions: Json, **status: object) -> httpx.Response:
    """Conditions of a pod, and more of its status."""
    body = {"status": {"conditions": list(conditions), **status}}
    return client.try_patch(f"{path}/status", body, STRATEGIC)
