"""A network namespace of the tests' own: no address, port or route of the machine is used.

    API server (10.77.0.254)
             │
       bridge "nodes"
      ┌──────┴──────┐
tap node-1      tap node-2
10.77.0.1       10.77.0.2
10.244.1.0/24   10.244.2.0/24   pods
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.node.rootfs import run

HOST: Final = "10.77.0.254"
"""The API server's address; the nodes' gateway."""
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A node's name and addresses."""

    name: str
    address: str
    pod_cidr: str

    @property
    def tap(self) -> str:
        """Its cable's end on the bridge."""
        return f"tap-{self.name}"


PLACES: Final = tuple(Place(f"node-{n}", f"10.77.0.{n}", f"10.244.{n}.0/24") for n in (1, 2))


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """The calling thread, and every process it starts, are in the namespace until the block ends.

    The kernel removes it with its last process; nothing can be left behind.
    """
    with Path("/proc/thread-self/ns/net").open() as before:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare: a network namespace takes root")
        try:
            _build()
            yield
        finally:
            if _libc.setns(before.fileno(), _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))


def _build() -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "nodes", "type", "bridge")
    run("ip", "address", "add", f"{HOST}/24", "dev", "nodes")
    run("ip", "link", "set", "nodes", "up")
    for place in PLACES:
        run("ip", "tuntap", "add", place.tap, "mode", "tap")
        run("ip", "link", "set", place.tap, "master", "nodes", "up")
        # The API server calls webhooks at their pods' addresses.
        run("ip", "route", "add", place.pod_cidr, "via", place.address)
