"""enforcer.pod_loop with a fake kernel: pods and cgroups in any order, failures, restarts."""

from pathlib import Path

import pytest

from contract.api import TargetRequest
from contract.names import EventReason, Reason
from enforcer.errors import DatapathError, RefusedError
from enforcer.news_queue import NewsQueue
from enforcer.pod_loop import PodLoop
from enforcer.pods.news import (
    CgroupAppeared,
    CgroupVanished,
    Looked,
    PodChanged,
    PodGone,
    PodsListed,
    Resynced,
)
from enforcer.state import Link
from enforcer.unsupported import UnsupportedDatapath
from tests.unit.enforcer.pod_json import UID, condition_json, labels, make_pod

ONE = labels("1000000")
FIVE = labels("5000000")


class FakeReporter:
    """Keeps what should be written."""

    def __init__(self):
        self.conditions = {}
        self.wanted = []
        self.events = []
        self.forgotten = []

    def want(self, pod, condition):
        """By the pod's name."""
        self.conditions[pod.name] = condition
        self.wanted.append(pod.name)

    def event(self, pod, reason, text):
        """In order."""
        self.events.append((pod.name, reason, text))

    def forget(self, pod):
        """In order."""
        self.forgotten.append(pod.name)


class Node:
    """A pod loop, the daemon below it and a cgroup tree."""

    def __init__(self, bench):
        self.bench = bench
        bench.follows_pods = True
        bench.restart()
        bench.daemon.adopt()
        self.start(())

    def start(self, adopted):
        """A loop that knows what the daemon knows."""
        self.reporter = FakeReporter()
        self.loop = PodLoop(
            self.bench.daemon, self.reporter, NewsQueue(), self.bench.tree, self.bench.log
        )
        self.loop.adopt(adopted)

    def restart(self):
        """The daemon and its loop."""
        self.bench.restart()
        self.start(self.bench.daemon.adopt())

    def cgroup(self, number=1, folder="kubepods"):
        """Make it and tell."""
        path = self.bench.tree / folder / f"pod{UID.format(number)}"
        path.mkdir(parents=True)
        self.loop.take(CgroupAppeared(UID.format(number), str(path)))
        return path

    def vanish(self, path, number=1):
        """Remove it and tell."""
        path.rmdir()
        self.loop.take(CgroupVanished(UID.format(number), str(path)))

    def tend(self, ticks=1):
        """So many tenths of a second pass; the loop hears of what was found."""
        for _ in range(ticks):
            self.bench.daemon.tend()
            while self.bench.looked:
                self.loop.take(Looked(self.bench.looked.pop(0)))

    def egress(self, path):
        """The limit in the kernel."""
        target = self.bench.datapath.attached.get(str(path))
        return None if target is None else target.limits.egress.bits_per_second


@pytest.fixture
def node(bench):
    """A node without pods."""
    return Node(bench)


def test_a_pod_known_before_its_cgroup_is_limited_when_that_appears(node):
    """Before its containers start; nothing is written before."""
    node.loop.take(PodsListed((make_pod(labels=FIVE),)))
    before = list(node.reporter.wanted)

    path = node.cgroup()

    assert before == []
    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.ENFORCED


def test_a_cgroup_that_appears_first_is_limited_when_its_pod_is_known(node):
    """The watch was slower than the kubelet."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=FIVE)))

    assert node.egress(path) == 5_000_000


def test_a_changed_label_changes_the_limit_live(node):
    """Without a detach; an Event tells, and the condition follows."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=FIVE)))
    node.loop.take(PodChanged(make_pod(labels=ONE)))

    assert node.egress(path) == 1_000_000
    assert "detach" not in node.bench.datapath.calls
    assert node.reporter.events == [
        ("p1", EventReason.CHANGED, "now egress 1 Mbit/s; was egress 5 Mbit/s")
    ]
    assert "egress 1 Mbit/s" in node.reporter.conditions["p1"].message


def test_a_pod_whose_status_changes_costs_no_kernel_call(node):
    """Kubelets write statuses all the time."""
    node.cgroup()
    node.loop.take(PodChanged(make_pod(phase="Pending")))
    node.bench.datapath.calls.clear()

    node.loop.take(PodChanged(make_pod(phase="Running")))

    assert node.bench.datapath.calls == []


