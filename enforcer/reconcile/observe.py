"""Reads what is: the cgroup tree, the programs on it, the interfaces. Decides nothing."""

from enforcer.ports import Datapath, Network
from enforcer.state import Observation, Target
from enforcer.targets import cgroup_id


def observe(datapath: Datapath, network: Network, target: Target) -> Observation:
    """What is at the target's path now, be it another cgroup. Raises ``DatapathError``."""
    found = cgroup_id(target.cgroup_path)
    if found is None:
        return Observation(None, None)
    around = network.observe(target.cgroup_path, found, target.uses_host_network)
    return Observation(found, datapath.observe(target.cgroup_path), around)
