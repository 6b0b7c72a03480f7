"""Loops in threads."""

import threading

from kube.errors import ApiError
from webhook.errors import WebhookError
from webhook.loops import start_loop


def test_a_loop_survives_failed_steps_and_stops_when_told() -> None:
    """With a pause that grows, and not one thread left."""
    stop, done = threading.Event(), threading.Event()
    failures: list[WebhookError] = []
    calls = iter(range(10))

    def step() -> float:
        if next(calls) == 0:
            raise ApiError("first time")
        done.set()
        return 60

    thread = start_loop("test", step, stop, failures.append)
    assert done.wait(10)
    stop.set()
    thread.join(10)

    assert len(failures) == 1
    assert not thread.is_alive()
