"""enforcer.pods.cgroup_watch on ordinary folders, which inotify treats as it does cgroups."""

import shutil
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest
from inotify_simple import Event, INotify, flags

from enforcer.pods import cgroup_watch
from enforcer.pods.cgroup_watch import CgroupWatch
from enforcer.pods.news import CgroupAppeared, CgroupVanished
from tests.fakes import FakeLog
from tests.unit.enforcer.pod_json import UID

LAYOUTS = {
    "cgroupfs, guaranteed": "kubepods/pod{}",
    "cgroupfs, burstable": "kubepods/burstable/pod{}",
    "cgroupfs, best effort": "kubepods/besteffort/pod{}",
    "systemd, guaranteed": "kubepods.slice/kubepods-pod{_}.slice",
    "systemd, burstable": "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{_}.slice",
    "kind": "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{_}.slice",
    "kind, cgroupfs": "kubelet/kubepods/burstable/pod{}",
    "k3s in a container": "docker/abc/system.slice/k3s.service/kubepods/pod{}",
    "--cgroup-root=/my-root": "my_root.slice/my_root-kubepods.slice/my_root-kubepods-pod{_}.slice",
    "--cgroup-root=/A1/b-c_d": "A1.slice/A1-b_c_d.slice/A1-b_c_d-kubepods-pod{_}.slice",
}


def folder(layout: str, number: int = 1) -> str:
    """Where that pod's cgroup is."""
    uid = UID.format(number)
    return layout.replace("{_}", uid.replace("-", "_")).replace("{}", uid)


class Watching:
    """A watch in a thread, and what it has told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.news = SimpleQueue()
        self.log = FakeLog()
        self.stopping = threading.Event()
        self.watch = CgroupWatch(root, self.news.put, self.log)
        self.thread = threading.Thread(target=self.watch.run, args=(self.stopping,))

    def next(self):
        """Waits for it."""
        return self.news.get(timeout=10)

    def make(self, path: str) -> Path:
        """A cgroup's folder."""
        full = self.root / path
        full.mkdir(parents=True)
        return full

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        self.thread.join()


@pytest.fixture
def unstarted(tmp_path):
    """Over an empty tree."""
    (tmp_path / "tree").mkdir()
    return Watching(tmp_path / "tree")


@pytest.fixture
def watching(unstarted):
    """Over an empty tree; started."""
    unstarted.thread.start()
    yield unstarted
    unstarted.stop()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_pods_cgroup_is_found_at_any_depth(watching, layout):
    """Both drivers, all QoS classes, nested roots; whether it was there before or comes later."""
    path = watching.make(folder(layout))

    assert watching.next() == CgroupAppeared(UID.format(1), str(path))


def test_what_was_there_before_is_told_at_the_start(unstarted):
    """And what comes later."""
    before = unstarted.make("kubepods/pod" + UID.format(1))
    unstarted.thread.start()
    told = unstarted.next()
    later = unstarted.make("kubepods/pod" + UID.format(2))
    told_later = unstarted.next()
    unstarted.stop()

    assert told == CgroupAppeared(UID.format(1), str(before))
    assert told_later == CgroupAppeared(UID.format(2), str(later))


def test_a_removed_cgroup_is_told_and_one_made_anew_is_new(watching):
    """In this order."""
    path = watching.make("kubepods/pod" + UID.format(1))
    watching.next()
    shutil.rmtree(path)
    watching.make("kubepods/pod" + UID.format(1))

    assert watching.next() == CgroupVanished(UID.format(1), str(path))
    assert watching.next() == CgroupAppeared(UID.format(1), str(path))


def test_a_thousand_pods_leave_no_watch(watching):
    """Memory stays flat in the daemon, and so does the kernel's share."""
    for i in range(1000):
        path = watching.make(f"kubepods/pod11111111-2222-3333-4444-{i:012d}")
        watching.next()
        shutil.rmtree(path)
        watching.next()
    end = watching.make("kubepods/pod" + UID.format(1))
    watching.next()

    watching.stop()
    assert list(watching.watch._pods) == [str(end)]
    assert set(watching.watch._folders.values()) == {str(watching.root), str(end.parent)}


def test_without_inotify_the_tree_is_read_now_and_then(tmp_path, monkeypatch):
    """fs.inotify.max_user_instances is 128 on many nodes."""

    def refuse():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cgroup_watch, "INotify", refuse)
    monkeypatch.setattr(cgroup_watch, "_RESCAN_UNWATCHED_SECONDS", 0.0)
    monkeypatch.setattr(cgroup_watch, "_POLL_MILLISECONDS", 1)
    (tmp_path / "tree").mkdir()
    watching = Watching(tmp_path / "tree")
    watching.thread.start()
    path = watching.make("kubepods/burstable/pod" + UID.format(1))
    appeared = watching.next()
    shutil.rmtree(path)
    vanished = watching.next()
    watching.stop()

    assert (type(appeared), type(vanished)) == (CgroupAppeared, CgroupVanished)
    assert "max_user_instances" in watching.log.lines[0][2]["reason"]


class Overflowing(INotify):
    """The kernel had no room for any event."""

    def read(self, timeout=None, read_delay=None):
        """Only says that there were some."""
        lost = super().read(timeout, read_delay)
        return [Event(-1, flags.Q_OVERFLOW, 0, "")] if lost else []


def test_events_that_the_kernel_dropped_are_made_up_for(unstarted, monkeypatch):
    """It says that it dropped some; the tree is read again."""
    monkeypatch.setattr(cgroup_watch, "RESCAN_SECONDS", 3600.0)
    unstarted.watch._inotify.close()
    unstarted.watch._inotify = Overflowing()
    unstarted.make("kubepods/pod" + UID.format(1))
    unstarted.thread.start()
    unstarted.next()
    path = unstarted.make("kubepods/pod" + UID.format(2))
    told = unstarted.next()
    unstarted.stop()

    assert told == CgroupAppeared(UID.format(2), str(path))
