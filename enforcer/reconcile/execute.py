"""Runs actions; the only place that changes the kernel.

Failure contract:
1. An action that raises ``DatapathError`` has changed nothing (see ``ports.Datapath``), and no
   later action runs.
2. The point of no return of ``Write`` and ``Detach`` is the datapath call; what comes after it is a
   log line. ``Shape`` first puts interfaces right, then tells the programs on the cgroup, which
   hold the limit until then; ``Unshape`` the other way round.
3. The store is written by the caller before an attach and after a detach, so that a daemon that
   dies in between finishes the job when it starts again.
"""

from typing import Any

from contract.limits import Limit, Limits
from contract.names import Direction
from enforcer.ports import Datapath, Log, Network
from enforcer.reconcile.plan import Action, Detach, Forget, Shape, Unshape, Write
from enforcer.reconcile.store import TargetStore
from enforcer.state import Target, bound


def execute(
    action: Action,
    cause: str,
    *,
    datapath: Datapath,
    network: Network,
    store: TargetStore,
    log: Log,
) -> None:
    """Do it and say so. ``cause`` (request, restart, resync) goes into the log line."""
    match action:
        case Write(target, way, what, before):
            datapath.write(target, way)
            _tell(log, what, cause, target, before)
        case Detach(cgroup_path):
            datapath.detach(cgroup_path)
            log.info("detached", cause=cause, cgroup=cgroup_path)
        case Forget(target):
            network.unshape(target.cgroup_id)
            datapath.forget(target.cgroup_id)
            store.remove(target)
            log.info("forgotten", cause=cause, target=target.name, reason="its cgroup was removed")
        case Shape(target, shaping, links, way, before):
            network.shape(target.cgroup_id, shaping, links)
            datapath.write(target, way)
            if before is not None:
                _tell(log, "changed", cause, target, before)
            names = [link.name for link in links]
            how = "shaped" if shaping.rate_bytes_per_sec else "bounded"
            log.info(how, cause=cause, target=target.name, interfaces=names)
        case Unshape(cgroup_path, cgroup_id, target, why, way):
            if target is not None:
                datapath.write(target, way)
            network.unshape(cgroup_id)
            log.info("unshaped", cause=cause, cgroup=cgroup_path, reason=why)


def _tell(log: Log, what: str, cause: str, target: Target, before: Limits | None) -> None:
    was = {"before": None if before is None else describe(before)} if what == "changed" else {}
    log.info(what, cause=cause, target=target.name, **describe(target.limits), **was)


def describe(limits: Limits) -> dict[str, Any]:
    """Limits as fields of a log line, in bits per second."""

    def bits(limit: Limit | None) -> int | None:
        return None if limit is None else limit.bits_per_second

    return {
        "ingress_bits_per_second": bits(bound(limits, Direction.INGRESS)),
        "egress_bits_per_second": bits(bound(limits, Direction.EGRESS)),
        "mode": str(limits.mode),
    }
