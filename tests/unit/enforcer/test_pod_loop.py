"""enforcer.pods.pod_loop with a fake kernel: pods and cgroups in any order, restarts."""

import pytest

from contract.api import TargetRequest
from contract.names import EventReason, Reason
from enforcer.errors import RefusedError
from enforcer.pods.news import (
    CgroupAppeared,
    CgroupVanished,
    PodChanged,
    PodGone,
    PodsListed,
)
from tests.unit.enforcer.pod_json import UID, condition_json, make_pod
from tests.unit.enforcer.pod_node import FIVE, ONE


def test_a_pod_known_before_its_cgroup_is_limited_when_that_appears(node):
    """Before its containers start; nothing is written before."""
    node.take(PodsListed((make_pod(labels=FIVE),)))
    before = list(node.reporter.wanted)

    path = node.cgroup()

    assert before == []
    assert node.egress(path) == 5_000_000
    assert node.reporter.conditions["p1"].reason == Reason.ENFORCED


def test_a_cgroup_that_appears_first_is_limited_when_its_pod_is_known(node):
    """The watch was slower than the kubelet."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(labels=FIVE)))

    assert node.egress(path) == 5_000_000


def test_a_changed_label_changes_the_limit_live(node):
    """Without a detach; an Event tells, and the condition follows."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(labels=FIVE)))
    node.take(PodChanged(make_pod(labels=ONE)))

    assert node.egress(path) == 1_000_000
    assert "detach" not in node.bench.datapath.calls
    assert node.reporter.events == [
        ("p1", EventReason.CHANGED, "now egress 1 Mbit/s; was egress 5 Mbit/s")
    ]
    assert "egress 1 Mbit/s" in node.reporter.conditions["p1"].message


@pytest.mark.parametrize("says", [False, True])
def test_a_pods_spec_says_whose_network_it_uses(node, says):
    """Also after a restart, before the pods are listed: what runs in its cgroup need not tell."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(host_network=says)))
    node.bench.drain()
    assert node.bench.network.hosts == {str(path): says}

    node.bench.network.hosts.clear()
    node.restart()
    node.bench.drain()
    assert node.bench.network.hosts == {str(path): says}


def test_a_pod_whose_status_changes_costs_no_kernel_call(node):
    """Kubelets write statuses all the time."""
    node.cgroup()
    node.take(PodChanged(make_pod(phase="Pending")))
    node.bench.datapath.calls.clear()

    node.take(PodChanged(make_pod(phase="Running")))

    assert node.bench.datapath.calls == []


def test_a_pod_that_asks_for_no_limit_any_more_is_released(node):
    """Its condition goes; with a readiness gate it stays True, or the pod would be unready."""
    path = node.cgroup()
    node.take(PodChanged(make_pod(gated=True)))
    node.take(PodGone(make_pod(gated=True)))
    node.answer(make_pod(gated=True, labels={}))

    assert node.egress(path) is None
    assert node.reporter.conditions["p1"].status == "True"
    assert node.bench.state_files == []


def test_a_deleted_pods_processes_stay_limited_to_their_end(node):
    """The API server may forget it first; then nothing is left."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.take(PodGone(make_pod(deleted=True)))
    during = node.egress(path)
    node.vanish(path)

    assert during == 5_000_000
    assert node.bench.reconciler.targets() == ()
    assert node.bench.state_files == []
    assert node.loop._entries == {}
    assert node.loop._cgroups == {}


def test_a_pod_deleted_by_force_stays_limited_to_its_processes_end(node):
    """The watch tells of it as of one that lost its label, and the next list does not have it."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.take(PodGone(make_pod()))
    node.answer(None)
    node.take(PodsListed(()))
    during = node.egress(path)
    node.vanish(path)

    assert during == 5_000_000
    assert node.bench.reconciler.targets() == ()
    assert node.loop._entries == {}


def test_a_pod_of_another_uid_does_not_take_the_limit_off_the_one_before(node):
    """A StatefulSet makes its pod anew under the same name while the old processes still run."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.take(PodGone(make_pod()))
    node.answer(make_pod(uid=UID.format(2), labels={}))

    assert node.egress(path) == 5_000_000


def test_a_limit_stays_while_the_api_server_does_not_answer(node):
    """Not in the list is not the same as not limited: a cache may be behind."""
    path = node.cgroup()
    node.take(PodsListed((make_pod(),)))
    node.take(PodsListed(()))
    unknown = node.egress(path)
    node.answer(make_pod())

    assert unknown == node.egress(path) == 5_000_000


