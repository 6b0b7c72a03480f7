"""Reads what is: the cgroup tree, the programs on it, the interfaces. Decides nothing."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from enforcer.ports import Datapath, Network
from enforcer.reconcile.ways import Bypass
from enforcer.reconcile.work_queue import RESYNC
from enforcer.state import Observation, Target, Way
from enforcer.targets import cgroup_id

_FRESH_SECONDS: Final = 25.0
"""Two resyncs out of three take the interfaces for what they were, as nobody told of a change: to
look at those is four fifths of what a look costs."""


class Observer:
    """Safe to call from several threads, for one target by one at a time."""

    def __init__(
        self, datapath: Datapath, network: Network, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._datapath = datapath
        self._network = network
        self._clock = clock
        self._bypass = Bypass()
        self._kept: dict[str, tuple[float, Observation]] = {}

    def look(self, target: Target) -> Observation:
        """What is at the target's path now, be it another cgroup. Raises ``DatapathError``."""
        path = target.cgroup_path
        found = cgroup_id(path)
        if found is None:
            return Observation(None, None)
        around = self._network.observe(path, found, target.uses_host_network)
        return Observation(found, self._datapath.observe(path), around)

    def look_at(self, target: Target, cause: str, way: Way) -> Observation:
        """The same, with whether packets pass its interfaces by; ``way`` is how it is held now."""
        path = target.cgroup_path
        kept = self._kept.pop(path, None)
        if kept is not None and cause == RESYNC and self._clock() - kept[0] < _FRESH_SECONDS:
            self._kept[path] = kept
            found, attachment = cgroup_id(path), self._datapath.observe(path)
            return replace(kept[1], cgroup_id=found, attachment=attachment)
        observation = self.look(target)
        shaper = self._network.counters(target.cgroup_id)
        if shaper is None or observation.attachment is None:
            observation = self._bypass.known(path, observation)
        else:
            counted = self._datapath.counters(target)
            observation = self._bypass.noted(path, observation, shaper, counted, way)
        self._kept[path] = self._clock(), observation
        return observation

    def acted(self, cgroup_path: str) -> None:
        """What was found there is so no more."""
        self._kept.pop(cgroup_path, None)

    def forget(self, cgroup_path: str) -> None:
        """The target is not limited any more."""
        self.acted(cgroup_path)
        self._bypass.forget(cgroup_path)
