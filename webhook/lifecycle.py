"""Whether this replica is ready, and its way out.

starting -> ready -> draining -> stopped. Draining: readiness fails, so that no new connections
come, while requests on the open ones are still answered, each with ``Connection: close``; the API
server goes on using connections to a replica that is terminating.
"""

from collections.abc import Callable, Mapping
from typing import Final

Condition = Callable[[], bool]


class Lifecycle:
    """``conditions`` are what ready means, by name; all of them must hold."""

    def __init__(self, conditions: Mapping[str, Condition]) -> None:
        self._conditions: Final = dict(conditions)
        self.draining = False

    def unready(self) -> list[str]:
        """Why this replica is not ready; empty when it is."""
        reasons = [name for name, holds in self._conditions.items() if not holds()]
        return ["shutting down", *reasons] if self.draining else reasons
