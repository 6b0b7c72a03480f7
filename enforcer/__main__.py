"""``podpace-enforcer``: the composition root; the only place that builds adapters."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from prometheus_client import CollectorRegistry

from contract.api import Health
from enforcer.api import metrics
from enforcer.api.capacity_metrics import CapacityCollector
from enforcer.api.control import make_control
from enforcer.api.group_metrics import GroupCollector
from enforcer.api.metrics import ErrorCounter
from enforcer.api.pages import make_pages
from enforcer.api.registry import register
from enforcer.api.requests import Requests
from enforcer.api.serve import served
from enforcer.api.sockets import notify_systemd, raise_descriptor_limit, refuse_second_daemon
from enforcer.cleanup import clean_up
from enforcer.datapath import build as build_datapath
from enforcer.datapath.abi import ABI_VERSION
from enforcer.datapath.shaper import ShaperPrograms
from enforcer.errors import EnforcerError, UnsupportedError
from enforcer.kube.advertise import ExtendedResources
from enforcer.kube.installation import Installation
from enforcer.kube.node_bookings import list_bookings
from enforcer.logs import make_log
from enforcer.loops import start_loop
from enforcer.net.shaping import LinkShaper
from enforcer.net.uplink import NodeLink
from enforcer.net.uplink_speed import read_uplink
from enforcer.options import capacity_options, parser
from enforcer.pods.node import Node
from enforcer.ports import CapacityProvider, Datapath, Log, Network
from enforcer.reconcile.complaints import Complaints
from enforcer.reconcile.reconciler import Reconciler
from enforcer.reconcile.store import TargetStore
from enforcer.reconcile.work_queue import WorkQueue
from enforcer.reconcile.worker import Worker
from enforcer.sharing.capacity import Capacities
from enforcer.sharing.loop import Sharing
from enforcer.targets import CgroupTree, find_cgroup_root
from enforcer.unsupported import UnsupportedDatapath, UnsupportedNetwork
from kube.errors import NoClusterError

_FINISH_SECONDS = 10
"""For what the worker has begun when the daemon is asked to end."""
_SWITCH_SECONDS = 0.0005
"""Between threads that compute. An attach makes some sixty system calls and may wait so long after
each; with Python's 5 ms, a new cgroup beside a resync of 500 waited up to 300 ms."""

BuildDatapath = Callable[[Path, Path, bool], Datapath]
"""(pin root, cgroup root, compile what is missing) to the datapath; raises ``UnsupportedError``."""


def _kernel_datapath(pin_root: Path, cgroup_root: Path, compile_missing: bool) -> Datapath:
    return build_datapath(pin_root, cgroup_root, compile_missing=compile_missing)


BuildNetwork = Callable[[Path], Network]
"""Pin root to the interfaces; the datapath has been built before. Raises OSError."""


def _kernel_network(pin_root: Path) -> Network:
    return LinkShaper(ShaperPrograms(pin_root))


def main(
    arguments: Sequence[str] | None = None,
    build: BuildDatapath = _kernel_datapath,
    build_network: BuildNetwork = _kernel_network,
    proc: Path = Path("/proc"),
) -> None:
    """Run the daemon in the foreground, or clean up; exits 1 with one line when it cannot."""
    options = parser().parse_args(arguments)
    try:
        run = _cleanup if options.cleanup else _run
        sys.exit(run(options, build, build_network, proc))
    except (EnforcerError, OSError) as error:
        sys.exit(f"podpace-enforcer: {error}")


