"""enforcer.reconcile.holder: several threads at once."""

from threading import Event, Thread

import pytest

from contract.api import TargetRequest
from enforcer.state import Link

TEN = TargetRequest(ingress="10M")
SECONDS = 5


@pytest.fixture
def slow(bench, monkeypatch):
    """(interfaces are being changed, they may be ready); the first pod's take until then."""
    begun, may_end = Event(), Event()
    shape = bench.network.shape

    def wait(*arguments):
        begun.set()
        assert may_end.wait(SECONDS)
        shape(*arguments)

    monkeypatch.setattr(bench.network, "shape", wait)
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    yield begun, may_end
    may_end.set()


def other_pod(bench):
    """One whose lock is another."""
    for number in range(2, 100):
        path = bench.pod.with_name(f"pod{number}")
        if bench.holder.lock(str(path)) is not bench.holder.lock(str(bench.pod)):
            path.mkdir()
            return path
    raise AssertionError("all targets have one lock")


def test_a_new_target_does_not_wait_for_the_interfaces_of_another(bench, slow):
    """The kernel changes those one after the other; a limit on a cgroup needs none of them."""
    begun, may_end = slow
    first = Thread(target=bench.requests.set_target, args=("/kubepods/pod1", TEN))
    first.start()
    assert begun.wait(SECONDS)
    path = other_pod(bench)
    second = Thread(target=bench.requests.set_target, args=(f"/kubepods/{path.name}", TEN))
    second.start()
    second.join(SECONDS)
    is_limited = str(path) in bench.datapath.attached
    may_end.set()
    first.join(SECONDS)
    second.join(SECONDS)

    assert is_limited
    assert len(bench.network.held) == 1


def test_two_requests_for_one_target_take_turns(bench, slow):
    """The second finds what the first has done, and changes it."""
    begun, may_end = slow
    threads = [
        Thread(target=bench.requests.set_target, args=("/kubepods/pod1", TargetRequest(rate)))
        for rate in ("10M", "20M")
    ]
    threads[0].start()
    assert begun.wait(SECONDS)
    threads[1].start()
    threads[1].join(0.1)
    before = list(bench.log.events)
    may_end.set()
    for thread in threads:
        thread.join(SECONDS)

    assert before == ["attached"]
    assert bench.log.events == ["attached", "shaped", "changed", "shaped"]
    assert bench.daemon.targets()[0].limits.ingress.bits_per_second == 20_000_000
