"""enforcer.reconcile.reconciler with a fake kernel: requests, restarts, drift, failures."""

import errno
from pathlib import Path

import pytest

from contract.api import TargetRequest
from contract.requests import parse_limits
from enforcer.errors import RefusedError
from enforcer.state import Link, Target

TEN = TargetRequest(ingress="10M", egress="5M")
ONE = TargetRequest(egress="1M")
POD = "cgroup:/kubepods/pod1"


def test_a_new_target_is_attached_and_kept(bench):
    """In the kernel, on disk, in the log, and in the answer."""
    target, counters = bench.requests.set_target("/kubepods/pod1", TEN)

    assert target.name == POD
    assert target.limits.ingress.bits_per_second == 10_000_000
    assert bench.datapath.attached == {str(bench.pod): target}
    assert len(bench.state_files) == 1
    assert bench.log.events == ["attached"]
    assert counters.egress.enforcement == "paced"


def test_a_second_request_changes_the_limits_live(bench):
    """No detach in between, and a direction left out is not limited any more."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.requests.set_target("/kubepods/pod1", ONE)

    assert bench.log.events == ["attached", "changed"]
    assert "detach" not in bench.datapath.calls
    assert bench.datapath.attached[str(bench.pod)].limits.ingress is None


def test_the_same_request_again_does_nothing(bench):
    """Idempotent, so that scripts may repeat it."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.requests.set_target("/kubepods/pod1", TEN)

    assert bench.log.events == ["attached"]


def test_a_target_is_found_by_any_of_its_names(bench):
    """A pid in the same cgroup is the same target."""
    (bench.work / "proc/42").mkdir()
    (bench.work / "proc/42/cgroup").write_text("0::/kubepods/pod1\n")
    bench.requests.set_target("pid:42", TEN)

    assert bench.requests.show_target("/kubepods/pod1")[0].name == "pid:42"
    assert len(bench.reconciler.targets()) == 1


def test_a_dead_process_can_still_be_detached_by_its_name(bench):
    """Its cgroup is alive, and the limit with it."""
    (bench.work / "proc/42").mkdir()
    (bench.work / "proc/42/cgroup").write_text("0::/kubepods/pod1\n")
    bench.requests.set_target("pid:42", TEN)
    (bench.work / "proc/42/cgroup").unlink()

    bench.requests.remove_target("pid:42")

    assert bench.datapath.attached == {}


def test_a_removed_target_leaves_nothing(bench):
    """Neither programs nor a file; a second time it is refused."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.requests.remove_target(POD)

    assert bench.datapath.attached == {}
    assert bench.state_files == []
    with pytest.raises(RefusedError, match="has no limit") as refusal:
        bench.requests.remove_target(POD)
    assert refusal.value.status == 404


@pytest.mark.parametrize(
    ("name", "request_", "status", "keys"),
    [
        ("/nothing", TEN, 404, ["target"]),
        ("/kubepods/pod1", TargetRequest(ingress="5K"), 422, ["ingress"]),
        ("/nothing", TargetRequest("5K", "-1"), 422, ["target", "ingress", "egress"]),
    ],
)
def test_a_wrong_request_is_refused_and_changes_nothing(bench, name, request_, status, keys):
    """Everything that is wrong is told at once; a limit that is there stays."""
    bench.requests.set_target("/kubepods/pod1", ONE)
    before = dict(bench.datapath.attached)

    with pytest.raises(RefusedError) as refusal:
        bench.requests.set_target(name, request_)

    assert refusal.value.status == status
    assert [p.key for p in refusal.value.problems] == keys
    assert bench.datapath.attached == before
    assert bench.log.events[-1] == "refused"


def test_a_failed_attach_leaves_no_trace(bench):
    """Not even a file that a restart would attach from."""
    bench.datapath.fail["attach"] = "the kernel said EINVAL; mount bpffs"

    with pytest.raises(RefusedError, match="the kernel said EINVAL; mount bpffs") as refusal:
        bench.requests.set_target("/kubepods/pod1", TEN)

    assert refusal.value.status == 409
    assert bench.state_files == []
    assert bench.reconciler.targets() == ()
    assert bench.errors == ["attach"]


def test_a_failed_change_keeps_the_old_limit(bench):
    """In the kernel and on disk."""
    old, _ = bench.requests.set_target("/kubepods/pod1", ONE)
    bench.datapath.fail["write"] = "no memory"

    with pytest.raises(RefusedError, match="no memory"):
        bench.requests.set_target("/kubepods/pod1", TEN)

    assert bench.reconciler.targets() == (old,)
    bench.restart()
    bench.reconciler.adopt()
    assert bench.reconciler.targets() == (old,)


def test_a_failed_detach_keeps_the_target(bench):
    """It is still limited, so it is still listed."""
    bench.requests.set_target("/kubepods/pod1", ONE)
    bench.datapath.fail["detach"] = "busy"

    with pytest.raises(RefusedError, match="busy"):
        bench.requests.remove_target(POD)

    assert len(bench.reconciler.targets()) == 1


def test_a_restart_adopts_without_touching_the_kernel(bench):
    """Programs and limits stayed in force; they are only looked at."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.restart()
    bench.datapath.calls.clear()

    bench.reconciler.adopt()

    assert bench.log.events == ["adopted"]
    assert bench.datapath.calls == ["observe", "prune"]


