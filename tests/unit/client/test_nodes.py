"""client.kube.nodes: what is shared on nodes, from two readings of the enforcers' metrics."""

import pytest

from client.kube.nodes import Group, Page, User, make_groups, read_page
from client.kube.output import print_groups
from client.output import format_rate
from contract.names import Direction

EGRESS = Direction.EGRESS
PAGE = """# TYPE podpace_group_total_bytes_per_second gauge
podpace_group_total_bytes_per_second{{group="namespace:shop",direction="egress"}} 12500000.0
# TYPE podpace_group_requested_bytes_per_second gauge
podpace_group_requested_bytes_per_second{{group="node",direction="egress"}} 62500000.0
podpace_group_requested_bytes_per_second{{group="namespace:shop",direction="egress"}} 0.0
# TYPE podpace_group_used_bytes counter
podpace_group_used_bytes_total{{group="node",direction="egress"}} {used}
podpace_group_used_bytes_total{{group="namespace:shop",direction="egress"}} 12000000.0
# TYPE podpace_group_members gauge
podpace_group_members{{group="node",direction="egress"}} 9.0
podpace_group_members{{group="namespace:shop",direction="egress"}} 2.0
# TYPE podpace_group_short_since_timestamp_seconds gauge
podpace_group_short_since_timestamp_seconds{{group="node",direction="egress"}} 0.0
podpace_group_short_since_timestamp_seconds{{group="namespace:shop",direction="egress"}} 1000.0
# TYPE podpace_node_unshared_bytes_per_second gauge
podpace_node_unshared_bytes_per_second{{direction="egress"}} 250000.0
# TYPE podpace_capacity_bytes_per_second gauge
podpace_capacity_bytes_per_second{{direction="egress"}} 125000000.0
# TYPE podpace_capacity_info gauge
podpace_capacity_info{{direction="egress",source="device",detail="eth0"}} 1.0
podpace_capacity_info{{direction="ingress",source="option",detail=""}} 0.0
# TYPE podpace_passed_bytes counter
podpace_passed_bytes_total{{target="pod:shop/web",direction="egress"}} {web}
podpace_passed_bytes_total{{target="pod:shop/db",direction="egress"}} {db}
podpace_passed_bytes_total{{target="pod:shop/db",direction="ingress"}} 900000000.0
podpace_passed_bytes_total{{target="pod:other/web",direction="egress"}} {other}
podpace_passed_bytes_total{{target="cgroup:/x",direction="egress"}} 1.0
"""


def page(web: float = 0.0, db: float = 0.0, other: float = 0.0, used: float = 1e9) -> Page:
    """One enforcer's, with what its pods have sent."""
    return read_page(PAGE.format(web=web, db=db, other=other, used=used))


BOOKING = """# TYPE podpace_booked_bytes_per_second gauge
podpace_booked_bytes_per_second{direction="egress"} 50000000.0
podpace_booked_bytes_per_second{direction="ingress"} 0.0
# TYPE podpace_advertised_bytes_per_second gauge
podpace_advertised_bytes_per_second{direction="egress"} 125000000.0
# TYPE podpace_capacity_info gauge
podpace_capacity_info{direction="ingress",source="unknown",detail="no route"} 1.0
podpace_capacity_info{direction="egress",source="device",detail="eth0"} 1.0
"""


def test_what_the_scheduler_has_and_has_given_is_told_of_nodes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing at all is told apart from nothing booked."""
    pages = {"n1": read_page(BOOKING), "n2": page()}

    groups = make_groups(pages, pages, 1.0)
    print_groups(groups, 0.0)

    told = {
        (g.node, g.group, g.direction.value): (
            g.booked_bits_per_second,
            g.schedulable_bits_per_second,
        )
        for g in groups
    }
    assert told["n1", "node", "egress"] == (4e8, 1e9)
    assert told["n1", "node", "ingress"] == (0.0, None)
    assert told["n2", "node", "egress"] == told["n2", "namespace:shop", "egress"] == (None, None)
    said = " ".join(capsys.readouterr().out.split())
    assert f"{format_rate(4e8)} of {format_rate(1e9)}" in said
    assert f"{format_rate(0.0)} of nothing" in said


@pytest.mark.parametrize(("capacity", "said"), [(1e8, True), (1.25e8, False), (None, False)])
def test_a_capacity_that_is_told_although_it_is_lower_by_now_is_said_of_the_node(
    capacity: float | None, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is held as long as pods have booked more."""
    line = 'podpace_capacity_bytes_per_second{direction="egress"} '
    pages = {"n1": read_page(BOOKING + (f"{line}{capacity}\n" if capacity else ""))}

    print_groups(make_groups(pages, pages, 1.0), 0.0)

    out = " ".join(capsys.readouterr().out.split())
    assert (f"of {format_rate(1e9)}, held until pods end" in out) is said


