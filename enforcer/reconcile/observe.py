"""Reads what is: the cgroup tree, the programs on it, the interfaces. Decides nothing."""

from collections.abc import Iterable

from enforcer.ports import Datapath, Network
from enforcer.state import Observation
from enforcer.targets import cgroup_id


def observe(
    datapath: Datapath, network: Network, cgroup_paths: Iterable[str]
) -> dict[str, Observation]:
    """What is on each cgroup now. Raises ``DatapathError``."""
    return {path: _observe_one(datapath, network, path) for path in cgroup_paths}


def _observe_one(datapath: Datapath, network: Network, path: str) -> Observation:
    found = cgroup_id(path)
    if found is None:
        return Observation(None, None)
    return Observation(found, datapath.observe(path), network.observe(path, found))
