"""enforcer.loops: pauses between tries."""

import threading
from types import SimpleNamespace

import pytest

from enforcer import loops
from kube.errors import ApiError


class _Log:
    def __init__(self):
        self.pauses = []

    def warning(self, event, **fields):
        self.pauses.append(fields["retry_in_seconds"])


@pytest.mark.parametrize(("lasts_seconds", "ceilings"), [(0.0, [1, 2, 4, 8]), (6.0, [1, 1, 1, 1])])
def test_a_step_that_had_worked_for_long_begins_the_backoff_anew(
    monkeypatch, lasts_seconds, ceilings
):
    """A watch that is cut now and then is opened again at once, however often that was."""
    now, stopping, log, tries = [0.0], threading.Event(), _Log(), []
    monkeypatch.setattr(loops, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loops.random, "uniform", lambda _, ceiling: ceiling)
    monkeypatch.setattr(stopping, "wait", lambda _: None)

    def step():
        tries.append(1)
        now[0] += lasts_seconds
        if len(tries) == len(ceilings):
            stopping.set()
        raise ApiError("cut")

    loops.start_loop("watch", step, stopping, log, lambda _: None).join(5)

    assert log.pauses == ceilings
