"""Reads what is: the cgroup tree, the programs on it, the interfaces. Decides nothing."""

import time
from collections.abc import Callable, Hashable
from typing import Final

from enforcer.ports import Datapath, Network
from enforcer.reconcile.ways import Bypass
from enforcer.state import Observation, Target, Way
from enforcer.targets import cgroup_id

_FRESH_SECONDS: Final = 35.0
"""Three resyncs out of four only see whether what is on the cgroup is what it was: interfaces tell
of most of their changes, and to look at those is four fifths of what a look costs."""


class Observer:
    """Safe to call from several threads, for one target by one at a time."""

    def __init__(
        self, datapath: Datapath, network: Network, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._datapath = datapath
        self._network = network
        self._clock = clock
        self._bypass = Bypass()
        self._left: dict[str, tuple[float, Hashable]] = {}

    def look(self, target: Target) -> Observation:
        """What is at the target's path now, be it another cgroup. Raises ``DatapathError``."""
        path = target.cgroup_path
        found = cgroup_id(path)
        if found is None:
            return Observation(None, None)
        around = self._network.observe(path, found, target.uses_host_network)
        return Observation(found, self._datapath.observe(path), around)

    def look_at(self, target: Target, way: Way) -> Observation:
        """The same, with whether packets pass its interfaces by; ``way`` is how it is held now."""
        path = target.cgroup_path
        observation = self.look(target)
        shaper = self._network.counters(target.cgroup_id)
        if shaper is None or observation.attachment is None:
            return self._bypass.known(path, observation)
        counted = self._datapath.counters(target)
        return self._bypass.noted(path, observation, shaper, counted, way)

    def mark(self, cgroup_path: str) -> Hashable:
        """What is on a cgroup now, for :meth:`leave`; to be taken before the look."""
        self._left.pop(cgroup_path, None)
        return self._datapath.mark(cgroup_path)

    def leave(self, cgroup_path: str, mark: Hashable) -> None:
        """Everything there was as it should be."""
        self._left[cgroup_path] = self._clock(), mark

    def is_as_left(self, cgroup_path: str) -> bool:
        """Whether that was a while ago at most, and what is on the cgroup has not changed."""
        at, mark = self._left.get(cgroup_path, (0.0, None))
        if mark is None or self._clock() - at > _FRESH_SECONDS:
            return False
        return self._datapath.mark(cgroup_path) == mark

    def forget(self, cgroup_path: str) -> None:
        """The target is not limited any more."""
        self._left.pop(cgroup_path, None)
        self._bypass.forget(cgroup_path)
