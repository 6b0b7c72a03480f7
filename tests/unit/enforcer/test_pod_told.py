"""enforcer.pods.pod_loop with a fake kernel: what pods are told, by condition and Event."""

from pathlib import Path

import pytest

from contract.names import EventReason, Reason
from enforcer.errors import DatapathError
from enforcer.pods.news import (
    PodChanged,
    PodGone,
)
from enforcer.state import Link
from enforcer.unsupported import UnsupportedDatapath
from tests.unit.enforcer.pod_json import labels, make_pod
from tests.unit.enforcer.pod_node import FIVE, ONE


def test_a_refused_limit_is_told_and_tried_again(node):
    """With each resync; the Event says what the kernel said."""
    node.bench.datapath.fail["attach"] = "ENOMEM; free memory"
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    failed = node.reporter.conditions["p1"]
    node.resync()
    del node.bench.datapath.fail["attach"]
    node.resync()

    assert (failed.status, failed.reason) == ("False", Reason.FAILED)
    assert "ENOMEM; free memory" in failed.message
    assert node.reporter.events == [("p1", EventReason.DENIED, "ENOMEM; free memory")]
    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].status == "True"


def test_a_refused_change_keeps_the_limit_before(node):
    """And the condition says both."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(labels=FIVE)))
    node.bench.datapath.fail["write"] = "ENOMEM"
    node.take(PodChanged(make_pod(labels=ONE)))

    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.PARTLY_ENFORCED
    assert "still in force: egress 5 Mbit/s" in node.reporter.conditions["p1"].message


def test_a_label_that_cannot_be_read_lifts_no_limit(node):
    """The one before stays; an Event tells once."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(labels=FIVE)))
    for _ in range(3):
        node.take(PodChanged(make_pod(labels=labels("5M"))))

    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.PARTLY_ENFORCED
    assert [reason for _, reason, _ in node.reporter.events] == [EventReason.FAILED]


def test_drift_is_repaired_and_told(node):
    """Somebody took our programs off."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.bench.datapath.attached.clear()

    node.resync()

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
    node.take(PodChanged(make_pod()))
    node.take(PodChanged(make_pod(**changes)))

    assert node.reporter.events[0][2].startswith(text)


def test_nothing_is_told_when_nothing_drifted(node):
    """Ten-second ticks write no Events and repair nothing."""
    node.cgroup()
    node.take(PodChanged(make_pod()))
    node.bench.log.lines.clear()
    for _ in range(5):
        node.resync()

    assert node.reporter.events == []
    assert node.bench.log.events == []


def test_a_pod_that_ended_holds_nothing_and_is_told_nothing(node):
    """Its status is final."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.reporter.wanted.clear()
    node.take(PodChanged(make_pod(phase="Succeeded")))
    node.take(PodGone(make_pod(phase="Succeeded")))

    assert node.egress(path) is None
    assert node.reporter.wanted == []
    assert node.reporter.events == []


def test_a_condition_waits_for_the_pods_interface(node):
    """Policed at first, shaped a moment later: that is one write, not two."""
    path = node.cgroup()
    (path / "cgroup.events").write_text("populated 0\n")
    node.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    at_once = list(node.reporter.wanted)
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend()
    early = list(node.reporter.wanted)
    node.bench.network.links[str(path)] = (Link(7, "veth7"),)
    node.tend(10)

    assert (at_once, early, node.reporter.wanted) == ([], [], ["p1"])
    assert "ingress 10 Mbit/s (shaped on veth" in node.reporter.conditions["p1"].message


def test_a_condition_tells_what_will_not_get_better(node):
    """A pod without an interface on the host is looked at for seconds, then told as it is."""
    path = node.cgroup()
    (path / "cgroup.events").write_text("populated 0\n")
    node.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend(30)
    early = list(node.reporter.wanted)
    node.tend(10)

    assert (early, node.reporter.wanted) == ([], ["p1"])
    assert "ingress 10 Mbit/s (policed" in node.reporter.conditions["p1"].message


