"""What the scheduler is told that a node's pods can book."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from contract.names import DIRECTIONS, Direction
from enforcer.api.capacity_metrics import CapacityCollector
from enforcer.kube.advertise import ExtendedResources, offered
from enforcer.kube.node_bookings import list_bookings
from enforcer.kube.own_node import OwnNode, read_node
from enforcer.loops import start_loop
from enforcer.state import Capacity, CapacitySource
from kube.errors import ApiError, NotFoundError
from kube.ports import MERGE_PATCH
from tests.fakes import FakeLog

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
G = 10**9


class Cluster:
    """An API server with one Node; spells quantities as the real one does, and tells the daemon."""

    def __init__(self, **capacity):
        self.status = {
            "capacity": {"cpu": "4"} | {f"podpace.io/{k}": v for k, v in capacity.items()}
        }
        self.writes = []
        self.written = threading.Event()
        self.fail = None
        self.tell = None
        self.pods = ()
        self.lists = 0

    def list(self, path, query):
        """Those of the node."""
        assert (path, query["fieldSelector"].split(",")[0]) == ("/api/v1/pods", "spec.nodeName=n1")
        self.lists += 1
        if self.fail is not None:
            raise self.fail
        return list(self.pods)

    def patch(self, path, body, content_type):
        """Merges."""
        if self.fail is not None:
            raise self.fail
        assert (path, content_type) == ("/api/v1/nodes/n1/status", MERGE_PATCH)
        assert set(body) == {"status"}
        assert set(body["status"]) == {"capacity"}
        self.writes.append(body["status"]["capacity"])
        for key, text in body["status"]["capacity"].items():
            if text is None:
                self.status["capacity"].pop(key, None)
            else:
                self.status["capacity"][key] = text
        self.happens()
        self.written.set()

    def happens(self):
        """Any event of the Node: it is told as it is."""
        node = {"metadata": {"name": "n1"}, "status": self.status}
        self.tell(read_node(json.dumps(node).encode()))


def enforcer(cluster, capacity, booked=None, ready=True, pods=()):
    """As the daemon builds it; the Node is known. ``pods``: all that the API server has."""
    cluster.pods = pods
    have = booked if booked is not None else {}
    found = ExtendedResources(
        cluster,
        "n1",
        capacity.get,
        lambda direction: have.get(direction, 0),
        list_booked=lambda: list_bookings(cluster, "n1"),
        ready=lambda: ready,
        log=FakeLog(),
    )
    cluster.tell = found.see
    cluster.happens()
    return found


def test_capacity_is_written_once_and_nothing_else():
    """Both directions at once; what is right is left alone, however often it is looked at."""
    cluster = Cluster()
    node = enforcer(cluster, {EGRESS: 400 * G, INGRESS: 1_500_000})

    node.assert_now()

    assert cluster.writes == [{"podpace.io/ingress": "1500k", "podpace.io/egress": "400G"}]
    for _ in range(1000):
        cluster.happens()
        assert not node.assert_now()
    assert len(cluster.writes) == 1


@pytest.mark.parametrize("spelt", ["400G", "400e9", "4e11", "400000000000", "+400G", "0.4T"])
def test_the_same_number_in_another_spelling_is_left_alone(spelt):
    """The API server canonicalises some and keeps others."""
    cluster = Cluster(egress=spelt)

    assert not enforcer(cluster, {EGRESS: 400 * G}).assert_now()


@pytest.mark.parametrize("found", [None, "0", "1G", "500", "x"])
def test_what_a_new_node_a_reset_or_a_change_of_machines_left_is_put_right(found):
    """A Node made anew has no key, a kubelet may zero it, a fresh disk keeps a stale one."""
    cluster = Cluster(**({} if found is None else {"egress": found}))

    enforcer(cluster, {EGRESS: 2 * G}).assert_now()

    assert cluster.status["capacity"] == {"cpu": "4", "podpace.io/egress": "2G"}


def test_it_is_put_right_as_soon_as_the_node_says_something_else():
    """The loop waits for the Node's events, not for the next look."""
    cluster = Cluster()
    node = enforcer(cluster, {EGRESS: G})
    node.assert_now()
    stopping, log = threading.Event(), FakeLog()
    start_loop("advertise", node.step, stopping, log, lambda _: None)

    cluster.written.clear()
    cluster.status = {"capacity": {}}
    cluster.happens()
    cluster.written.wait()
    stopping.set()
    cluster.happens()

    assert cluster.status["capacity"] == {"podpace.io/egress": "1G"}


