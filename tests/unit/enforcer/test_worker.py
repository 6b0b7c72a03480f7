"""enforcer.reconcile.worker in its own real threads."""

import threading

import pytest

from contract.api import TargetRequest
from enforcer.api.requests import Requests
from enforcer.errors import RefusedError
from enforcer.reconcile.look import Look
from enforcer.reconcile.work_queue import Urgency
from enforcer.reconcile.worker import Worker
from enforcer.state import Link

TEN = TargetRequest(ingress="10M")


@pytest.fixture
def running(bench):
    """The bench's requests, with a worker that runs."""
    stopping = threading.Event()
    worker = Worker(
        bench.reconciler,
        bench.queue,
        datapath=bench.datapath,
        network=bench.network,
        log=bench.log,
        complaints=bench.complaints,
    )
    bench.requests = Requests(worker, bench.reconciler, bench.cgroups, bench.log, bench.complaints)
    threads = [
        threading.Thread(target=run, args=(stopping,)) for run in (worker.run, worker.run_urgent)
    ]
    for thread in threads:
        thread.start()
    yield bench
    stopping.set()
    bench.queue.close()
    for thread in threads:
        thread.join()


def test_requests_of_several_threads_are_done_one_after_another(running):
    """Each is answered with what came of its own."""
    rates: list[int] = []

    def ask(number: int) -> None:
        target, _ = running.requests.set_target(
            "/kubepods/pod1", TargetRequest(egress=f"{number}M")
        )
        rates.append(target.limits.egress.bits_per_second)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(rates) == [n * 1_000_000 for n in range(1, 9)]
    assert len(running.reconciler.targets()) == 1
    assert running.log.events == ["attached"] + ["changed"] * 7


def test_what_is_refused_is_raised_where_it_was_asked_and_the_next_is_served(running):
    """Also what no one expected."""
    running.datapath.fail["attach"] = "EINVAL"
    with pytest.raises(RefusedError, match="EINVAL"):
        running.requests.set_target("/kubepods/pod1", TEN)
    running.datapath.fail.clear()
    resolve, running.cgroups.resolve = running.cgroups.resolve, None
    with pytest.raises(TypeError):
        running.requests.set_target("/kubepods/pod1", TEN)
    running.cgroups.resolve = resolve

    assert running.requests.set_target("/kubepods/pod1", TEN)


def test_a_request_passes_everything_that_waits_to_be_looked_at(running, monkeypatch):
    """A resync of hundreds of targets holds nobody up, whatever one of them waits for."""
    begun, may_end, looked = threading.Event(), threading.Event(), []
    for number in range(2, 50):
        path = running.pod.with_name(f"pod{number}")
        path.mkdir()
        running.requests.set_target(f"/kubepods/{path.name}", TEN)
    look = running.reconciler.look

    def slow(target, cause):
        looked.append(target.name)
        begun.set()
        may_end.wait()
        return look(target, cause)

    monkeypatch.setattr(running.reconciler, "look", slow)
    for target in running.reconciler.targets():
        running.queue.add(target.cgroup_path, "resync", Urgency.LATER)
    begun.wait()
    running.requests.set_target("/kubepods/pod1", TEN)
    is_limited = str(running.pod) in running.datapath.attached
    may_end.set()

    assert is_limited
    assert len(looked) == 1


def test_links_that_change_have_their_targets_looked_at(bench):
    """And nobody else's; when nobody can tell whose, everybody's."""
    path = bench.pod.with_name("pod2")
    path.mkdir()
    for name in ("pod1", "pod2"):
        bench.requests.set_target(f"/kubepods/{name}", TEN)
    answers = [frozenset({str(path)}), None, frozenset()]
    bench.network.changed = lambda _seconds: answers.pop(0)
    found = []
    for _ in range(3):
        bench.worker.watch_links()
        waiting = set()
        while (item := bench.queue.get(0)) is not None:
            bench.queue.done(item[0])
            waiting.add(item)
        found.append(waiting)

    change = ("link change",)
    both = {(str(bench.pod), change), (str(path), change)}
    assert found == [{(str(path), change)}, both, set()]


def test_a_link_that_comes_late_is_used(bench):
    """From link change to queue."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    bench.reconciler.put(str(bench.pod), "link change")
    bench.drain()

    assert bench.log.events == ["attached", "shaped"]


def test_a_new_target_does_not_wait_for_the_interfaces_of_another(running, monkeypatch):
    """The kernel changes those one after the other; a limit on a cgroup needs none of them."""
    begun, may_end, shape = threading.Event(), threading.Event(), running.network.shape

    def slow(*arguments):
        begun.set()
        may_end.wait()
        shape(*arguments)

    monkeypatch.setattr(running.network, "shape", slow)
    path = running.pod.with_name("pod2")
    path.mkdir()
    running.requests.set_target("/kubepods/pod1", TEN)
    running.network.links[str(running.pod)] = (Link(7, "veth7"),)
    running.reconciler.put(str(running.pod), "link change")
    begun.wait()
    running.requests.set_target("/kubepods/pod2", TEN)
    is_limited = str(path) in running.datapath.attached
    may_end.set()

    assert is_limited


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_key_that_is_worked_on_for_over_a_minute_is_told(bench, monkeypatch, ends_well):
    """A worker that hangs in the kernel limits nobody any more; /livez says so. Not afterwards."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    told = []

    def slow(_target, _cause):
        told.append(bench.worker.stuck())
        bench.now += 61
        told.append(bench.worker.stuck())
        if not ends_well:
            raise RuntimeError
        return Look()

    monkeypatch.setattr(bench.reconciler, "look", slow)
    bench.take(str(bench.pod))

    assert told == ["", str(bench.pod)]
    assert not bench.worker.stuck()