def test_a_node_and_its_namespaces_are_told_with_those_who_use_most() -> None:
    """The node first; a namespace's are its own pods."""
    before, after = {"n1": page()}, {"n1": page(web=1e6, db=2e6, other=4e6, used=1.2e9)}

    node, shop = make_groups(before, after, 2.0)

    assert node == Group(
        node="n1",
        group="node",
        direction=EGRESS,
        total_bits_per_second=1e9,
        source="device: eth0",
        members=9,
        requested_bits_per_second=5e8,
        used_bits_per_second=8e8,
        unshared_bits_per_second=2e6,
        short_since=None,
        most=(User("other/web", 16e6), User("shop/db", 8e6), User("shop/web", 4e6)),
    )
    assert (shop.group, shop.source, shop.unshared_bits_per_second) == (
        "namespace:shop",
        "policy",
        0,
    )
    assert (shop.total_bits_per_second, shop.short_since) == (1e8, 1000.0)
    assert shop.most == (User("shop/db", 8e6), User("shop/web", 4e6))


def test_a_capacity_that_is_not_known_is_no_number() -> None:
    """It is said where it would come from."""
    text = (
        'podpace_capacity_info{direction="ingress",source="unknown",detail="eth0 tells no speed"} 1'
    )

    (node,) = make_groups({}, {"n1": read_page(text)}, 1.0)

    assert (node.total_bits_per_second, node.source) == (None, "unknown: eth0 tells no speed")


def test_a_pod_that_was_not_there_before_or_began_anew_has_used_nothing() -> None:
    """Its whole life is not two seconds of it."""
    groups = make_groups({"n1": page(web=5e6)}, {"n1": page(web=1.0), "n2": page(web=9e9)}, 2.0)

    assert {user.pod for group in groups for user in group.most} == set()


def test_what_is_counted_at_the_uplink_is_what_uses_the_node() -> None:
    """Traffic that stays on the node does not."""
    uplink = 'podpace_uplink_bytes_total{{target="pod:shop/web",direction="egress"}} {}\n'
    before = read_page(PAGE.format(web=0, db=0, other=0, used=0) + uplink.format(0))
    after = read_page(PAGE.format(web=9e9, db=0, other=0, used=0) + uplink.format(1e6))

    node, _ = make_groups({"n1": before}, {"n1": after}, 1.0)

    assert node.most == (User("shop/web", 8e6),)


def test_rates_are_by_the_clock_of_who_read_the_counters() -> None:
    """Each node has its own; who does not tell it is taken at the time of the answer."""
    at = "podpace_read_timestamp_seconds {}\n"
    before = read_page(PAGE.format(web=0, db=0, other=0, used=0) + at.format(100.0))
    after = read_page(PAGE.format(web=1e6, db=0, other=0, used=1e6) + at.format(104.0))

    told, _ = make_groups({"n1": before}, {"n1": after}, 1.0)
    silent, _ = make_groups({"n1": page()}, {"n1": page(used=1e9 + 1e6)}, 1.0)

    assert (told.used_bits_per_second, told.most[0].bits_per_second) == (2e6, 2e6)
    assert silent.used_bits_per_second == 8e6


def test_a_page_that_is_none_is_refused() -> None:
    """Somebody else listens on the port."""
    with pytest.raises(ValueError, match="html"):
        read_page("<html>no</html>")


def test_the_table_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """For how long something has been short, and who has most of it."""
    print_groups(make_groups({"n1": page()}, {"n1": page(db=2e6, used=1.2e9)}, 2.0), 1012.4)

    _, node, shop = capsys.readouterr().out.splitlines()
    assert "800.00 Mbit/s + 2.00 Mbit/s not shared" in node
    assert "namespace shop" in shop
    assert "12 s" in shop
    assert shop.endswith("shop/db 8.00 Mbit/s")
