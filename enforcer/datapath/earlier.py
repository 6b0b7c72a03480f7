"""Sockets older than their limit: which way this kernel has, and when.

See ``sockets`` for the way without a BPF iterator.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from contract.names import Direction, Mode
from enforcer.datapath import abi, libbpf, records, sockets
from enforcer.datapath.pins import Generation
from enforcer.net.namespaces import in_namespace, network_namespaces
from enforcer.state import Target

BY_ITERATOR: Final = "paced by a tcp iterator"
BY_PIDFD: Final = "paced from user space (pidfd_getfd)"


class EarlierSockets:
    """Of the targets of one generation. Safe to call from several threads; raises OSError."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._count = 0
        self._iterating = threading.Lock()

    @property
    def way(self) -> str:
        """For people."""
        return BY_ITERATOR if abi.ITERATOR in self._generation.fds else BY_PIDFD

    def has_news(self) -> bool:
        """Whether another number of sockets waits than at the last call."""
        value = libbpf.map_lookup(self._generation.fds["earlier_sockets"], bytes(4), 8)
        before, self._count = self._count, abi.decode_count(value) if value else 0
        return self._count != before

    def pace(self, targets: Iterable[Target]) -> None:
        """Those of these targets."""
        held = [target for target in targets if target.limits.mode is Mode.ENFORCE]
        if abi.ITERATOR in self._generation.fds:
            namespaces = network_namespaces(target.cgroup_path for target in held)
            with self._iterating:
                _iterate(namespaces, self._generation)
            return
        for target in held:
            if target.limits.egress is not None:
                self._pace_from_user_space(target)

    def release(self, cgroup_path: str, cgroup_id: int, older: Iterable[Generation]) -> None:
        """Those of one cgroup. ``older`` generations first: they know what the application had
        asked for itself.
        """
        for generation in (*older, self._generation):
            if abi.ITERATOR not in generation.fds:
                if generation.same_abi:
                    sockets.release(generation.fds["flows"], cgroup_path)
                continue
            namespaces = network_namespaces([cgroup_path])
            with self._iterating, _releasing(generation, cgroup_id):
                _iterate(namespaces, generation)

    def _pace_from_user_space(self, target: Target) -> None:
        flows = self._generation.fds["flows"]
        state = records.read_state(self._generation, target.cgroup_id)
        if state is None:
            return
        counted = records.counters(Direction.EGRESS, state.egress, target.limits)
        sockets.pace(flows, target.cgroup_path, counted.share_bytes_per_sec * 1448 // 1514)
        limits = records.read_limits(self._generation, target.cgroup_id)
        if limits is None or limits.egress is None:  # taken off meanwhile, by another thread
            sockets.release(flows, target.cgroup_path)


@contextlib.contextmanager
def _releasing(generation: Generation, cgroup_id: int) -> Iterator[None]:
    """The iterator lets go the sockets of one cgroup at a time."""
    release = generation.fds["iterator_release"]
    libbpf.map_update(release, bytes(4), abi.encode_count(cgroup_id))
    try:
        yield
    finally:
        libbpf.map_update(release, bytes(4), abi.encode_count(0))


def _iterate(namespaces: Mapping[int, str], generation: Generation) -> None:
    for path in namespaces.values():
        with contextlib.suppress(FileNotFoundError):  # its last process has just ended
            in_namespace(path, lambda: libbpf.run_iterator(generation.fds[abi.ITERATOR]))