def test_a_restart_looks_at_interfaces_when_everything_is_adopted(bench, monkeypatch):
    """Five hundred targets are taken over in the time that a look at ten interfaces takes."""
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    bench.requests.set_target("/kubepods/pod1", TEN)
    looked, observe = [], bench.network.observe
    monkeypatch.setattr(
        bench.network, "observe", lambda *found: looked.append(found) or observe(*found)
    )
    bench.restart()
    bench.reconciler.adopt()
    at_start = len(looked)
    bench.drain()
    target = bench.reconciler.targets()[0]

    assert (at_start, len(looked)) == (0, 1)
    assert bench.reconciler.count(target).ingress.enforcement == "shaped"
    assert bench.log.events == ["adopted"]


def test_an_upgrade_replaces_older_programs_then_drops_them(bench):
    """Pruned only when nothing of them is attached any more."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.outdated.add(str(bench.pod))
    bench.restart()
    bench.datapath.calls.clear()

    bench.reconciler.adopt()

    assert bench.log.events == ["replaced"]
    assert bench.datapath.calls == ["observe", "observe", "attach", "prune"]


def test_older_programs_stay_while_one_target_could_not_be_replaced(bench):
    """They are what holds its limit."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.outdated.add(str(bench.pod))
    bench.datapath.fail["attach"] = "no memory"
    bench.restart()
    bench.datapath.calls.clear()

    bench.reconciler.adopt()

    assert "prune" not in bench.datapath.calls
    assert bench.log.events == ["failed"]


def test_a_daemon_that_died_between_saving_and_attaching_finishes_on_restart(bench):
    """The file is written first."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.attached.clear()
    bench.restart()

    bench.reconciler.adopt()

    assert bench.log.events == ["attached"]
    assert list(bench.datapath.attached) == [str(bench.pod)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}', "\0"])
def test_a_broken_state_file_is_told_and_left(bench, content):
    """The other targets are adopted, and the broken one's programs are not touched."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    broken = bench.work / "state/9.json"
    broken.write_text(content)
    bench.restart()

    bench.reconciler.adopt()

    assert bench.log.events == ["refused", "adopted"]
    assert broken.read_text() == content
    assert bench.errors == ["load"]


