"""enforcer.api.metrics: what a scrape says."""

import threading

from prometheus_client import CollectorRegistry, generate_latest

from contract.api import Health, TargetRequest
from contract.limits import Limits
from enforcer.api.http import Request
from enforcer.api.metrics import ErrorCounter, NodeCollector, TargetCollector
from enforcer.api.pages import make_pages
from enforcer.state import Counters, Target, TargetCounters

HEALTH = Health("0.1.0", 1, "0123abcd", "/sys/fs/cgroup")


def _scrape(bench) -> dict[str, float]:
    registry = CollectorRegistry()
    ErrorCounter(registry)("attach")
    registry.register(
        NodeCollector(bench.reconciler.counters, HEALTH, lambda: {"Enforced": 3}, lambda: {})
    )
    registry.register(TargetCollector(bench.reconciler.counters))
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_every_counter_of_every_direction_is_there(bench):
    """Bits become bytes, nanoseconds seconds, and no two values are mixed up."""
    bench.requests.set_target("/kubepods/pod1", TargetRequest(egress="8M"))
    pod = 'target="cgroup:/kubepods/pod1"'

    values = _scrape(bench)

    assert values["podpace_targets"] == 1
    assert values['podpace_build_info{abi="1",source_hash="0123abcd",version="0.1.0"}'] == 1
    assert values['podpace_errors_total{operation="attach"}'] == 1
    egress = f'{{direction="egress",{pod}}}'
    assert values[f"podpace_limit_bytes_per_second{egress}"] == 1_000_000
    assert {
        name: values[f"podpace_{name}{egress}"]
        for name in (
            "share_bytes_per_second", "active_flows", "passed_bytes_total",
            "passed_packets_total", "dropped_bytes_total", "dropped_packets_total",
            "marked_packets_total", "limited_seconds_total",
        )
    } == {
        "share_bytes_per_second": 21, "active_flows": 22, "passed_bytes_total": 23,
        "passed_packets_total": 24, "dropped_bytes_total": 25, "dropped_packets_total": 26,
        "marked_packets_total": 27, "limited_seconds_total": 2.8,
    }  # fmt: skip


def test_a_direction_without_limit_is_counted_but_has_no_limit(bench):
    """An absent series, not a zero that an alert would take for a limit."""
    bench.requests.set_target("/kubepods/pod1", TargetRequest(egress="8M"))

    values = _scrape(bench)

    ingress = '{direction="ingress",target="cgroup:/kubepods/pod1"}'
    assert f"podpace_limit_bytes_per_second{ingress}" not in values
    assert values[f"podpace_passed_bytes_total{ingress}"] == 13


def test_a_removed_target_has_no_series(bench):
    """Series of dead pods must not pile up."""
    bench.requests.set_target("/kubepods/pod1", TargetRequest(egress="8M"))
    bench.requests.remove_target("/kubepods/pod1")

    assert not [name for name in _scrape(bench) if "target=" in name]


def _counters(passed: int) -> TargetCounters:
    counted = Counters(0, 0, passed, 0, 0, 0, 0, 0, "paced", "")
    return TargetCounters(counted, counted, "")


class _Kernel:
    """One target; ``readings`` are what each look at it finds."""

    target = Target("cgroup:/x", "/x", 7, Limits(None, None))

    def __init__(self, *readings: int | None) -> None:
        self.readings = list(readings)

    def read(self):
        """None: this time it could not be read."""
        passed = self.readings.pop(0)
        return [] if passed is None else [(self.target, _counters(passed))]

    def collector(self) -> NodeCollector:
        """Of this node."""
        return NodeCollector(self.read, HEALTH, dict, lambda: {7})


def _passed(collector: NodeCollector) -> float:
    (family,) = [f for f in collector.collect() if f.name == "podpace_node_passed_bytes"]
    return family.samples[0].value


def test_node_totals_grow_by_what_was_counted_and_no_more():
    """Neither by what was counted before the start, nor by a whole life after a failed reading."""
    collector = _Kernel(1000, 1300, None, 1500, 200).collector()

    assert [_passed(collector) for _ in range(4)] == [300, 300, 500, 700]


def test_two_scrapes_at_once_count_each_byte_once():
    """The one that read earlier must not add later."""
    kernel = _Kernel(0, 1000, 2000)
    collector = kernel.collector()
    begun, may_end, read = threading.Event(), threading.Event(), kernel.read

    def slow():
        found = read()
        begun.set()
        may_end.wait()
        return found

    collector._read = slow
    threads = [threading.Thread(target=_passed, args=(collector,)) for _ in range(2)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join()
    kernel.readings.append(2500)

    assert _passed(collector) == 2500


def test_a_page_is_read_from_the_kernel_once_for_all_who_ask(monkeypatch):
    """Within a second; then again."""
    now = [100.0]
    monkeypatch.setattr("enforcer.api.metrics.time.monotonic", lambda: now[0])
    kernel, registry = _Kernel(0, 1, 2, 3), CollectorRegistry()
    registry.register(kernel.collector())
    answer = make_pages(registry, CollectorRegistry(), lambda: True, lambda: "")

    texts = [answer(Request("GET", "/metrics", b"")).body for _ in range(50)]
    now[0] += 1
    later = answer(Request("GET", "/metrics", b"")).body

    assert len(set(texts)) == 1
    assert later != texts[0]
    assert kernel.readings == [3]


def test_livez_fails_while_a_worker_is_stuck():
    """Whoever is asked for it then starts the daemon anew; readiness is another question."""
    keys = ["", "/kubepods/pod1"]
    nothing = CollectorRegistry()
    answer = make_pages(nothing, nothing, lambda: True, lambda: keys.pop(0))

    responses = [answer(Request("GET", path, b"")) for path in ("/livez", "/livez", "/readyz")]

    assert [response.status for response in responses] == [200, 503, 200]
    assert b"/kubepods/pod1" in responses[1].body
