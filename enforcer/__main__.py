"""``podpace-enforcer``: the composition root; the only place that builds adapters."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry

from contract.api import Health
from contract.names import DEFAULT_SOCKET_PATH
from enforcer import control, metrics
from enforcer.cleanup import clean_up
from enforcer.daemon import Daemon
from enforcer.datapath import build as build_datapath
from enforcer.datapath.abi import ABI_VERSION
from enforcer.errors import EnforcerError
from enforcer.logs import LEVELS, make_log
from enforcer.net.qdiscs import keeps_departure_times
from enforcer.ports import Datapath
from enforcer.serve import serve
from enforcer.sockets import listen_tcp, listen_unix, refuse_second_daemon, remove_own
from enforcer.store import TargetStore
from enforcer.targets import CgroupTree, find_cgroup_root

BuildDatapath = Callable[[Path, Path], Datapath]
"""(pin root, cgroup root) to the datapath; raises ``UnsupportedError``."""


def _kernel_datapath(pin_root: Path, cgroup_root: Path) -> Datapath:
    return build_datapath(pin_root, cgroup_root, keeps_departure_times)


def main(
    arguments: Sequence[str] | None = None,
    build: BuildDatapath = _kernel_datapath,
    proc: Path = Path("/proc"),
) -> None:
    """Run the daemon in the foreground, or clean up; exits 1 with one line when it cannot."""
    options = _parser().parse_args(arguments)
    try:
        run = _cleanup if options.cleanup else _run
        sys.exit(run(options, build, proc))
    except (EnforcerError, OSError) as error:
        sys.exit(f"podpace-enforcer: {error}")


def _run(options: argparse.Namespace, build: BuildDatapath, proc: Path) -> int:
    refuse_second_daemon(options.socket)
    cgroups = CgroupTree(find_cgroup_root(options.cgroup_root, proc), proc)
    datapath = build(options.pin_root, cgroups.root)
    log = make_log(options.log_level)
    health = Health(
        version("podpace"),
        ABI_VERSION,
        datapath.source_hash,
        str(cgroups.root),
        dict(datapath.features()),
    )
    registry = CollectorRegistry()
    daemon = Daemon(
        datapath, cgroups, TargetStore(options.state_dir), log, metrics.ErrorCounter(registry)
    )
    registry.register(metrics.TargetCollector(daemon.counters, health))
    daemon.adopt()

    stopping = asyncio.Event()
    listener = listen_unix(options.socket)
    inode = options.socket.stat().st_ino
    try:
        with ThreadPoolExecutor(2, "request") as worker:
            apps = [(control.create_app(daemon, health, worker, log), listener)]
            if options.metrics_address is not None:
                app = metrics.create_app(registry, lambda: not stopping.is_set(), worker)
                apps.append((app, listen_tcp(*options.metrics_address)))
            log.info("started", socket=str(options.socket), cgroup_root=str(cgroups.root))
            asyncio.run(serve(apps, daemon.tend, daemon.resync, stopping))
    finally:
        remove_own(options.socket, inode)
    log.info("stopped", targets_still_limited=len(daemon.targets()))
    return 0


def _cleanup(options: argparse.Namespace, build: BuildDatapath, proc: Path) -> int:
    refuse_second_daemon(options.socket)
    cgroups = CgroupTree(find_cgroup_root(options.cgroup_root, proc), proc)
    datapath = build(options.pin_root, cgroups.root)
    done = clean_up(
        datapath,
        cgroups,
        pin_root=options.pin_root,
        state_dir=options.state_dir,
        socket_path=options.socket,
        say=print,
    )
    return 0 if done else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="podpace-enforcer",
        description="Holds cgroups to their bandwidth limits. Runs in the foreground; SIGTERM "
        "ends it and leaves every limit in force.",
    )
    parser.add_argument("--socket", type=Path, default=Path(DEFAULT_SOCKET_PATH), metavar="PATH")
    parser.add_argument(
        "--metrics-address",
        type=_address,
        metavar="HOST:PORT",
        help="serve /metrics, /livez and /readyz there (default: off)",
    )
    parser.add_argument(
        "--cgroup-root", type=Path, metavar="PATH", help="default: the first cgroup v2 mount"
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument(
        "--pin-root", type=Path, default=Path("/sys/fs/bpf/podpace"), metavar="PATH"
    )
    parser.add_argument(
        "--state-dir", type=Path, default=Path("/run/podpace/targets"), metavar="PATH"
    )
    parser.add_argument(
        "--cleanup",
        action="store_true",
        help="take every limit off, remove every program, pin, state file and socket, and exit",
    )
    parser.add_argument("--version", action="version", version=version("podpace"))
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no HOST:PORT; write one such as 127.0.0.1:9464'
        )
    return host, int(port)


if __name__ == "__main__":
    main()
