"""Adapters for a node that lacks what limiting needs: its pods, and ``show``, say so."""

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NoReturn

from enforcer.errors import UnsupportedError
from enforcer.state import (
    Attachment,
    Link,
    Rates,
    ShaperCounters,
    Shaping,
    Surroundings,
    Target,
    TargetCounters,
    Used,
    Way,
)


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

    def mark(self, cgroup_path: str) -> Hashable:
        """Unknown."""
        del cgroup_path
        return None

    def write(self, target: Target, way: Way) -> None:
        """Raises UnsupportedError."""
        del target, way
        self._refuse()

    def detach(self, cgroup_path: str) -> None:
        """Nothing to do."""

    def forget(self, cgroup_id: int) -> None:
        """Nothing to do."""

    def counters(self, target: Target) -> TargetCounters:
        """Raises UnsupportedError."""
        del target
        self._refuse()

    def give(self, target: Target, rates: Rates) -> None:
        """Nothing to do."""

    def used(self, cgroup_id: int) -> Used | None:
        """Nothing was counted."""
        del cgroup_id
        return None

    def note_local(self, networks: Iterable[str]) -> None:
        """Nothing to do."""

    def wanted_ns(self) -> int:
        """Never."""
        return 0

    def tend(self, targets: Iterable[Target]) -> None:
        """Nothing to do."""

    def prune(self) -> None:
        """Nothing to do."""

    def unpin(self) -> None:
        """Nothing to do."""

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(self._reason)


class UnsupportedNetwork:
    """Implements ``ports.Network`` where nothing can be shaped, for this reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def features(self) -> Mapping[str, str]:
        """Why nothing is shaped."""
        return {"shaper": self._reason}

    def observe(
        self, cgroup_path: str, cgroup_id: int, uses_host_network: bool | None
    ) -> Surroundings:
        """Nothing is looked at."""
        del cgroup_path, cgroup_id, uses_host_network
        return Surroundings(obstacle=self._reason)

    def shape(self, cgroup_id: int, shaping: Shaping, links: Sequence[Link]) -> None:
        """Raises UnsupportedError."""
        del cgroup_id, shaping, links
        raise UnsupportedError(self._reason)

    def give(self, cgroup_id: int, rates: Rates) -> None:
        """Nothing to do."""

    def sent_past_bytes(self, cgroup_id: int) -> int:
        """Nothing is looked at."""
        del cgroup_id
        return 0

    def unshape(self, cgroup_id: int) -> None:
        """Nothing to do."""

    def counters(self, cgroup_id: int) -> ShaperCounters | None:
        """Nothing was counted."""
        del cgroup_id
        return None

    def shaped(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def sweep(self) -> list[str]:
        """Nothing of ours is anywhere."""
        return []

    def changed(self, timeout_seconds: float) -> frozenset[str] | None:
        """Nothing ever does."""
        time.sleep(timeout_seconds)
        return frozenset()
