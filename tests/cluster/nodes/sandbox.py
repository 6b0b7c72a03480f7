"""One pod on a simulated node: its cgroup, its network namespace, its processes."""

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from select import POLLERR, POLLPRI, poll
from typing import Final

from bench.rig import Place
from bench.rig.process import shielded
from tests.cluster.nodes.layout import Layout
from tests.cluster.nodes.network import NodeNetwork, PodNetwork

_IDLE: Final = ("sleep", "infinity")
_EMPTY_SECONDS: Final = 10


@dataclass
class Sandbox:
    """Made and removed by the node; tests kill, restart and talk through it."""

    node_network: NodeNetwork
    cgroup: Path
    """The pod's own."""
    layout: Layout
    commands: dict[str, list[str]]
    """By container; without one it sleeps."""
    host_network: bool = False
    network: PodNetwork | None = None
    containers: dict[str, Path] = field(default_factory=dict)
    """Their cgroups."""
    cgroup_made_at: float = 0.0
    """time.time() just before the pod's cgroup was made."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """In the kubelet's order: cgroup, network with the sandbox's process, containers."""
        self._make_cgroup()
        if not self.host_network:
            self.network = self.node_network.add_pod()
        self._start_processes()

    def stop(self) -> None:
        """Everything of it goes."""
        with shielded():
            self._remove_cgroup()
            if self.network is not None:
                self.node_network.remove_pod(self.network)

    def restart_container(self, name: str) -> None:
        """Killed and started again, in a cgroup of its own as every container."""
        with shielded():
            _empty(self.containers[name])
            self.containers[name].rmdir()
        self._reap()
        self._start_container(name)

    def recreate(self) -> None:
        """The pod's cgroup goes with all that runs in it and comes back under the same name."""
        self._remove_cgroup()
        self._make_cgroup()
        self._start_processes()

    def place(self, container: str | None = None) -> Place:
        """Where commands run as if they were a container's."""
        cgroup = self.containers[container or next(iter(self.containers))]
        return Place(self._namespace, cgroup)

    @property
    def addresses(self) -> dict[int, str]:
        """By family."""
        return self.network.addresses if self.network else self.node_network.addresses

    @property
    def _namespace(self) -> str:
        return self.network.name if self.network else self.node_network.name

    def _make_cgroup(self) -> None:
        self.cgroup.parent.mkdir(parents=True, exist_ok=True)
        self.cgroup_made_at = time.time()
        self.cgroup.mkdir()

    def _start_processes(self) -> None:
        # What keeps the namespaces, as the pause container does.
        self._run(_IDLE, self._make_container())
        for name in self.commands:
            self._start_container(name)

    def _start_container(self, name: str) -> None:
        cgroup = self._make_container()
        self.containers[name] = cgroup
        self._run(self.commands[name] or _IDLE, cgroup)

    def _make_container(self) -> Path:
        path = self.cgroup / self.layout.container()
        path.mkdir()
        return path

    def _run(self, command: tuple[str, ...] | list[str], cgroup: Path) -> None:
        quiet = subprocess.DEVNULL
        argv = Place(self._namespace, cgroup).command(*command)
        self._processes.append(
            subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        )

    def _remove_cgroup(self) -> None:
        if not self.cgroup.exists():
            return
        _empty(self.cgroup)
        for child in self.cgroup.iterdir():
            if child.is_dir():
                child.rmdir()
        self.cgroup.rmdir()
        self._reap()

    def _reap(self) -> None:
        self._processes = [p for p in self._processes if p.poll() is None]


def _empty(cgroup: Path) -> None:
    (cgroup / "cgroup.kill").write_text("1")
    with (cgroup / "cgroup.events").open() as events:
        changed = poll()
        changed.register(events, POLLPRI | POLLERR)
        while "populated 1" in events.read():
            assert changed.poll(_EMPTY_SECONDS * 1000), f"{cgroup} cannot be emptied"
            events.seek(0)