def test_programs_that_someone_took_off_come_back(bench):
    """Within a resync."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.attached.clear()

    bench.resync()

    assert list(bench.datapath.attached) == [str(bench.pod)]


def test_a_removed_cgroup_is_forgotten(bench):
    """At once by a request, else by a resync."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.pod.rmdir()

    assert list(bench.reconciler.counters()) == []
    bench.resync()

    assert bench.reconciler.targets() == ()
    assert bench.state_files == []
    assert bench.log.events == ["attached", "forgotten"]


def test_a_new_cgroup_of_the_same_name_is_not_the_old_target(bench):
    """Its inode differs; it starts unlimited."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.pod.rename(bench.pod.with_name("old"))
    bench.pod.mkdir()

    with pytest.raises(RefusedError, match="has no limit"):
        bench.requests.show_target("/kubepods/pod1")
    assert bench.reconciler.targets() == ()


def test_a_lasting_failure_is_counted_each_time_and_logged_once(bench):
    """Ten times a second would drown everything else."""
    bench.datapath.fail["tend"] = "ENOBUFS"
    for _ in range(5):
        bench.take("*tend")
    del bench.datapath.fail["tend"]
    bench.take("*tend")
    bench.datapath.fail["tend"] = "ENOBUFS"
    bench.take("*tend")

    assert bench.errors == ["tend"] * 6
    assert bench.log.events == ["failed", "failed"]


def test_one_target_whose_counters_fail_does_not_hide_the_others(bench):
    """The list goes on without it."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.fail["counters"] = "ENOENT"

    assert list(bench.reconciler.counters()) == []
    assert bench.errors == ["counters"]
    with pytest.raises(RefusedError, match="ENOENT"):
        bench.requests.show_target("/kubepods/pod1")


def test_a_thousand_rounds_leave_nothing(bench):
    """Neither in the kernel, nor on disk, nor in memory."""
    for _ in range(1000):
        bench.requests.set_target("/kubepods/pod1", TEN)
        bench.requests.remove_target(POD)

    assert bench.datapath.attached == {}
    assert bench.state_files == []
    assert bench.reconciler.targets() == ()


def test_a_cgroup_made_anew_and_set_again_leaves_nothing_of_the_old_one(bench):
    """Neither its queues nor its records: what is shaped for its id would hold the new one's veth
    at the old rate."""
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    old, _ = bench.requests.set_target("/kubepods/pod1", TEN)
    bench.pod.rename(bench.pod.with_name("old"))
    bench.pod.mkdir()

    new, _ = bench.requests.set_target("/kubepods/pod1", TargetRequest(ingress="50M"))

    assert new.cgroup_id != old.cgroup_id
    assert list(bench.network.held) == [new.cgroup_id]
    assert "forget" in bench.datapath.calls
    assert len(bench.state_files) == 1
    assert bench.reconciler.targets() == (new,)


class _FullDisk:
    """The state folder takes no file until :meth:`heal`."""

    def __init__(self, bench, monkeypatch):
        self.write = Path.write_bytes
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(Path, "write_bytes", self.refuse)

    @staticmethod
    def refuse(_path, _data):
        """As a full disk does."""
        raise OSError(errno.ENOSPC, "No space left on device")

    def heal(self):
        """There is room again."""
        self.monkeypatch.setattr(Path, "write_bytes", self.write)


def test_a_full_state_folder_changes_nothing_of_a_limit_that_is_there(bench, monkeypatch):
    """It stays listed, in force and on disk; the request says why it was refused."""
    old, _ = bench.requests.set_target("/kubepods/pod1", ONE)
    _FullDisk(bench, monkeypatch)

    with pytest.raises(RefusedError, match="No space left"):
        bench.requests.set_target("/kubepods/pod1", TEN)

    assert bench.reconciler.targets() == (old,)
    assert bench.datapath.attached[str(bench.pod)] == old
    assert len(bench.state_files) == 1