def test_capacity_is_never_lowered_below_what_is_booked():
    """Or the kubelet's next restart ends pods. As they go it follows."""
    cluster, booked = Cluster(egress="10G"), {EGRESS: 6 * G}
    node = enforcer(cluster, {EGRESS: 5 * G}, booked)

    node.assert_now()
    assert cluster.status["capacity"]["podpace.io/egress"] == "6G"
    booked[EGRESS] = 2 * G
    node.assert_now()
    assert cluster.status["capacity"]["podpace.io/egress"] == "5G"


def books(*containers, init=(), **spec):
    """A pod of the API server's, without a label of ours."""

    def container(amount, **more):
        return {"name": "x", "resources": {"requests": {"podpace.io/egress": amount}}} | more

    made = {"containers": [container(amount) for amount in containers]}
    made["initContainers"] = [container(amount, restartPolicy="Always") for amount in init]
    return {"metadata": {"name": "x"}, "spec": made | spec}


def test_capacity_is_never_lowered_below_what_pods_without_our_label_have_booked():
    """A kubelet counts pods that the webhook never saw: of namespaces that are left out, static
    ones; with their sidecars, and what their RuntimeClass adds."""
    pods = [books("1G", "2G"), books("500M", init=("1G",), overhead={"podpace.io/egress": "100M"})]
    pods.append({"metadata": {"name": "of-no-business"}, "spec": {"containers": [{"name": "x"}]}})
    cluster, capacity = Cluster(egress="10G"), {EGRESS: 3 * G}
    node = enforcer(cluster, capacity, {EGRESS: G}, pods=pods)

    node.assert_now()
    node.assert_now()
    assert cluster.status["capacity"]["podpace.io/egress"] == "4600M"
    assert node._log.events.count("capacity held back") == 1
    cluster.pods = pods[1:]
    node.assert_now()

    assert cluster.status["capacity"]["podpace.io/egress"] == "3G"


def test_pods_are_asked_for_only_while_a_capacity_is_to_be_lowered():
    """Nobody lists for nothing; and what nobody can tell lowers nothing."""
    cluster, capacity = Cluster(egress="10G"), {EGRESS: 10 * G}
    node = enforcer(cluster, capacity)
    for _ in range(100):
        node.assert_now()
    assert cluster.lists == 0

    capacity[EGRESS], cluster.fail = G, ApiError("Forbidden", 403)
    with pytest.raises(ApiError):
        node.assert_now()

    assert cluster.lists == 1
    assert cluster.status["capacity"]["podpace.io/egress"] == "10G"


def test_capacity_that_is_not_known_any_more_is_taken_off_and_never_zero():
    """An absent key keeps new pods away, and ends none."""
    cluster, capacity = Cluster(), {EGRESS: G, INGRESS: G}
    node = enforcer(cluster, capacity, {EGRESS: G})
    node.assert_now()

    del capacity[EGRESS]
    node.assert_now()

    assert cluster.status["capacity"] == {"cpu": "4", "podpace.io/ingress": "1G"}
    assert node.advertised(EGRESS) is None


def test_before_pods_and_device_are_known_nothing_is_written():
    """A restart must not take off what an earlier daemon said."""
    cluster = Cluster(egress="10G")

    assert not enforcer(cluster, {}, ready=False).assert_now()
    assert cluster.writes == []


def test_without_its_node_it_waits_for_one():
    """A kubelet whose Node was deleted does not register again before it is restarted."""
    cluster = Cluster()
    node = enforcer(cluster, {EGRESS: G})
    node.assert_now()

    node.see(None)
    cluster.status = {"capacity": {}}
    assert not node.assert_now()
    cluster.happens()
    node.assert_now()

    assert cluster.status["capacity"] == {"podpace.io/egress": "1G"}


def test_a_write_that_fails_is_tried_again():
    """The loop around it waits; nothing is taken for written."""
    cluster = Cluster()
    node = enforcer(cluster, {EGRESS: G})
    cluster.fail = NotFoundError("no such node")
    with pytest.raises(ApiError):
        node.assert_now()

    cluster.fail = None
    node.assert_now()

    assert cluster.status["capacity"]["podpace.io/egress"] == "1G"


