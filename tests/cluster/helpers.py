"""What several cluster tests need."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.cluster.client import Json

T = TypeVar("T")
PODS = "/api/v1/namespaces/default/pods"
EGRESS = "podpace.io/egress-bandwidth"
EGRESS_LABEL = "podpace.io/egress-bits-per-second"


def ours(found: Json, what: str = "labels") -> dict[str, str]:
    """Labels or annotations under our domain, without it."""
    items = found["metadata"].get(what, {}).items()
    return {k.removeprefix("podpace.io/"): v for k, v in items if k.startswith("podpace.io/")}


def until(read: Callable[[], T], good: Callable[[T], object], seconds: float = 30.0) -> T:
    """Polls an API that has no event for it; what was read when it was good."""
    end = time.monotonic() + seconds
    while True:
        found = read()
        if good(found):
            return found
        assert time.monotonic() < end, f"still {found}"
        time.sleep(0.02)
