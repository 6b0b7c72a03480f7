"""Three simulated nodes, each with another kubelet's way of naming cgroups."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.rig import cgroup2_mount, private_bpffs
from bench.rig.topology import own_cgroup
from tests.cluster.install import Installation
from tests.cluster.nodes.enforcer import Enforcer
from tests.cluster.nodes.kubelet import SimulatedNode
from tests.cluster.nodes.layout import CGROUPFS, KIND, SYSTEMD
from tests.cluster.nodes.network import NodeNetwork, Switch
from tests.needs import missing

LAYOUTS = {"sim-cgroupfs": CGROUPFS, "sim-systemd": SYSTEMD, "sim-kind": KIND}


@pytest.fixture(scope="package")
def nodes(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[SimulatedNode]]:
    """Nodes without daemons."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing("needs root, iproute2 and iperf3 for nodes on this machine: run make setup as root")
    with ExitStack() as stack:
        switch = stack.enter_context(Switch())
        top = stack.enter_context(own_cgroup(cgroup2_mount() / switch.name))
        made = []
        for number, (name, layout) in enumerate(LAYOUTS.items()):
            network = NodeNetwork(switch, number)
            node = SimulatedNode(installation.plane, name, network, top / name, layout)
            node.start()
            stack.callback(node.stop)
            made.append(node)
        yield made


@pytest.fixture(scope="package")
def enforcers(
    nodes: list[SimulatedNode],
    installation: Installation,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Enforcer]]:
    """Their daemons, which have seen their pods."""
    work = Path(tmp_path_factory.mktemp("enforcers"))
    with ExitStack() as stack:
        bpffs = stack.enter_context(private_bpffs(work))
        made = []
        for node in nodes:
            enforcer = Enforcer(installation.plane, node, work, bpffs)
            stack.callback(enforcer.close)
            enforcer.start()
            made.append(enforcer)
        yield made