def test_a_pod_that_lost_its_label_during_a_gap_in_the_watch_is_released(node):
    """The next list does not have it, and the API server says that it lives."""
    path = node.cgroup()
    shown = make_pod(conditions=condition_json("True", "Enforced", "egress 5 Mbit/s (paced)"))
    node.take(PodsListed((shown,)))
    node.take(PodsListed(()))
    node.answer(make_pod(labels={}))

    assert node.egress(path) is None
    assert node.reporter.conditions["p1"] is None


def test_a_cgroup_made_anew_is_limited_again(node):
    """The kubelet does that after a restart of the machine's runtime; no API server is needed."""
    first = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.vanish(first)
    second = node.cgroup()

    assert node.egress(second) == 5_000_000
    assert [t.cgroup_path for t in node.bench.reconciler.targets()] == [str(second)]


def test_a_static_pod_is_found_by_its_configurations_hash(node):
    """Its mirror pod may be deleted and made anew without a gap."""
    digest = "0123456789abcdef0123456789abcdef"
    mirror = {"kubernetes.io/config.mirror": digest}
    path = node.bench.tree / f"kubepods/pod{digest}"
    path.mkdir()
    node.take(CgroupAppeared(digest, str(path)))
    old = make_pod(annotations=mirror)
    node.take(PodChanged(old))
    node.take(PodChanged(make_pod(annotations=mirror, uid=UID.format(2))))
    node.take(PodGone(old))

    assert node.egress(path) == 5_000_000


def test_a_false_mirror_pod_leaves_no_limit_on_a_static_one(node):
    """Whoever may create pods can write the annotation, and then delete the pod gracefully."""
    digest = "0123456789abcdef0123456789abcdef"
    false = {"annotations": {"kubernetes.io/config.mirror": digest}}
    path = node.bench.tree / f"kubepods/pod{digest}"
    path.mkdir()
    node.take(CgroupAppeared(digest, str(path)))
    node.take(PodChanged(make_pod(**false)))
    node.take(PodGone(make_pod(deleted=True, **false)))
    node.resync()

    assert node.egress(path) is None


@pytest.mark.parametrize("populated", ["first", "second"])
def test_of_two_cgroups_with_one_uid_the_one_with_processes_is_limited(node, populated):
    """A kubelet that changed its cgroup driver leaves an empty one behind."""
    first = node.cgroup(populated=populated == "first")
    second = node.cgroup(folder="kubepods.slice", populated=populated == "second")
    pods_own, empty = (first, second) if populated == "first" else (second, first)
    node.take(PodChanged(make_pod(labels=FIVE)))
    node.take(PodChanged(make_pod(labels=ONE)))
    changed = node.egress(pods_own), node.egress(empty)
    node.restart()
    for path in (first, second):
        node.take(CgroupAppeared(UID.format(1), str(path)))
    node.populate(pods_own)
    node.take(PodChanged(make_pod(labels=FIVE)))
    restarted = node.egress(pods_own), node.egress(empty)
    node.vanish(empty)
    kept = node.egress(pods_own)
    node.take(PodGone(make_pod(labels=FIVE)))
    node.answer(make_pod(labels={}))

    assert changed == (1_000_000, None)
    assert restarted == (5_000_000, None)
    assert kept == 5_000_000
    assert node.egress(pods_own) is None
    assert node.bench.reconciler.targets() == ()


def test_the_limit_follows_the_processes_into_another_cgroup_of_the_pod(node):
    """The one that is left is not limited any more, also when it takes a second try."""
    first = node.cgroup()
    node.take(PodChanged(make_pod()))
    second = node.cgroup(folder="kubepods.slice")
    node.bench.datapath.fail["detach"] = "EBUSY"
    node.populate(first, populated=False)
    moved = node.egress(second)
    del node.bench.datapath.fail["detach"]
    node.resync()

    assert moved == 5_000_000
    assert node.egress(first) is None
    assert [t.cgroup_path for t in node.bench.reconciler.targets()] == [str(second)]


def test_a_restart_without_an_api_server_adopts_and_follows_cgroups(node):
    """Also a pod whose cgroup is made anew meanwhile."""
    first = node.cgroup()
    node.take(PodsListed((make_pod(),)))
    node.restart()
    node.take(CgroupAppeared(UID.format(1), str(first)))
    adopted = node.egress(first)
    node.vanish(first)
    second = node.cgroup()
    node.resync()

    assert adopted == 5_000_000
    assert node.egress(second) == 5_000_000
    assert node.reporter.wanted == []


