"""A daemon in this process, with fakes around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.api.requests import Requests
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.daemon import Daemon
from enforcer.reconcile.holder import Holder
from enforcer.reconcile.store import TargetStore
from enforcer.targets import CgroupTree
from tests.fakes import FakeDatapath, FakeLog, FakeNetwork
from tests.processes import Daemon as DaemonProcess
from tests.processes import enforcer, fake_machine
from tests.unit.enforcer.pod_node import Node


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
        self.restart()
        self.daemon.adopt()

    def restart(self) -> None:
        """A new daemon over the same kernel and state folder; it has not adopted yet."""
        self.log = FakeLog()
        self.errors: list[str] = []
        self.looked: list[str] = []
        self.complaints = Complaints(self.log, self.errors.append)
        store = TargetStore(self.work / "state")
        self.holder = Holder(self.datapath, self.network, store, self.log, self.complaints)
        self.daemon = Daemon(
            self.holder,
            self.datapath,
            store,
            self.log,
            self.complaints,
            looked=self.looked.append,
        )
        self.requests = Requests(
            self.holder,
            self.cgroups,
            store,
            self.log,
            self.complaints,
            follows_pods=self.follows_pods,
        )

    @property
    def state_files(self) -> list[Path]:
        """What is on disk."""
        return sorted((self.work / "state").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A daemon that runs, with one cgroup ``kubepods/pod1``."""
    return Bench(tmp_path)


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
