"""client.kube.rates: what is read from enforcers' pages, and rates made of two of them."""

from client.errors import ClientError
from client.kube.rates import Enforcers, Sample, make_rows, read_metrics
from contract.names import Direction

M = 10**6
WEB = ("default/web", Direction.EGRESS)
METRICS = """# TYPE podpace_limit_bytes_per_second gauge
podpace_limit_bytes_per_second{{target="pod:default/web",direction="egress"}} 1250000.0
podpace_limit_bytes_per_second{{target="cgroup:/x",direction="egress"}} 5.0
# TYPE podpace_passed_bytes counter
podpace_passed_bytes_total{{target="pod:default/web",direction="egress"}} {passed}
podpace_passed_bytes_total{{target="pod:default/web",direction="ingress"}} 7.0
# TYPE podpace_dropped_packets counter
podpace_dropped_packets_total{{target="pod:default/web",direction="egress"}} {dropped}
# TYPE podpace_limited_seconds counter
podpace_limited_seconds_total{{target="pod:default/web",direction="egress"}} {limited}
# TYPE podpace_active_flows gauge
podpace_active_flows{{target="pod:default/web",direction="egress"}} 3.0
"""


def _sample(at, passed, dropped=0.0, limited=0.0):
    text = METRICS.format(passed=passed, dropped=dropped, limited=limited)
    return Sample(at, read_metrics(text))


def test_rates_are_differences_between_two_scrapes():
    """Series of other targets, and directions without a limit, are left out."""
    before, after = _sample(10.0, 1e6), _sample(12.0, 3e6, dropped=4.0, limited=1.0)

    (row,) = make_rows(before, after, [WEB, ("default/other", Direction.EGRESS)])

    assert (row.target, row.direction) == ("default/web", Direction.EGRESS)
    assert (row.limit_bits_per_second, row.rate_bits_per_second) == (10 * M, 8e6)
    assert (row.active_flows, row.dropped_packets_per_second, row.limited_fraction) == (3, 2, 0.5)


def test_rates_are_by_the_clock_of_who_read_the_counters():
    """A page may be as of a second ago: the time between two answers says nothing."""
    at = "# TYPE podpace_read_timestamp_seconds gauge\npodpace_read_timestamp_seconds {}\n"
    pages = [
        METRICS.format(passed=passed, dropped=0, limited=0) + at.format(read_at)
        for passed, read_at in ((1e6, 100.0), (3e6, 104.0))
    ]

    (row,) = make_rows(*(Sample(10.0 + i, read_metrics(p)) for i, p in enumerate(pages)), [WEB])

    assert row.rate_bits_per_second == 4e6


def test_pods_that_were_not_asked_for_are_left_out():
    """A node's enforcer knows pods of other namespaces too."""
    assert make_rows(_sample(1.0, 0), _sample(2.0, 1), [("other/web", Direction.EGRESS)]) == ()


def test_counters_that_began_anew_give_no_negative_rate():
    """Its cgroup was made again between the scrapes."""
    (row,) = make_rows(_sample(1.0, 5e6, limited=9.0), _sample(2.0, 10.0), [WEB])

    assert (row.rate_bits_per_second, row.limited_fraction) == (0, 0)


class _Cluster:
    """Two nodes' enforcers; the second does not answer."""

    def __init__(self):
        self.asked = []

    def list(self, path, query=None):
        self.asked.append((path, query))
        ports = [{"name": "metrics", "containerPort": 9999}]
        containers = [{"name": "side"}, {"name": "podpace-enforcer", "ports": ports}]
        return [
            {
                "metadata": {"namespace": "rel", "name": f"e-{node}"},
                "spec": {"nodeName": node, "containers": containers},
            }
            for node in ("node-a", "node-b")
        ]

    def text(self, path):
        self.asked.append(path)
        if "e-node-b" in path:
            raise ClientError("HTTP status 503")
        return METRICS.format(passed=1, dropped=0, limited=0)


def test_a_node_that_cannot_be_read_does_not_hide_the_others():
    """It is named, and so is one without an enforcer."""
    cluster = _Cluster()
    nodes = frozenset({"node-a", "node-b", "node-c"})

    sample = Enforcers(cluster, "rel", nodes).sample()

    assert ("default/web", Direction.EGRESS) in sample.values
    assert [p.split(" ")[:4] for p in sample.problems] == [
        ["node", "node-c", "has", "no"],
        ["the", "rates", "of", "node"],
    ]
    assert "node-b" in sample.problems[1]
    assert "/api/v1/namespaces/rel/pods/e-node-a:9999/proxy/metrics/pods" in cluster.asked


def test_one_node_is_asked_for_by_the_api_servers_own_selection():
    """In a cluster of thousands, show reads one enforcer pod."""
    cluster = _Cluster()

    Enforcers(cluster, "rel", frozenset({"node-a"})).sample()

    assert cluster.asked[0][1] == {
        "labelSelector": "app.kubernetes.io/part-of=podpace,app.kubernetes.io/component=enforcer",
        "fieldSelector": "spec.nodeName=node-a",
    }
    assert not any("e-node-b" in str(asked) for asked in cluster.asked)


def test_an_answer_that_is_no_metrics_page_is_a_problem():
    """Somebody else listens on the port."""
    cluster = _Cluster()
    cluster.text = lambda path: "<html>no</html>"

    sample = Enforcers(cluster, "rel", frozenset({"node-a"})).sample()

    assert "cannot be read" in sample.problems[0]
