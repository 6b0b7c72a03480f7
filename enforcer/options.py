"""The daemon's command line."""

import argparse
from importlib.metadata import version
from pathlib import Path

from contract.names import DEFAULT_SOCKET_PATH, RESOURCES, Direction
from contract.problems import Problem
from contract.quantity import parse_bits_per_second
from enforcer.logs import LEVELS


def parser() -> argparse.ArgumentParser:
    """Of ``podpace-enforcer``."""
    found = argparse.ArgumentParser(
        prog="podpace-enforcer",
        description="Holds cgroups to their bandwidth limits. Runs in the foreground; SIGTERM "
        "ends it and leaves every limit in force.",
    )
    found.add_argument("--socket", type=Path, default=Path(DEFAULT_SOCKET_PATH), metavar="PATH")
    found.add_argument(
        "--metrics-address",
        type=_address,
        metavar="HOST:PORT",
        help="serve /metrics, /livez and /readyz there (default: off)",
    )
    found.add_argument(
        "--cgroup-root", type=Path, metavar="PATH", help="default: the first cgroup v2 mount"
    )
    found.add_argument("--log-level", choices=LEVELS, default="info")
    found.add_argument("--pin-root", type=Path, default=Path("/sys/fs/bpf/podpace"), metavar="PATH")
    found.add_argument(
        "--state-dir", type=Path, default=Path("/run/podpace/targets"), metavar="PATH"
    )
    found.add_argument(
        "--node-name",
        metavar="NAME",
        help="follow the limited pods that are scheduled to this node (default: off)",
    )
    found.add_argument(
        "--installation",
        type=_namespaced,
        metavar="NAMESPACE/CONFIGMAP",
        help="with --node-name: when this or its namespace has been deleted, SIGTERM takes every "
        "limit off (default: off)",
    )
    found.add_argument(
        "--kubeconfig",
        metavar="PATH",
        help="how to reach the API server (default: the pod's service account)",
    )
    found.add_argument(
        "--pod-metrics",
        action="store_true",
        help="/metrics has the series of pods too (/metrics/pods always has)",
    )
    for direction in Direction:
        found.add_argument(
            f"--{direction}-capacity",
            type=_bits_per_second,
            metavar="QUANTITY",
            help="what all targets of this node share, in bits per second, such as 10G "
            "(default: 0.95 of the speed of the default route's device)",
        )
    found.add_argument(
        "--advertise",
        action="store_true",
        help="with --node-name: tell the scheduler that capacity, as "
        f"{' and '.join(RESOURCES.values())} of the Node",
    )
    found.add_argument(
        "--splay-seconds",
        type=_seconds,
        default=3.0,
        metavar="S",
        help="the first list comes after a random part of this (default: 3)",
    )
    found.add_argument(
        "--cleanup",
        nargs="?",
        choices=("text", "json"),
        const="text",
        help="take every limit off, remove every program, pin, state file and socket, and exit; "
        "says what it does as text or as log lines",
    )
    found.add_argument("--version", action="version", version=version("podpace"))
    return found


def _namespaced(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(f'"{text}" is no NAMESPACE/NAME')
    return namespace, name


def capacity_options(options: argparse.Namespace) -> dict[Direction, int | None]:
    """What the command line says of the node's capacity, in bits per second."""
    return {direction: getattr(options, f"{direction}_capacity") for direction in Direction}


def _bits_per_second(text: str) -> int:
    found = parse_bits_per_second("", text)
    if isinstance(found, Problem):
        raise argparse.ArgumentTypeError(f'"{text}" {found.reason}; {found.fix}')
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 300:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds from 0 to 300')
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no HOST:PORT; write one such as 127.0.0.1:9464'
        )
    return host, int(port)
