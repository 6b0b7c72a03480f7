"""Sockets that sock_ops is not called for: reached by iterators over what the kernel holds.

They were open before their limit came, or another program has taken our callback flags off. The
programs tell of one that needs a new pace or window by its target (map ``earlier_sockets``); then
that target's network namespaces are visited, and nobody else's.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from contract.names import Mode
from enforcer.datapath import abi, libbpf
from enforcer.datapath.pins import Generation
from enforcer.net.namespaces import (
    MOST_NAMESPACES,
    all_network_namespaces,
    in_namespace,
    network_namespaces,
)
from enforcer.state import Target

WAY: Final = "paced by a tcp iterator"
_REST: Final = 50
"""A target whose sockets need visits all the time costs no more than one part in so many of a
processor: a visit walks the kernel's table of connections, which takes milliseconds."""
_RELEASE: Final = bytes(4)
_LEFT: Final = (1).to_bytes(4, "little")


class EarlierSockets:
    """Of the targets of one generation. Safe to call from several threads; raises OSError."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._noted: set[int] = set()
        self._due: dict[int, float] = {}
        self._next: dict[int, int] = {}
        """Of a target's processes: where the next visit begins."""
        self._lock = threading.Lock()
        if "iterator_release" in generation.fds:  # of a daemon that was killed meanwhile
            libbpf.map_update(generation.fds["iterator_release"], _RELEASE, abi.encode_count(0))

    def tend(self, targets: Iterable[Target]) -> None:
        """Visit the targets that the programs have told of, each when its turn has come."""
        with self._lock:
            self._noted |= self._news()
            if not self._noted:
                return
            now = time.monotonic()
            waiting = {target.cgroup_id: target for target in targets}
            self._noted &= waiting.keys()
            self._due = {each: at for each, at in self._due.items() if at > now}
            self._next = {each: at for each, at in self._next.items() if each in waiting}
            for cgroup_id in self._noted - self._due.keys():
                self._noted.discard(cgroup_id)
                target = waiting[cgroup_id]
                if target.limits.mode is Mode.ENFORCE:
                    start, first = time.monotonic(), self._next.get(cgroup_id, 0)
                    found, self._next[cgroup_id] = network_namespaces(target.cgroup_path, first)
                    _iterate(found, self._generation)
                    end = time.monotonic()
                    self._due[cgroup_id] = end + _REST * (end - start)

    def release(self, cgroup_path: str, cgroup_id: int, generation: Generation) -> None:
        """Let go the sockets that a generation's programs hold for one cgroup.

        First where its processes are; then, where a socket is left, in every network namespace of
        the machine: a process may have gone, or taken its socket elsewhere.
        """
        if abi.ITERATOR not in generation.fds:
            return
        release = generation.fds["iterator_release"]
        with self._lock:
            libbpf.map_update(release, _RELEASE, abi.encode_count(cgroup_id))
            try:
                visited, _ = network_namespaces(cgroup_path)
                _iterate(visited, generation)
                if _is_left(generation):
                    elsewhere = all_network_namespaces()
                    _iterate({i: elsewhere[i] for i in elsewhere.keys() - visited}, generation)
            finally:
                libbpf.map_update(release, _RELEASE, abi.encode_count(0))

    def _news(self) -> set[int]:
        """The cgroup ids that the programs have noted since the last call."""
        noted = self._generation.fds["earlier_sockets"]
        keys = list(libbpf.map_keys(noted, abi.CGROUP_ID_BYTES))
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                libbpf.map_delete(noted, key)
        return set(map(abi.decode_count, keys))


def _is_left(generation: Generation) -> bool:
    """Whether a socket anywhere still has something of the target that is let go."""
    if abi.FILE_ITERATOR not in generation.fds:
        return False
    counts = generation.fds["iterator_release"]
    libbpf.map_update(counts, _LEFT, abi.encode_count(0))
    libbpf.run_iterator(generation.fds[abi.FILE_ITERATOR])
    value = libbpf.map_lookup(counts, _LEFT, len(abi.encode_count(0)))
    return bool(value and abi.decode_count(value))


def _iterate(namespaces: Mapping[int, str], generation: Generation) -> None:
    for path in islice(namespaces.values(), MOST_NAMESPACES):
        with contextlib.suppress(FileNotFoundError):  # its last process has just ended
            in_namespace(path, lambda: libbpf.run_iterator(generation.fds[abi.ITERATOR]))
