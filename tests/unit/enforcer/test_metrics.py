"""enforcer.api.metrics: what a scrape says."""

from prometheus_client import CollectorRegistry, generate_latest

from contract.api import Health, TargetRequest
from enforcer.api.metrics import ErrorCounter, NodeCollector, TargetCollector

HEALTH = Health("0.1.0", 1, "0123abcd", "/sys/fs/cgroup")


def _scrape(bench) -> dict[str, float]:
    registry = CollectorRegistry()
    ErrorCounter(registry)("attach")
    registry.register(NodeCollector(bench.daemon.counters, HEALTH, lambda: {"Enforced": 3}))
    registry.register(TargetCollector(bench.daemon.counters))
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
