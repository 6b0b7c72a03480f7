"""enforcer.api.group_metrics: what a scrape says of groups."""

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest

from contract.limits import Limits, Sharing, make_limit
from contract.names import Direction
from enforcer.api.capacity_metrics import CapacityCollector
from enforcer.api.group_metrics import GroupCollector, GroupUse
from enforcer.sharing.groups import groups_of
from enforcer.sharing.pool import Pool
from enforcer.state import Capacity, CapacitySource, Counters, Target, TargetCounters

SECOND = 10**9


def member(number: int, request: int = 0) -> Target:
    """Of namespace shop, whose total is 80 Mbit/s; the request is bits per second."""
    sharing = Sharing(request, 80_000_000)
    limits = Limits(egress=make_limit(40_000_000), egress_sharing=sharing, group="namespace:shop")
    return Target(f"pod:shop/p{number}", f"/cg/{number}", number, limits)


def passed(egress: int) -> TargetCounters:
    """What has been sent, in bytes."""

    def one(count: int) -> Counters:
        return Counters(0, 0, count, 0, 0, 0, 0, 0, "paced", "")

    return TargetCounters(one(0), one(egress), "")


def scrape(collector: GroupCollector) -> dict[str, float]:
    """By series."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    labels = '{direction="egress",group="namespace:shop"}'
    return {name.removesuffix(labels): float(value) for name, value in pairs if labels in name}


def test_a_group_is_told_with_what_it_has_and_uses() -> None:
    """Total, what is guaranteed of it, how many share it, since when it is short."""
    targets = (member(1, 8_000_000), member(2, 16_000_000))
    [group] = groups_of(targets).values()
    pool = Pool(group, {1: 5_000_000, 2: 5_000_000}, short_since_ns=30 * SECOND)
    counted = {1: passed(1000), 2: passed(500)}
    collector = GroupCollector(
        lambda: [pool],
        lambda: [(target, counted[target.cgroup_id]) for target in targets],
        monotonic_ns=lambda: 42 * SECOND,
        unix_seconds=lambda: 1_000_000.2,
    )

    scrape(collector)
    counted |= {1: passed(1700), 2: passed(800)}
    told = scrape(collector)

    assert {name: value for name, value in told.items() if not name.endswith("_created")} == {
        "podpace_group_total_bytes_per_second": 10_000_000,
        "podpace_group_requested_bytes_per_second": 3_000_000,
        "podpace_group_members": 2,
        "podpace_group_short_since_timestamp_seconds": 999_988,
        "podpace_group_used_bytes_total": 1000,
    }
    pool.short_since_ns = 0
    assert scrape(collector)["podpace_group_short_since_timestamp_seconds"] == 0


def test_nothing_is_read_while_nobody_shares() -> None:
    """A scrape costs what it did."""
    read: list[int] = []

    assert scrape(GroupCollector(list, lambda: read.append(1) or [])) == {}
    assert read == []


def test_what_a_group_used_never_goes_down() -> None:
    """Members come, go, and begin anew; who is new does not bring his whole life along."""
    use = GroupUse()
    steps = [
        ({1: 100}, 0),
        ({1: 150, 2: 9000}, 50),
        ({1: 20, 2: 9001}, 71),
        ({2: 9002}, 72),
        ({1: 500, 2: 9002}, 72),
    ]

    for counters, total in steps:
        use.add([(member(number), passed(count)) for number, count in counters.items()])
        assert use.bytes("namespace:shop", Direction.EGRESS) == total


def test_what_left_the_node_is_counted_for_its_link() -> None:
    """Of everyone, in a group or not; what stayed is not."""
    use, alone = GroupUse(), Target("pod:a/b", "/cg/9", 9, Limits(egress=make_limit(1_000_000)))
    for sent, local in ((1000, 0), (5000, 1500)):
        counters = passed(sent)
        egress = replace(counters.egress, local_bytes=local)
        use.add([(alone, replace(counters, egress=egress))])

    assert use.bytes("node", Direction.EGRESS) == 2500


def test_a_capacity_is_told_with_where_it_is_from() -> None:
    """No number where nothing is known, and why."""
    known = Capacity(125_000_000, CapacitySource.DEVICE, "eth0")
    unknown = Capacity(None, CapacitySource.UNKNOWN, "no route")
    registry = CollectorRegistry()
    registry.register(CapacityCollector(lambda d: known if d is Direction.EGRESS else unknown))

    lines = [x for x in generate_latest(registry).decode().splitlines() if x[0] != "#"]

    assert lines == [
        'podpace_capacity_bytes_per_second{direction="egress"} 1.25e+08',
        'podpace_capacity_info{detail="no route",direction="ingress",source="unknown"} 1.0',
        'podpace_capacity_info{detail="eth0",direction="egress",source="device"} 1.0',
    ]