def test_a_pod_that_asks_for_no_limit_any_more_is_released(node):
    """Its condition goes; with a readiness gate it stays True, or the pod would be unready."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(gated=True)))
    node.loop.take(PodGone(make_pod(gated=True)))

    assert node.egress(path) is None
    assert node.reporter.conditions["p1"].status == "True"
    assert node.bench.state_files == []


def test_a_deleted_pods_processes_stay_limited_to_their_end(node):
    """The API server may forget it first; then nothing is left."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.loop.take(PodGone(make_pod(deleted=True)))
    during = node.egress(path)
    node.vanish(path)

    assert during == 5_000_000
    assert node.bench.daemon.targets() == ()
    assert node.bench.state_files == []
    assert node.loop._entries == {}
    assert node.loop._paths == {}


def test_a_pod_that_vanished_during_a_gap_in_the_watch_is_released(node):
    """The next list does not have it."""
    path = node.cgroup()
    shown = make_pod(conditions=condition_json("True", "Enforced", "egress 5 Mbit/s (paced)"))
    node.loop.take(PodsListed((shown,)))
    node.loop.take(PodsListed(()))

    assert node.egress(path) is None
    assert node.reporter.conditions["p1"] is None


def test_a_cgroup_made_anew_is_limited_again(node):
    """The kubelet does that after a restart of the machine's runtime; no API server is needed."""
    first = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.vanish(first)
    second = node.cgroup()

    assert node.egress(second) == 5_000_000
    assert [t.cgroup_path for t in node.bench.daemon.targets()] == [str(second)]


def test_a_static_pod_is_found_by_its_configurations_hash(node):
    """Its mirror pod may be deleted and made anew without a gap."""
    digest = "0123456789abcdef0123456789abcdef"
    mirror = {"kubernetes.io/config.mirror": digest}
    path = node.bench.tree / f"kubepods/pod{digest}"
    path.mkdir()
    node.loop.take(CgroupAppeared(digest, str(path)))
    old = make_pod(annotations=mirror)
    node.loop.take(PodChanged(old))
    node.loop.take(PodChanged(make_pod(annotations=mirror, uid=UID.format(2))))
    node.loop.take(PodGone(old))

    assert node.egress(path) == 5_000_000


def test_a_restart_without_an_api_server_adopts_and_follows_cgroups(node):
    """Also a pod whose cgroup is made anew meanwhile."""
    first = node.cgroup()
    node.loop.take(PodsListed((make_pod(),)))
    node.restart()
    node.loop.take(CgroupAppeared(UID.format(1), str(first)))
    adopted = node.egress(first)
    node.vanish(first)
    second = node.cgroup()
    node.loop.take(Resynced())

    assert adopted == 5_000_000
    assert node.egress(second) == 5_000_000
    assert node.reporter.wanted == []


def test_a_cgroup_made_anew_while_nothing_ran_is_limited_again(node):
    """Neither the daemon nor the API server; the state folder knows the pod by its cgroup."""
    first = node.cgroup()
    node.loop.take(PodsListed((make_pod(),)))
    first.rmdir()
    node.restart()
    second = node.cgroup()

    assert node.egress(second) == 5_000_000


def test_a_fault_of_ours_on_one_pod_does_not_hold_up_the_others(node, monkeypatch):
    """It is told, and the next piece of news is taken."""
    monkeypatch.setattr(node.bench.daemon, "hold", None)
    path = node.cgroup()
    node.loop._news.put(PodChanged(make_pod()))
    node.loop.step()
    monkeypatch.undo()
    node.loop._news.put(Resynced())
    node.loop.step()

    assert node.bench.log.lines[0][:2] == ("error", "fault")
    assert node.egress(path) == 5_000_000


def test_what_was_adopted_is_pruned_only_after_a_list(node):
    """An API server that is down must not lift limits."""
    path = node.cgroup()
    node.loop.take(PodsListed((make_pod(),)))
    node.restart()
    node.loop.take(CgroupAppeared(UID.format(1), str(path)))
    node.loop.take(Resynced())
    before = node.egress(path)
    node.loop.take(PodsListed(()))

    assert before == 5_000_000
    assert node.egress(path) is None
    assert node.reporter.conditions["p1"].message == "no limit is asked for"


