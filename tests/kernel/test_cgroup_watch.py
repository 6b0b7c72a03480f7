"""enforcer.pods.cgroup_watch on real cgroups: what the kernel tells by inotify, and when."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from bench.rig.topology import cgroup2_mount, own_cgroup
from enforcer.pods.cgroup_watch import CgroupWatch
from enforcer.pods.news import CgroupAppeared, CgroupPopulated, CgroupVanished, News
from tests.fakes import FakeLog
from tests.needs import missing
from tests.processes import HANGS_SECONDS

UID = "11111111-2222-3333-4444-{:012d}"


class Watching:
    """A watch in a thread, and what it has told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.news: SimpleQueue[News] = SimpleQueue()
        self.stopping = threading.Event()
        self.watch = CgroupWatch(root, self.news.put, FakeLog())
        self.thread = threading.Thread(target=self.watch.run, args=(self.stopping,))

    def next(self) -> News:
        """Waits for it."""
        return self.news.get(timeout=HANGS_SECONDS)

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        self.thread.join()


@pytest.fixture
def watching() -> Iterator[Watching]:
    """Over a cgroup of its own; started."""
    if os.geteuid() != 0:
        missing("not root, so no cgroup can be made: run the tests with sudo")
    with own_cgroup(cgroup2_mount() / f"pptest-watch-{os.getpid()}") as root:
        found = Watching(root)
        found.thread.start()
        try:
            yield found
        finally:
            found.stop()


def test_a_pods_life_is_told(watching: Watching) -> None:
    """Its cgroup, its first process, its last one, its end; a cgroup below is nobody's news."""
    path = watching.root / "kubepods.slice" / f"kubepods-pod{UID.format(1).replace('-', '_')}.slice"
    path.mkdir(parents=True)
    appeared = watching.next()
    container = path / "cri-containerd-0123.scope"
    container.mkdir()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        (container / "cgroup.procs").write_text(str(process.pid))
        filled = watching.next()
        process.communicate()
    emptied = watching.next()
    container.rmdir()
    path.rmdir()
    vanished = watching.next()

    assert appeared == CgroupAppeared(UID.format(1), str(path))
    assert filled == CgroupPopulated(UID.format(1), str(path), populated=True)
    assert emptied == CgroupPopulated(UID.format(1), str(path), populated=False)
    assert vanished == CgroupVanished(UID.format(1), str(path))


def test_a_folder_that_is_not_roots_is_no_pods(watching: Watching) -> None:
    """A user with a part of the tree of his own must not take over a pod's limits."""
    base = watching.root / "kubepods"
    base.mkdir()
    theirs, ours = base / f"pod{UID.format(1)}", base / f"pod{UID.format(2)}"
    watching.stop()
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    ours.mkdir()
    told: list[News] = []
    again = CgroupWatch(watching.root, told.append, FakeLog())
    with again._inotify or contextlib.nullcontext():
        again._rescan()

    assert told == [CgroupAppeared(UID.format(2), str(ours))]


def test_a_thousand_pods_leave_no_watch(watching: Watching) -> None:
    """The kernel takes a watch with its cgroup; nothing of it stays in the daemon."""
    base = watching.root / "kubepods"
    base.mkdir()
    for number in range(1000):
        path = base / f"pod{UID.format(number)}"
        path.mkdir()
        watching.next()
        path.rmdir()
        watching.next()
    watching.stop()

    assert watching.watch._pods == watching.watch._events == {}
    assert set(watching.watch._folders.values()) == {str(watching.root), str(base)}
