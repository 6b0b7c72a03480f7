"""Pod creations through the API server at a steady rate, and what became of each."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.cluster.client import Json
from tests.cluster.install import pod
from tests.cluster.plane import ControlPlane

_PATH = "/api/v1/namespaces/default/pods"
_LABEL = "podpace.io/egress-bits-per-second"


@dataclass
class Outcome:
    """A creation that was admitted but not changed by the webhook is a failure."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def steady_load(
    plane: ControlPlane, per_second: int, *, dry_run: bool = True, body: Json | None = None
) -> Iterator[Outcome]:
    """Runs in a thread of its own until the block ends. ``body``: another pod than one that asks
    for 10M."""
    outcome = Outcome()
    stop = threading.Event()
    path = f"{_PATH}?dryRun=All" if dry_run else _PATH
    body = body or pod({"podpace.io/egress-bandwidth": "10M"})
    thread = threading.Thread(
        target=lambda: asyncio.run(_run(plane, (path, body), per_second, outcome, stop))
    )
    thread.start()
    try:
        yield outcome
    finally:
        stop.set()
        thread.join()


async def _run(
    plane: ControlPlane,
    made: tuple[str, Json],
    per_second: int,
    outcome: Outcome,
    stop: threading.Event,
) -> None:
    path, body = made
    context = ssl.create_default_context(cafile=str(plane.ca_file))
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    headers = {"Authorization": f"Bearer {plane.token('dev')}"}
    async with (
        httpx.AsyncClient(
            base_url=plane.url,
            verify=context,
            headers=headers,
            limits=limits,
            timeout=20,
            trust_env=False,
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        begin = time.monotonic()
        sent = 0
        while not stop.is_set():
            # Catches up after a pause, so the mean rate holds on a busy machine.
            while sent < (time.monotonic() - begin) * per_second:
                group.create_task(_create(client, path, body, outcome))
                sent += 1
            await asyncio.sleep(0.005)
        outcome.seconds = time.monotonic() - begin


async def _create(client: httpx.AsyncClient, path: str, body: object, outcome: Outcome) -> None:
    try:
        response = await client.post(path, json=body)
        labels = response.json().get("metadata", {}).get("labels", {})
        if response.status_code != 201 or _LABEL not in labels:
            outcome.failures.append(f"{response.status_code}: {response.text[:300]}")
    except httpx.HTTPError as e:
        outcome.failures.append(repr(e))
    outcome.done += 1