def test_who_goes_for_good_takes_the_keys_off():
    """And whoever may not any more says so and goes all the same."""
    cluster = Cluster(egress="10G", ingress="0")
    node = enforcer(cluster, {EGRESS: 10 * G})

    node.withdraw()
    assert cluster.status["capacity"] == {"cpu": "4"}
    cluster.status["capacity"]["podpace.io/egress"] = "1G"
    cluster.happens()
    cluster.fail = ApiError("Forbidden", 403)
    node.withdraw()


_bits = st.one_of(st.none(), st.integers(0, 10**15))


@given(_bits, st.integers(0, 10**15), st.one_of(st.none(), st.integers(1000, 10**15)))
def test_what_is_offered_is_the_capacity_or_what_keeps_pods_running(capacity, booked, present):
    """Never 0, never raised beyond the capacity, never lowered below what is booked."""
    found = offered(
        dict.fromkeys(DIRECTIONS, capacity),
        dict.fromkeys(DIRECTIONS, booked),
        dict.fromkeys(DIRECTIONS, present),
    )[EGRESS]

    if capacity is None or capacity < 1000:
        assert found is None
        return
    assert found >= capacity
    assert found == capacity or (present is not None and capacity < found <= present)
    assert present is None or found >= min(present, booked)


def test_a_thousand_nodes_write_once_each_and_then_never():
    """Two simulated hours: each looks every ten seconds, its kubelet reports every five minutes,
    pods book and leave, and once the enforcer is started anew. At most one write per node and hour
    is allowed; nobody lists pods."""
    looks_per_hour, looks_per_report = 360, 30
    writes = {"first": 0, "second": 0}
    for number in range(1000):
        cluster, booked = Cluster(), {EGRESS: 0}
        node = enforcer(cluster, {EGRESS: 10 * G, INGRESS: 10 * G}, booked)
        for hour in writes:
            before = len(cluster.writes)
            for look in range(looks_per_hour):
                booked[EGRESS] = (number + look) % 10 * G
                if look % looks_per_report == 0:
                    cluster.happens()
                node.assert_now()
            writes[hour] += len(cluster.writes) - before
            node = enforcer(cluster, {EGRESS: 10 * G, INGRESS: 10 * G}, booked)
        assert cluster.lists == 0

    assert writes == {"first": 1000, "second": 0}


def test_a_lower_capacity_is_written_no_oftener_than_pods_leave():
    """The node that is changed is the exception: one write for each pod less, an hour's worth of
    looks for each."""
    cluster, capacity = Cluster(), {EGRESS: 10 * G}
    pods = [books("1G") for _ in range(9)]
    node = enforcer(cluster, capacity, pods=pods)
    node.assert_now()
    capacity[EGRESS] = 5 * G
    for left in range(9, 4, -1):
        cluster.pods = pods[:left]
        for _ in range(360):
            node.assert_now()

    said = [write["podpace.io/egress"] for write in cluster.writes]

    assert said == ["10G", "9G", "8G", "7G", "6G", "5G"]


def test_metrics_tell_what_is_advertised_and_booked():
    """Nothing where nothing is."""
    cluster = Cluster(egress="8G")
    node = enforcer(cluster, {EGRESS: 8 * G}, {EGRESS: 4 * G})
    registry = CollectorRegistry()
    registry.register(CapacityCollector(lambda _: Capacity(None, CapacitySource.UNKNOWN, ""), node))

    text = generate_latest(registry).decode()

    assert 'podpace_advertised_bytes_per_second{direction="egress"} 1e+09' in text
    assert 'podpace_advertised_bytes_per_second{direction="ingress"}' not in text
    assert 'podpace_booked_bytes_per_second{direction="egress"} 5e+08' in text
    assert 'podpace_booked_bytes_per_second{direction="ingress"} 0.0' in text


def test_of_a_node_that_says_nothing_nothing_is_read():
    """A Node that has just registered."""
    assert read_node(b'{"metadata": {}, "status": {}}') == OwnNode({}, dict.fromkeys(DIRECTIONS))