def _run(
    options: argparse.Namespace, build: BuildDatapath, build_network: BuildNetwork, proc: Path
) -> int:
    sys.setswitchinterval(_SWITCH_SECONDS)
    refuse_second_daemon(options.socket)
    raise_descriptor_limit()
    cgroups = CgroupTree(find_cgroup_root(options.cgroup_root, proc), proc)
    registry = CollectorRegistry()
    count_error = metrics.ErrorCounter(registry)
    log = make_log(options.log_level)
    capacities = Capacities(capacity_options(options), read_uplink, log)
    node = None if options.node_name is None else _node(options, log, registry, count_error)
    offer = None if node is None or not options.advertise else _offer(node, capacities, log)
    if node is not None:
        # Compiling takes long on a slow machine: the pods are listed meanwhile.
        node.watch(capacities.annotate, None if offer is None else offer.see)
    datapath = _build_or_say(build, options, cgroups.root, log)
    network = _network_for(datapath, build_network, options.pin_root)
    health = Health(
        version("podpace"),
        ABI_VERSION,
        datapath.source_hash,
        str(cgroups.root),
        {**datapath.features(), **network.features()},
    )
    store = TargetStore(options.state_dir)
    store.lock()
    complaints, queue = Complaints(log, count_error), WorkQueue()
    sharing = Sharing(datapath, network, store, log, complaints, link=NodeLink(capacities.of))
    reconciler = Reconciler(
        datapath,
        network,
        store,
        queue,
        log=log,
        complaints=complaints,
        follows_pods=node is not None,
        sharing=sharing,
    )
    adopted = reconciler.adopt()
    pods = None if node is None else node.follow(reconciler, queue, adopted, cgroups.root)
    worker = Worker(
        reconciler,
        queue,
        datapath=datapath,
        network=network,
        log=log,
        complaints=complaints,
        pods=pods,
    )
    requests = Requests(worker, reconciler, cgroups, log, complaints, follows_pods=node is not None)
    shared = (
        GroupCollector(sharing.pools, reconciler.counters),
        CapacityCollector(capacities.of, offer),
    )
    of_pods = register(registry, reconciler, health, node, shared, with_pods=options.pod_metrics)
    ending = threading.Event()

    def ready() -> bool:
        return not ending.is_set() and (node is None or (node.listed and supported))

    supported = not isinstance(datapath, UnsupportedDatapath)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    installation = _installation(options, log) if node is not None else None
    for name, step in (
        ("watch links", worker.watch_links),
        ("watch uplink", capacities.step),
        ("share", sharing.step),
        ("watch processes", reconciler.processes.step),
        *((("watch the installation", installation.step),) if installation is not None else ()),
        *((("advertise", offer.step),) if offer is not None else ()),
    ):
        start_loop(name, step, ending, log, count_error)
    working = [
        start_loop(name, partial(run, ending), ending, log, count_error)
        for name, run in (("reconcile", worker.run), ("urgent", worker.run_urgent))
    ]
    try:
        pages = make_pages(registry, of_pods, ready, worker.stuck)
        control = make_control(reconciler, requests, health)
        with served(options.socket, options.metrics_address, control, pages, log):
            log.info("started", socket=str(options.socket), cgroup_root=str(cgroups.root))
            notify_systemd()
            ending.wait()
    finally:
        ending.set()
        queue.close()
        for thread in working:
            thread.join(timeout=_FINISH_SECONDS)
        if node is not None:
            node.stop()
    log.info("stopped", targets_still_limited=len(reconciler.targets()))
    if installation is not None and installation.removed():
        _clean_for_good(offer, log)
    return 0


def _offer(node: Node, capacities: Capacities, log: Log) -> ExtendedResources:
    """What pods can book here; nothing is said of it before pods and device are known."""

    def ready() -> bool:
        return capacities.looked and node.listed

    read = capacities.bits_per_second
    return ExtendedResources(
        node.api,
        node.name,
        read,
        node.booked,
        list_booked=partial(list_bookings, node.api, node.name),
        ready=ready,
        log=log,
    )


def _clean_for_good(offer: CapacityProvider | None, log: Log) -> NoReturn:
    log.info("the installation is removed: cleaning up")
    if offer is not None:
        offer.withdraw()
    # A process of its own: this one holds locks and maps.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "--cleanup=json"])  # noqa: S606


def _node(
    options: argparse.Namespace, log: Log, registry: CollectorRegistry, count_error: ErrorCounter
) -> Node:
    # Imported only where it is wanted: 5 MB that a host without Kubernetes need not have.
    from kube.api import KubeApi
    from kube.credentials import load

    try:
        api = KubeApi(lambda: load(options.kubeconfig))
    except NoClusterError as error:
        message = f"{error}; give --kubeconfig, or leave out --node-name"
        raise EnforcerError(message) from error
    return Node(
        options.node_name,
        api,
        log,
        count_error,
        metrics.RestartCounter(registry),
        options.splay_seconds,
    )


def _installation(options: argparse.Namespace, log: Log) -> Installation | None:
    if options.installation is None:
        return None
    from kube.api import KubeApi
    from kube.credentials import load

    namespace, name = options.installation
    return Installation(KubeApi(lambda: load(options.kubeconfig)), namespace, name, log)


def _build_or_say(
    build: BuildDatapath, options: argparse.Namespace, cgroup_root: Path, log: Log
) -> Datapath:
    """On a node, the pods' conditions say what is missing; elsewhere the daemon does not start."""
    try:
        return build(options.pin_root, cgroup_root, not options.cleanup)
    except UnsupportedError as error:
        if options.node_name is None:
            raise
        log.error("unsupported", reason=str(error))
        return UnsupportedDatapath(str(error))


def _network_for(datapath: Datapath, build: BuildNetwork, pin_root: Path) -> Network:
    if isinstance(datapath, UnsupportedDatapath):
        return UnsupportedNetwork(next(iter(datapath.features().values())))
    return build(pin_root)


def _cleanup(
    options: argparse.Namespace, build: BuildDatapath, build_network: BuildNetwork, proc: Path
) -> int:
    refuse_second_daemon(options.socket)
    log = make_log(options.log_level)
    cgroups = CgroupTree(find_cgroup_root(options.cgroup_root, proc), proc)
    # A node that cannot limit has files of ours at most; pins, were there any, would be found left.
    datapath = _build_or_say(build, options, cgroups.root, log)
    if options.state_dir.is_dir():
        TargetStore(options.state_dir).lock()
    done = clean_up(
        datapath,
        _network_for(datapath, build_network, options.pin_root),
        cgroups,
        pin_root=options.pin_root,
        state_dir=options.state_dir,
        socket_path=options.socket,
        say=print if options.cleanup == "text" else lambda line: log.info("cleanup", said=line),
    )
    return 0 if done else 1


if __name__ == "__main__":
    main()