def test_a_cgroup_made_anew_while_nothing_ran_is_limited_again(node):
    """Neither the daemon nor the API server; the state folder knows the pod by its cgroup."""
    first = node.cgroup()
    node.take(PodsListed((make_pod(),)))
    first.rmdir()
    node.restart()
    second = node.cgroup()

    assert node.egress(second) == 5_000_000


def test_a_fault_of_ours_on_one_pod_does_not_hold_up_the_others(node, monkeypatch):
    """It is told, and the next piece of news is taken."""
    monkeypatch.setattr(node.bench.reconciler, "hold", None)
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    monkeypatch.undo()
    node.bench.now += 1
    node.bench.drain()

    assert node.bench.log.lines[0][:2] == ("error", "fault")
    assert node.egress(path) == 5_000_000


def test_what_was_adopted_is_pruned_only_after_a_list(node):
    """An API server that is down must not lift limits."""
    path = node.cgroup()
    node.take(PodsListed((make_pod(),)))
    node.restart()
    node.take(CgroupAppeared(UID.format(1), str(path)))
    node.resync()
    before = node.egress(path)
    node.take(PodsListed(()))
    node.answer(make_pod(labels={}, gated=True))

    assert before == 5_000_000
    assert node.egress(path) is None
    assert node.reporter.conditions["p1"].message == "no limit is asked for"


def test_a_limit_that_cannot_be_taken_off_is_tried_again(node):
    """Until it is; meanwhile nothing else is written on the pod."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))
    node.bench.datapath.fail["detach"] = "EBUSY"
    node.take(PodGone(make_pod()))
    node.answer(make_pod(labels={}))
    node.reporter.wanted.clear()
    node.resync()
    still = node.egress(path)
    del node.bench.datapath.fail["detach"]
    node.resync()

    assert still == 5_000_000
    assert node.egress(path) is None
    assert node.reporter.wanted == []
    assert node.loop._entries == {}


def test_a_request_leaves_a_limited_pod_alone(node):
    """Its labels say what holds: two sources would undo each other."""
    path = node.cgroup()
    node.take(PodChanged(make_pod()))

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
    node.take(PodChanged(make_pod()))
    overruled = node.egress(path)
    node.take(PodGone(make_pod()))
    node.answer(make_pod(labels={}))

    assert overruled == 5_000_000
    assert node.egress(path) is None
    assert "overruled" in node.bench.log.events


def test_a_limited_pod_is_shown_by_its_name(node):
    """And an unlimited one is refused with what to do."""
    node.cgroup()
    node.take(PodChanged(make_pod()))

    assert node.bench.requests.show_target("pod:shop/p1")[0].name == "pod:shop/p1"
    with pytest.raises(RefusedError, match="kubectl annotate"):
        node.bench.requests.show_target("pod:shop/other")


def test_five_thousand_pods_leave_nothing(node):
    """Neither in the kernel, nor on disk, nor in memory."""
    for i in range(5000):
        uid = f"11111111-2222-3333-4444-{i:012d}"
        path = node.bench.tree / f"kubepods/pod{uid}"
        node.take(PodChanged(make_pod(uid=uid)))
        path.mkdir()
        node.take(CgroupAppeared(uid, str(path)))
        node.take(PodGone(make_pod(uid=uid, deleted=bool(i % 2))))
        if not i % 2:
            node.answer(make_pod(uid=uid, labels={}))
        path.rmdir()
        node.take(CgroupVanished(uid, str(path)))

    assert node.loop._entries == {}
    assert node.loop._cgroups == {}
    reconciler, queue = node.bench.reconciler, node.bench.queue
    assert reconciler._ways == reconciler._looks_left == reconciler.processes._paths == {}
    observer = reconciler._observer
    assert observer._left == {}
    for counted in (observer._bypass._received, observer._bypass._sent):
        assert counted._before == counted.found == {}
    assert queue._timers == queue._failures == node.bench.complaints._told == {}
    assert node.loop._inbox.uids() == frozenset()
    assert node.bench.reconciler.targets() == ()
    assert node.bench.state_files == []
    assert node.bench.datapath.calls.count("detach") == 2500
    assert node.bench.datapath.calls.count("forget") == 2500
