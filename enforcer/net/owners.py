"""Whose a network namespace is: it belongs to the cgroup of the process that was there first.

Who comes later is a guest: a debugger, a container that joins another's network. What a guest
receives is held with the owner's, and a guest's own limit is held without the namespace's links.
"""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Final

from enforcer.net.namespaces import namespace_of, processes

_PROCESSES: Final = 16_384
"""Of the host; those with the lowest numbers, which are mostly the oldest."""
_STARTED: Final = 19
"""The field of /proc/PID/stat, counted from behind the name."""


def is_owner(cgroup_path: str, namespace: int) -> bool:
    """Whether the oldest process in the namespace is in the cgroup, as far as it can be seen."""
    there = (pid for pid in _pids() if namespace_of(pid) == namespace)
    oldest = min(((_started_at(pid), pid) for pid in there), default=None)
    return oldest is None or oldest[1] in processes(cgroup_path)


def _pids() -> Iterator[int]:
    with os.scandir("/proc") as entries:
        pids = (int(entry.name) for entry in entries if entry.name.isdigit())
        yield from islice(pids, _PROCESSES)


def _started_at(pid: int) -> float:
    """In ticks since the host's start; never for a process that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - half the time
            return int(file.read().rpartition(b")")[2].split()[_STARTED])
    except (OSError, IndexError):
        return float("inf")