def test_a_limit_that_cannot_be_taken_off_is_tried_again(node):
    """Until it is; meanwhile nothing else is written on the pod."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.bench.datapath.fail["detach"] = "EBUSY"
    node.loop.take(PodGone(make_pod()))
    node.reporter.wanted.clear()
    node.loop.take(Resynced())
    still = node.egress(path)
    del node.bench.datapath.fail["detach"]
    node.loop.take(Resynced())

    assert still == 5_000_000
    assert node.egress(path) is None
    assert node.reporter.wanted == []
    assert node.loop._entries == {}


def test_a_refused_limit_is_told_and_tried_again(node):
    """With each resync; the Event says what the kernel said."""
    node.bench.datapath.fail["attach"] = "ENOMEM; free memory"
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    failed = node.reporter.conditions["p1"]
    node.loop.take(Resynced())
    del node.bench.datapath.fail["attach"]
    node.loop.take(Resynced())

    assert (failed.status, failed.reason) == ("False", Reason.FAILED)
    assert "ENOMEM; free memory" in failed.message
    assert node.reporter.events == [("p1", EventReason.DENIED, "ENOMEM; free memory")]
    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].status == "True"


def test_a_refused_change_keeps_the_limit_before(node):
    """And the condition says both."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=FIVE)))
    node.bench.datapath.fail["set_limits"] = "ENOMEM"
    node.loop.take(PodChanged(make_pod(labels=ONE)))

    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.PARTLY_ENFORCED
    assert "still in force: egress 5 Mbit/s" in node.reporter.conditions["p1"].message


def test_a_label_that_cannot_be_read_lifts_no_limit(node):
    """The one before stays; an Event tells once."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=FIVE)))
    for _ in range(3):
        node.loop.take(PodChanged(make_pod(labels=labels("5M"))))

    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.PARTLY_ENFORCED
    assert [reason for _, reason, _ in node.reporter.events] == [EventReason.FAILED]


def test_drift_is_repaired_and_told(node):
    """Somebody took our programs off."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.bench.datapath.attached.clear()

    node.loop.take(Resynced(node.bench.daemon.resync()))

    assert node.egress(path) == 5_000_000
    assert [reason for _, reason, _ in node.reporter.events] == [EventReason.RESTORED]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": labels(mode="observe")}, "now egress 5 Mbit/s, only observed; was egress 5"),
        (
            {"annotations": {"podpace.io/exempt-cidrs": "10.0.0.0/8"}},
            "now egress 5 Mbit/s, without 10.0.0.0/8; was egress 5",
        ),
        ({"labels": {"podpace.io/limited": "true"}}, "now no limit; was egress 5"),
    ],
)
def test_every_kind_of_change_is_told(node, changes, text):
    """Not only other rates."""
    node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.loop.take(PodChanged(make_pod(**changes)))

    assert node.reporter.events[0][2].startswith(text)


def test_nothing_is_told_when_nothing_drifted(node):
    """Ten-second ticks write no Events and repair nothing."""
    node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.bench.log.lines.clear()
    for _ in range(5):
        node.loop.take(Resynced(node.bench.daemon.resync()))

    assert node.reporter.events == []
    assert node.bench.log.events == []


def test_a_pod_that_ended_holds_nothing_and_is_told_nothing(node):
    """Its status is final."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.reporter.wanted.clear()
    node.loop.take(PodChanged(make_pod(phase="Succeeded")))
    node.loop.take(PodGone(make_pod(phase="Succeeded")))

    assert node.egress(path) is None
    assert node.reporter.wanted == []
    assert node.reporter.events == []


def test_a_condition_waits_for_the_pods_interface(node):
    """Policed at first, paced a moment later: that is one write, not two."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    at_once = list(node.reporter.wanted)
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend()
    early = list(node.reporter.wanted)
    node.bench.network.links[str(path)] = (Link(7, "veth7"),)
    node.tend(10)

    assert (at_once, early, node.reporter.wanted) == ([], [], ["p1"])
    assert "ingress 10 Mbit/s (paced" in node.reporter.conditions["p1"].message


