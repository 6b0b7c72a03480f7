"""Brings the kernel to what one target asks for: observe, plan, execute."""

import threading
from typing import Final

from enforcer.errors import DatapathError
from enforcer.ports import Datapath, Log, Network
from enforcer.reconcile.actions import Action, Forget, Shape
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.execute import execute
from enforcer.reconcile.observe import observe
from enforcer.reconcile.plan import plan
from enforcer.reconcile.relook import Relook
from enforcer.reconcile.store import TargetStore
from enforcer.reconcile.ways import Bypass, Way, ingress_way, with_way
from enforcer.state import Observation, Target, TargetCounters

_NO_WAY: Final = Way(False)
_LOCKS: Final = 64


class Holder:
    """Safe to call from several threads, for one target by one at a time: see :meth:`lock`.

    One lock for all would let a new pod wait for the interfaces of another, which the kernel
    changes one after the other: 10 to 50 ms on a node where pods come and go.
    """

    def __init__(
        self,
        datapath: Datapath,
        network: Network,
        store: TargetStore,
        log: Log,
        complaints: Complaints,
    ) -> None:
        self._datapath = datapath
        self._network = network
        self._store = store
        self._log = log
        self._complaints = complaints
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self._ways: dict[str, Way] = {}
        self._bypass = Bypass()
        self.relook = Relook()

    def lock(self, cgroup_path: str) -> threading.Lock:
        """Held by the caller of every other method: what is found stays true until it is used."""
        return self._locks[hash(cgroup_path) % _LOCKS]

    def way(self, cgroup_path: str) -> Way:
        """How incoming traffic is held, as of the last look."""
        return self._ways.get(cgroup_path, _NO_WAY)

    def converge(self, target: Target, cause: str) -> tuple[Action, ...]:
        """Make it so; what was done. Raises DatapathError, OSError."""
        path = target.cgroup_path
        observation = self._observe(target)
        actions = plan({path: target}, {path: observation})
        way = ingress_way(target, observation)
        for action in actions:
            try:
                self._execute(action, cause)
            except DatapathError as error:
                if not isinstance(action, Shape):
                    raise
                # The programs on the cgroup hold the limit; the next look tries again.
                self._complaints.failed("shape", str(error), target)
                self._datapath.set_limits(target)
                way = Way(False, str(error))
        if any(isinstance(action, Forget) for action in actions):
            self._forget(path)
            return actions
        self._ways[path] = way
        has_ingress = target.limits.ingress is not None and observation.cgroup_id is not None
        self.relook.found(path, settled=way.is_shaped or not has_ingress)
        return actions

    def let_go(self, target: Target, cause: str) -> None:
        """Take everything of ours off. Raises DatapathError, OSError."""
        for action in plan({}, observe(self._datapath, self._network, (target.cgroup_path,))):
            self._execute(action, cause)
        self._forget(target.cgroup_path)
        self._store.remove(target)

    def count(self, target: Target) -> TargetCounters:
        """What the kernel counted, and how the limits are held. Raises DatapathError."""
        way = self._ways.get(target.cgroup_path)
        return with_way(
            self._datapath.counters(target), way, self._network.counters(target.cgroup_id)
        )

    def _observe(self, target: Target) -> Observation:
        path = target.cgroup_path
        observation = observe(self._datapath, self._network, (path,))[path]
        if not self.way(path).is_shaped or observation.attachment is None:
            return self._bypass.known(path, observation)
        shaper = self._network.counters(target.cgroup_id)
        counted = self._datapath.counters(target).ingress
        return self._bypass.noted(path, observation, shaper, counted)

    def _forget(self, path: str) -> None:
        """Keep nothing of a target that is none any more."""
        self._ways.pop(path, None)
        self._bypass.forget(path)
        self.relook.forget(path)
        self._complaints.forget(path)

    def _execute(self, action: Action, cause: str) -> None:
        execute(
            action,
            cause,
            datapath=self._datapath,
            network=self._network,
            store=self._store,
            log=self._log,
        )