def test_a_pod_is_limited_without_a_state_file_and_gets_one_later(bench, monkeypatch):
    """The API server knows what it asks for; a restart before then lists it anew."""
    disk = _FullDisk(bench, monkeypatch)
    limits = parse_limits(TEN)
    inode = bench.pod.stat().st_ino
    target = Target("pod:shop/p1", str(bench.pod), inode, limits)
    bench.reconciler.hold(target, "test", must_keep=False)
    during = list(bench.state_files)
    bench.resync()
    disk.heal()
    bench.resync()

    assert bench.datapath.attached[str(bench.pod)] == target
    assert during == []
    assert len(bench.state_files) == 1
    assert bench.log.events.count("failed") == 1


def test_what_cannot_be_removed_from_disk_is_removed_later(bench, monkeypatch):
    """A file system that was mounted read-only meanwhile: the limit is off all the same."""
    bench.requests.set_target("/kubepods/pod1", ONE)
    unlink = Path.unlink

    def refuse(_path, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    bench.requests.remove_target(POD)
    left = list(bench.state_files)
    monkeypatch.setattr(Path, "unlink", unlink)
    bench.resync()

    assert bench.datapath.attached == {}
    assert bench.reconciler.targets() == ()
    assert (len(left), bench.state_files) == (1, [])


def test_an_outage_that_comes_again_is_logged_again(bench):
    """Of queues at interfaces as of everything else; while it lasts it is told once."""
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    for _ in range(2):
        bench.network.fail["shape"] = "EBUSY"
        bench.network.held.clear()
        bench.requests.set_target("/kubepods/pod1", TEN)
        bench.resync()
        del bench.network.fail["shape"]
        bench.resync()

    assert bench.log.events.count("failed") == 2
    assert bench.log.events[-1] == "shaped"


def test_a_target_with_a_fault_of_ours_holds_up_no_other_and_no_start(bench, monkeypatch):
    """Whatever it raises."""
    other = bench.pod.with_name("pod2")
    other.mkdir()
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.requests.set_target("/kubepods/pod2", TEN)
    bench.datapath.attached.clear()
    observe = bench.datapath.observe

    def fault(path):
        if path == str(bench.pod):
            raise KeyError("podpace_sockops")
        return observe(path)

    monkeypatch.setattr(bench.datapath, "observe", fault)
    bench.restart()
    bench.reconciler.adopt()
    bench.resync()
    monkeypatch.undo()
    bench.now += 1
    bench.drain()

    assert bench.datapath.attached.keys() == {str(bench.pod), str(other)}
    (line,) = [fields for _, event, fields in bench.log.lines if event == "failed"]
    assert "podpace_sockops" in line["reason"]


def test_a_failed_look_is_repeated_with_growing_pauses(bench, monkeypatch):
    """And not at each: a target that fails costs the others nothing."""
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.datapath.attached.clear()
    bench.datapath.fail["attach"] = "ENOMEM"
    monkeypatch.setattr("enforcer.loops.random.uniform", lambda _, ceiling: ceiling)
    bench.datapath.calls.clear()
    bench.resync()
    bench.tend(600)

    # After 1, 3, 7, 15 and 31 s, and with each resync.
    assert bench.datapath.calls.count("attach") <= 13


def test_between_two_resyncs_interfaces_are_taken_for_what_they_were(bench, monkeypatch):
    """Looking at them is what costs; what is on the cgroup is looked at each time."""
    bench.network.links[str(bench.pod)] = (Link(7, "veth7"),)
    bench.requests.set_target("/kubepods/pod1", TEN)
    bench.resync()
    looked, observe = [], bench.network.observe

    def note(*arguments):
        looked.append(arguments)
        return observe(*arguments)

    monkeypatch.setattr(bench.network, "observe", note)
    bench.resync()
    bench.resync()
    kept = len(looked)
    bench.reconciler.put(str(bench.pod), "link change")
    bench.drain()
    told = len(looked)
    bench.datapath.attached.clear()
    bench.resync()

    assert (kept, told) == (0, 1)
    assert list(bench.datapath.attached) == [str(bench.pod)]
