"""A datapath for a node that lacks what limiting needs: the pods there are told so."""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from enforcer.errors import UnsupportedError
from enforcer.state import Attachment, Target, TargetCounters


class UnsupportedDatapath:
    """Implements ``ports.Datapath``; nothing is attached, and nothing can be."""

    source_hash = ""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def features(self) -> Mapping[str, str]:
        """Why nothing works."""
        return {"programs": self._reason}

    def observe(self, cgroup_path: str) -> Attachment | None:
        """Nothing of ours is anywhere."""
        del cgroup_path
        return None

    def attach(self, target: Target) -> None:
        """Raises UnsupportedError."""
        del target
        self._refuse()

    def set_limits(self, target: Target) -> None:
        """Raises UnsupportedError."""
        del target
        self._refuse()

    def detach(self, cgroup_path: str) -> None:
        """Nothing to do."""

    def forget(self, cgroup_id: int) -> None:
        """Nothing to do."""

    def counters(self, target: Target) -> TargetCounters:
        """Raises UnsupportedError."""
        del target
        self._refuse()

    def tend(self, targets: Iterable[Target]) -> None:
        """Nothing to do."""

    def prune(self) -> None:
        """Nothing to do."""

    def unpin(self) -> None:
        """Nothing to do."""

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(self._reason)