def test_a_condition_tells_what_will_not_get_better(node):
    """A pod without an interface on the host is looked at for seconds, then told as it is."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend(30)
    early = list(node.reporter.wanted)
    node.tend(10)

    assert (early, node.reporter.wanted) == ([], ["p1"])
    assert "ingress 10 Mbit/s (policed" in node.reporter.conditions["p1"].message


def test_a_condition_follows_an_interface_that_goes(node):
    """Paced, then somebody took the interface away: told when it is seen, not later."""
    path = node.cgroup()
    node.bench.network.links[str(path)] = (Link(7, "veth7"),)
    node.loop.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    before = node.reporter.conditions["p1"].message
    node.bench.network.links.clear()
    node.bench.daemon.refresh(node.bench.daemon.targets()[0], "link change")
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend(40)

    assert "ingress 10 Mbit/s (paced" in before
    assert "policed" in node.reporter.conditions["p1"].message


def test_a_condition_does_not_wait_for_ever(node, monkeypatch):
    """A pod without a process, or whose first process inotify did not tell of."""
    node.cgroup()
    node.loop.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    monkeypatch.setattr("enforcer.pod_loop.PENDING_SECONDS", -1.0)
    node.loop.take(Resynced())

    assert node.reporter.wanted == ["p1"]


def test_a_running_pod_without_a_cgroup_is_pending_only_when_that_lasts(node, monkeypatch):
    """Every pod is without one for a moment."""
    node.loop.take(PodChanged(make_pod()))
    early = list(node.reporter.wanted)
    monkeypatch.setattr("enforcer.pod_loop.PENDING_SECONDS", -1.0)
    node.loop.take(Resynced())

    assert early == []
    assert node.reporter.conditions["p1"].reason == Reason.PENDING
    assert str(node.bench.tree) in node.reporter.conditions["p1"].message


def test_a_node_that_cannot_limit_says_so_on_each_pod(node):
    """Unsupported, with what to do."""
    node.bench.datapath = UnsupportedDatapath("no bpffs; mount it")
    node.restart()
    node.cgroup()
    node.loop.take(PodChanged(make_pod()))

    assert node.reporter.conditions["p1"].reason == Reason.UNSUPPORTED
    assert node.loop.counts()["Unsupported"] == 1


def test_a_request_leaves_a_limited_pod_alone(node):
    """Its labels say what holds: two sources would undo each other."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))

    for call in (
        lambda: node.bench.requests.set_target(str(path), TargetRequest(egress="1M")),
        lambda: node.bench.requests.remove_target("pod:shop/p1"),
    ):
        with pytest.raises(RefusedError, match="limited by the labels of pod:shop/p1") as refusal:
            call()
        assert refusal.value.status == 409
    assert node.egress(path) == 5_000_000


def test_a_pods_labels_overrule_an_earlier_request(node):
    """And when they go, nothing is limited: the request is not brought back."""
    path = node.cgroup()
    node.bench.requests.set_target(str(path), TargetRequest(egress="9M"))
    node.loop.take(PodChanged(make_pod()))
    overruled = node.egress(path)
    node.loop.take(PodGone(make_pod()))

    assert overruled == 5_000_000
    assert node.egress(path) is None
    assert "overruled" in node.bench.log.events


def test_a_limited_pod_is_shown_by_its_name(node):
    """And an unlimited one is refused with what to do."""
    node.cgroup()
    node.loop.take(PodChanged(make_pod()))

    assert node.bench.requests.show_target("pod:shop/p1")[0].name == "pod:shop/p1"
    with pytest.raises(RefusedError, match="kubectl annotate"):
        node.bench.requests.show_target("pod:shop/other")


def test_five_thousand_pods_leave_nothing(node):
    """Neither in the kernel, nor on disk, nor in memory."""
    for i in range(5000):
        uid = f"11111111-2222-3333-4444-{i:012d}"
        path = node.bench.tree / f"kubepods/pod{uid}"
        node.loop.take(PodChanged(make_pod(uid=uid)))
        path.mkdir()
        node.loop.take(CgroupAppeared(uid, str(path)))
        node.loop.take(PodGone(make_pod(uid=uid, deleted=bool(i % 2))))
        path.rmdir()
        node.loop.take(CgroupVanished(uid, str(path)))

    assert node.loop._entries == {}
    assert node.loop._paths == {}
    holder = node.bench.holder
    assert holder._ways == holder.relook._pauses == holder.relook._due_at == {}
    assert holder._bypass._seen == holder._bypass._found == node.bench.complaints._told == {}
    assert node.bench.daemon.targets() == ()
    assert node.bench.state_files == []
    assert node.bench.datapath.calls.count("detach") == 2500
    assert node.bench.datapath.calls.count("forget") == 2500


def test_a_cgroup_that_vanishes_while_it_is_limited_is_no_failure(node, monkeypatch):
    """Short-lived pods do that all the time; nobody need read about it."""

    def attach(target):
        Path(target.cgroup_path).rmdir()
        raise DatapathError("ENOENT")

    monkeypatch.setattr(node.bench.datapath, "attach", attach)
    node.loop.take(PodChanged(make_pod()))
    path = node.cgroup()

    assert not path.exists()
    assert node.reporter.events == []
    assert node.reporter.conditions == {}
    assert node.bench.errors == []
    assert node.bench.state_files == []


def test_a_cgroup_that_vanishes_during_a_resync_is_no_failure(node, monkeypatch):
    """The same, between looking and repairing."""
    path = node.cgroup()
    node.loop.take(PodChanged(make_pod()))
    node.bench.datapath.attached.clear()

    def attach(target):
        path.rmdir()
        raise DatapathError("ENOENT")

    monkeypatch.setattr(node.bench.datapath, "attach", attach)

    assert node.bench.daemon.resync() == frozenset()
    assert node.bench.errors == []
