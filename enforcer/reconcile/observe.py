"""Reads what is: the cgroup tree, the programs on it, the interfaces. Decides nothing."""

from enforcer.ports import Datapath, Network
from enforcer.state import Observation
from enforcer.targets import cgroup_id


def observe(datapath: Datapath, network: Network, cgroup_path: str) -> Observation:
    """What is on a cgroup now. Raises ``DatapathError``."""
    found = cgroup_id(cgroup_path)
    if found is None:
        return Observation(None, None)
    around = network.observe(cgroup_path, found)
    return Observation(found, datapath.observe(cgroup_path), around)