def test_a_condition_follows_an_interface_that_goes(node):
    """Shaped, then somebody took the interface away: told when it is seen, not later."""
    path = node.cgroup()
    (path / "cgroup.events").write_text("populated 0\n")
    node.bench.network.links[str(path)] = (Link(7, "veth7"),)
    node.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    before = node.reporter.conditions["p1"].message
    node.bench.network.links.clear()
    node.bench.reconciler.put(str(path), "link change")
    node.bench.drain()
    (path / "cgroup.events").write_text("populated 1\n")
    node.tend(40)

    assert "ingress 10 Mbit/s (shaped on veth" in before
    assert "policed" in node.reporter.conditions["p1"].message


def test_a_condition_does_not_wait_for_ever(node, monkeypatch):
    """A pod without a process, or whose first process inotify did not tell of."""
    node.cgroup()
    node.take(PodChanged(make_pod(labels=labels("5000000", "10000000"))))
    monkeypatch.setattr("enforcer.pods.pod_entry.PENDING_SECONDS", -1.0)
    node.resync()

    assert node.reporter.wanted == ["p1"]


def test_a_running_pod_without_a_cgroup_is_pending_only_when_that_lasts(node, monkeypatch):
    """Every pod is without one for a moment."""
    node.take(PodChanged(make_pod()))
    early = list(node.reporter.wanted)
    monkeypatch.setattr("enforcer.pods.pod_entry.PENDING_SECONDS", -1.0)
    node.resync()

    assert early == []
    assert node.reporter.conditions["p1"].reason == Reason.PENDING
    assert str(node.bench.tree) in node.reporter.conditions["p1"].message


def test_a_node_that_cannot_limit_says_so_on_each_pod(node):
    """Unsupported, with what to do."""
    node.bench.datapath = UnsupportedDatapath("no bpffs; mount it")
    node.restart()
    node.cgroup()
    node.take(PodChanged(make_pod()))

    assert node.reporter.conditions["p1"].reason == Reason.UNSUPPORTED
    assert node.loop.counts()["Unsupported"] == 1


def test_a_cgroup_that_vanishes_while_it_is_limited_is_no_failure(node, monkeypatch):
    """Short-lived pods do that all the time; nobody need read about it."""

    def write(target, way):
        Path(target.cgroup_path).rmdir()
        raise DatapathError("ENOENT")

    monkeypatch.setattr(node.bench.datapath, "write", write)
    node.take(PodChanged(make_pod()))
    path = node.cgroup()

    assert not path.exists()
    assert node.reporter.events == []
    assert node.reporter.conditions == {}
    assert node.bench.errors == []
    assert node.bench.state_files == []


def test_a_cgroup_that_vanishes_during_a_resync_is_no_failure(node, monkeypatch):
    """The same, between looking and repairing."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.bench.datapath.attached.clear()

    def write(target, way):
        path.rmdir()
        raise DatapathError("ENOENT")

    monkeypatch.setattr(node.bench.datapath, "write", write)

    node.resync()

    assert node.reporter.events == []
    assert node.bench.errors == []


def test_a_running_pod_without_a_process_in_its_cgroup_is_not_called_enforced(node, monkeypatch):
    """Its containers are somewhere else, without a limit; at first they may be on their way."""
    path = node.cgroup(populated=False)
    node.take(PodChanged(make_pod(phase="Running")))
    at_first = list(node.reporter.wanted)
    monkeypatch.setattr("enforcer.pods.pod_entry.PENDING_SECONDS", -1.0)
    node.resync()
    condition = node.reporter.conditions["p1"]
    node.populate(path)

    assert at_first == []
    assert (condition.status, condition.reason) == ("False", Reason.FAILED)
    assert f"no process is in its cgroup {path}" in condition.message
    assert "cgroup driver" in condition.message
    assert node.reporter.conditions["p1"].status == "True"


def test_a_pod_whose_containers_wait_to_be_restarted_stays_enforced(node, monkeypatch):
    """Between two crashes some runtimes leave no process in its cgroup."""
    monkeypatch.setattr("enforcer.pods.pod_entry.PENDING_SECONDS", -1.0)
    path = node.cgroup()
    waits = [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
    node.take(PodChanged(make_pod(containers=waits)))
    node.populate(path, populated=False)
    node.resync()

    assert node.reporter.conditions["p1"].status == "True"
