"""Nodes' networks: a namespace and a bridge for each node, all on one switch.

    pod ── veth ── bridge of its node ── uplink ── switch ── uplink ── bridge of another node

Every pod has an address of one flat v4 and one flat v6 network. The machine's own namespace keeps
no interface of ours.
"""

import ctypes
import itertools
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Final, TypeVar

from bench.rig import Place
from bench.rig.process import sh, shielded

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000
_ADDRESSES: Final = 3900
"""Of each node; the first is its own."""


class Switch:
    """The namespace that joins the nodes. Use as a context manager."""

    def __init__(self) -> None:
        self.name = f"podpace-{secrets.token_hex(3)}"

    def __enter__(self) -> "Switch":
        sh("ip", "netns", "add", self.name)
        batch(self.name, ["link add name hub type bridge mcast_snooping 0", "link set hub up"])
        return self

    def __exit__(self, *_: object) -> None:
        with shielded():
            sh("ip", "netns", "del", self.name)


class NodeNetwork:
    """One node's namespace and bridge; ``number`` (0 to 15) makes its addresses."""

    def __init__(self, switch: Switch, number: int) -> None:
        self.name = f"{switch.name}-n{number}"
        self._switch = switch
        self._number = number
        self._pods = itertools.count(2)

    @property
    def place(self) -> Place:
        """The node's own namespace, where its daemon runs."""
        return Place(self.name)

    @property
    def addresses(self) -> dict[int, str]:
        """The node's own, by family."""
        v4, v6 = self._addresses(1)
        return {4: v4, 6: v6}

    def make(self) -> None:
        """Namespace, bridge with addresses, uplink."""
        port = f"port{self._number}"
        sh("ip", "netns", "add", self.name)
        v4, v6 = self._addresses(1)
        commands = [
            "link set lo up",
            "link add name bridge type bridge mcast_snooping 0",
            f"link add name uplink type veth peer name {port} netns {self._switch.name}",
            "link set uplink master bridge up",
            "link set bridge up",
            f"addr add {v4}/16 dev bridge",
            f"addr add {v6}/64 dev bridge nodad",
        ]
        batch(self.name, commands)
        batch(self._switch.name, [f"link set {port} master hub up"])

    def remove(self) -> None:
        """Its end of every link goes with it, and so do pods that were never removed."""
        with shielded():
            for left in Path("/run/netns").glob(f"{self.name}-p*"):
                sh("ip", "netns", "del", left.name)
            sh("ip", "netns", "del", self.name)

    def add_pod(self) -> "PodNetwork":
        """A namespace with eth0, wired to the bridge."""
        number = next(self._pods)
        name, port = f"{self.name}-p{number}", f"veth{number}"
        sh("ip", "netns", "add", name)
        commands = [
            f"link add name {port} type veth peer name eth0 netns {name}",
            f"link set {port} master bridge up",
        ]
        batch(self.name, commands)
        v4, v6 = self._addresses(number)
        commands = [
            "link set lo up",
            "link set eth0 up",
            f"addr add {v4}/16 dev eth0",
            f"addr add {v6}/64 dev eth0 nodad",
        ]
        batch(name, commands)
        return PodNetwork(name, port, {4: v4, 6: v6})

    def remove_pod(self, pod: "PodNetwork") -> None:
        """The link first, as CNI plugins do: with its namespace it would go at some later time."""
        with shielded():
            sh("ip", "-n", self.name, "link", "del", pod.port)
            sh("ip", "netns", "del", pod.name)

    def _addresses(self, number: int) -> tuple[str, str]:
        # Names are used once; addresses come round again after more pods than there are at a time.
        number = 2 + (number - 2) % _ADDRESSES if number > 1 else number
        return (
            f"10.244.{self._number * 16 + number // 250}.{number % 250 + 1}",
            f"fd00:244::{self._number:x}:{number:x}",
        )


class PodNetwork:
    """Where a pod's processes have their sockets."""

    def __init__(self, name: str, port: str, addresses: dict[int, str]) -> None:
        self.name = name
        self.port = port
        """The host side of its link, in the node's namespace."""
        self.addresses = addresses


def batch(namespace: str, commands: list[str]) -> None:
    """Several ip commands in a namespace, with one process."""
    sh("ip", "-n", namespace, "-batch", "-", stdin="\n".join(commands))


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Runs ``work`` in a thread of its own that is in the namespace: for making sockets there."""
    done: list[T] = []

    def run() -> None:
        enter(namespace)
        done.append(work())

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return done[0]


def enter(namespace: str) -> None:
    """Puts the calling thread, and no other, into the namespace."""
    fd = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)
    finally:
        os.close(fd)
