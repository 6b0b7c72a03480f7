"""Daemons are killed and replaced beside 128 flows each way, judged by frames, in counted time."""

from collections.abc import Sequence

import pytest

from bench.cost import checked_out
from bench.handover import Step, watch
from bench.ours import CHECKOUT

pytestmark = [pytest.mark.counted, pytest.mark.long]

LIMIT = 100_000_000
PACED_BY_ACKS = "20d99e7"
"""The last version that held what a pod receives by pacing its ACKs, with queues inside the pod."""
TODAYS = ("today's", CHECKOUT)


def assert_held(steps: Sequence[Step]) -> None:
    """No 100 ms above 1.1 of the limit, no connection reset, and the limit used."""
    for step in steps:
        assert step.busiest <= 1.1, step.text
        assert step.resets == 0, step.text
        assert 0.98 <= step.rate <= 1.02, step.text


def test_a_killed_daemon_leaves_the_limit_as_it_was() -> None:
    """kill -9, and another one takes it over."""
    assert_held(watch([TODAYS] * 2, LIMIT))


def test_a_pod_paced_by_its_acks_is_taken_over_and_given_back() -> None:
    """The real daemon of that version, with its programs and its queues in the pod."""
    with checked_out(PACED_BY_ACKS) as source:
        older = PACED_BY_ACKS, source
        steps = watch([older, TODAYS, older], LIMIT)

    held = [step.enforcement for step in steps if step.direction == "ingress"]
    assert held == ["paced", "shaped", "paced"]
    assert_held(steps)
