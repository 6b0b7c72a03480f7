"""Looks at a target again when one of its interfaces comes, goes or is replaced."""

from typing import Final

from enforcer.ports import Network
from enforcer.reconcile.daemon import Daemon

_WAIT_SECONDS: Final = 1.0
"""How long a daemon that is asked to stop waits for an event first."""


class LinkLoop:
    """Run :meth:`step` again and again in a thread of its own."""

    def __init__(self, daemon: Daemon, network: Network) -> None:
        self._daemon = daemon
        self._network = network

    def step(self) -> None:
        """Wait for events, a moment at most, and refresh those they concern."""
        paths = self._network.changed(_WAIT_SECONDS)
        if paths is not None and not paths:
            return
        for target in self._daemon.targets():
            if paths is None or target.cgroup_path in paths:
                self._daemon.refresh(target, "link change")
