"""A node that is played: its pod loop with a fake kernel below and a reporter that keeps."""

from enforcer.pods.news import (
    CgroupAppeared,
    CgroupPopulated,
    CgroupVanished,
    PodFound,
)
from enforcer.pods.pod_loop import PodLoop
from tests.unit.enforcer.pod_json import UID, labels

ONE = labels("1000000")
FIVE = labels("5000000")


class FakeReporter:
    """Keeps what should be written."""

    def __init__(self):
        self.conditions = {}
        self.wanted = []
        self.events = []
        self.forgotten = []
        self.asked = []

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

    def ask(self, pod):
        """In order."""
        self.asked.append(pod)


class Node:
    """A pod loop, the daemon below it and a cgroup tree."""

    def __init__(self, bench):
        self.bench = bench
        bench.follows_pods = True
        bench.restart()
        bench.reconciler.adopt()
        self.start(())

    def start(self, adopted):
        """A loop that knows what the daemon knows."""
        self.reporter = FakeReporter()
        bench = self.bench
        self.loop = PodLoop(bench.reconciler, self.reporter, bench.queue, bench.tree, bench.log)
        self.loop.adopt(adopted)
        bench.begin(self.loop)

    def take(self, news):
        """Tell, and let the worker do what is to be done of it."""
        self.loop.tell(news)
        self.bench.drain()

    def resync(self):
        """Ten seconds have passed."""
        self.bench.resync()

    def restart(self):
        """The daemon and its loop."""
        self.bench.restart()
        self.start(self.bench.reconciler.adopt())

    def cgroup(self, number=1, folder="kubepods", *, populated=True):
        """Make it and tell."""
        path = self.bench.tree / folder / f"pod{UID.format(number)}"
        path.mkdir(parents=True)
        self.take(CgroupAppeared(UID.format(number), str(path)))
        if populated:
            self.populate(path, number)
        return path

    def populate(self, path, number=1, populated=True):
        """Its first process comes, or the last one goes."""
        self.take(CgroupPopulated(UID.format(number), str(path), populated))

    def answer(self, pod):
        """The API server's answer to what was asked last: the pod of that name, or None."""
        self.take(PodFound(self.reporter.asked.pop().cgroup_uid, pod))

    def vanish(self, path, number=1):
        """Remove it and tell."""
        path.rmdir()
        self.take(CgroupVanished(UID.format(number), str(path)))

    def tend(self, ticks=1):
        """So many tenths of a second pass."""
        self.bench.tend(ticks)

    def egress(self, path):
        """The limit in the kernel."""
        target = self.bench.datapath.attached.get(str(path))
        return None if target is None else target.limits.egress.bits_per_second
