"""enforcer.reconcile.work_queue: what is taken, when, and how often."""

import threading

import pytest

from enforcer.reconcile.work_queue import Urgency, WorkQueue


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self):
        """Now."""
        return self.now


@pytest.fixture
def clock():
    """At zero."""
    return Clock()


@pytest.fixture
def queue(clock):
    """An empty one."""
    return WorkQueue(clock)


def taken(queue):
    """Everything that waits, in order."""
    found = []
    while (item := queue.get(0)) is not None:
        queue.done(item[0])
        found.append(item)
    return found


def test_a_key_that_waits_waits_once_with_all_its_causes(queue):
    """However often it is put in."""
    queue.add("a", "link change")
    queue.add("b", "news")
    for _ in range(3):
        queue.add("a", "news")

    assert taken(queue) == [("a", ("link change", "news")), ("b", ("news",))]


def test_the_most_urgent_is_taken_first(queue):
    """A key moves forward with its most urgent cause, and never back."""
    queue.add("a", "resync", Urgency.LATER)
    queue.add("b", "resync", Urgency.LATER)
    queue.add("c", "news", Urgency.SOON)
    queue.add("b", "cgroup", Urgency.NOW)
    queue.add("b", "resync", Urgency.LATER)

    assert taken(queue) == [("b", ("resync", "cgroup")), ("c", ("news",)), ("a", ("resync",))]


def test_a_key_that_is_added_while_it_is_worked_on_comes_again(queue):
    """What was seen meanwhile may not have been seen by the work."""
    queue.add("a", "news")
    queue.get(0)
    queue.add("a", "news")
    meanwhile = queue.get(0)
    queue.done("a")

    assert meanwhile is None
    assert taken(queue) == [("a", ("news",))]


def test_one_thread_can_be_kept_for_what_is_urgent(queue):
    """It waits for such a key, and the other takes both."""
    queue.add("a", "news", Urgency.SOON)
    none = queue.get(0, up_to=Urgency.NOW)
    queue.add("b", "cgroup", Urgency.NOW)

    assert none is None
    assert queue.get(0, up_to=Urgency.NOW) == ("b", ("cgroup",))
    assert queue.get(0) == ("a", ("news",))


def test_what_is_due_later_comes_then_and_once(queue, clock):
    """The earliest time for one cause holds."""
    queue.add_after("a", "started", 5)
    queue.add_after("a", "started", 2)
    queue.add_after("a", "started", 9)
    early = taken(queue)
    clock.now = 2
    due = taken(queue)
    clock.now = 20

    assert (early, due, taken(queue)) == ([], [("a", ("started",))], [])


def test_failures_of_one_key_come_after_growing_pauses_up_to_a_bound(queue, clock):
    """And begin anew when it has worked."""
    pauses = [queue.failed("a", "retry") for _ in range(40)]
    queue.worked("a")
    clock.now = 100
    taken(queue)
    again = [queue.failed("b", "retry"), queue.failed("a", "retry")]

    assert max(pauses) <= 30
    assert max(pauses[10:]) > 5
    assert max(again) <= 1


def test_a_forgotten_key_never_comes(queue, clock):
    """Its target is gone."""
    queue.failed("a", "retry")
    queue.add_after("a", "started", 1)
    queue.forget("a")
    clock.now = 100

    assert taken(queue) == []


def test_whoever_waits_is_woken_by_a_key_a_time_and_the_end():
    """Without a look now and then."""
    queue, found = WorkQueue(), []

    def work():
        while (item := queue.get()) is not None:
            found.append(item[0])
            queue.done(item[0])
            if item[0] == "a":
                queue.add_after("b", "later", 0.01)
            else:
                queue.close()

    thread = threading.Thread(target=work)
    thread.start()
    queue.add("a", "news")
    thread.join()

    assert found == ["a", "b"]


def test_what_can_wait_waits_while_something_urgent_is_worked_on(queue):
    """Two threads of one interpreter are in each other's way; a resync has time."""
    queue.add("a", "cgroup", Urgency.NOW)
    queue.get(0)
    queue.add("b", "resync", Urgency.LATER)
    queue.add("c", "link change", Urgency.SOON)
    meanwhile = taken(queue)
    waits = threading.Thread(target=lambda: after.append(queue.get()))
    after = []
    waits.start()
    queue.done("a")
    waits.join()

    assert meanwhile == [("c", ("link change",))]
    assert after == [("b", ("resync",))]
