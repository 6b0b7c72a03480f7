"""A daemon in this process, with fakes around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.api.requests import Requests
from enforcer.ports import SharedLink
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.store import TargetStore
from enforcer.reconcile.work_queue import WorkQueue
from enforcer.reconcile.worker import Pods, Worker
from enforcer.sharing.loop import Sharing
from enforcer.targets import CgroupTree
from tests.fakes import FakeDatapath, FakeLog, FakeNetwork
from tests.processes import Daemon as DaemonProcess
from tests.processes import enforcer, fake_machine
from tests.unit.enforcer.pod_node import Node


class _StepWorker(Worker):
    """Works in the thread of whoever asks."""

    def ask(self, key, job):
        future = self.submit(key, job)
        while not future.done():
            assert self.step(0)
        return future.result()


class Bench:
    """A daemon, what it works on, and what it said."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tree = fake_machine(work)
        self.pod = self.tree / "kubepods/pod1"
        self.pod.mkdir(parents=True)
        self.datapath = FakeDatapath()
        self.network = FakeNetwork()
        self.cgroups = CgroupTree(self.tree, work / "proc")
        self.follows_pods = False
        self.link: SharedLink | None = None
        self.now = 0.0
        """The queue's clock."""
        self.restart()
        self.reconciler.adopt()

    def restart(self) -> None:
        """A new daemon over the same kernel and state folder; it has not adopted yet."""
        self.end()
        self.log = FakeLog()
        self.errors: list[str] = []
        self.complaints = Complaints(self.log, self.errors.append)
        self.store = TargetStore(self.work / "state")
        self.queue = WorkQueue(lambda: self.now)
        self.reconciler = Reconciler(
            self.datapath,
            self.network,
            self.store,
            self.queue,
            log=self.log,
            complaints=self.complaints,
            follows_pods=self.follows_pods,
            sharing=Sharing(
                self.datapath,
                self.network,
                self.store,
                self.log,
                self.complaints,
                link=self.link,
            ),
        )
        self.begin(None)

    def end(self) -> None:
        """Nothing runs any more."""
        if hasattr(self, "reconciler"):
            self.reconciler.processes.close()

    def begin(self, pods: Pods | None) -> None:
        """A worker that works when :meth:`drain` says so, and at once when a request waits."""
        self.worker = _StepWorker(
            self.reconciler,
            self.queue,
            datapath=self.datapath,
            network=self.network,
            log=self.log,
            complaints=self.complaints,
            pods=pods,
            clock=lambda: self.now,
        )
        self.requests = Requests(
            self.worker,
            self.reconciler,
            self.cgroups,
            self.log,
            self.complaints,
            follows_pods=self.follows_pods,
        )

    def drain(self) -> None:
        """Everything that is to be done now."""
        while self.worker.step(0):
            pass

    def take(self, key: str) -> None:
        """What is to be done of this key, and all that follows at once."""
        self.queue.add(key, "test")
        self.drain()

    def resync(self) -> None:
        """Ten seconds have passed."""
        self.take("*resync")

    def tend(self, ticks: int = 1) -> None:
        """So many tenths of a second pass."""
        for _ in range(ticks):
            self.now += 0.1
            self.reconciler.processes.step(0)
            self.drain()

    @property
    def state_files(self) -> list[Path]:
        """What is on disk."""
        return sorted((self.work / "state").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A daemon that runs, with one cgroup ``kubepods/pod1``."""
    found = Bench(tmp_path)
    yield found
    found.end()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon in a process of its own, with one cgroup ``/pod``."""
    (fake_machine(tmp_path) / "pod").mkdir()
    with enforcer(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def node(bench: Bench) -> Node:
    """A node without pods."""
    return Node(bench)
