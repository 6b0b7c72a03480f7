"""Reads what is: the cgroup tree and the programs on it. Decides nothing."""

from collections.abc import Iterable

from enforcer.ports import Datapath
from enforcer.state import Observation
from enforcer.targets import cgroup_id


def observe(datapath: Datapath, cgroup_paths: Iterable[str]) -> dict[str, Observation]:
    """What is on each cgroup now. Raises ``DatapathError``."""
    return {path: _observe_one(datapath, path) for path in cgroup_paths}


def _observe_one(datapath: Datapath, path: str) -> Observation:
    found = cgroup_id(path)
    return Observation(found, None if found is None else datapath.observe(path))
