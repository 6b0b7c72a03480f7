"""The real Datapath: pinned programs, attached to cgroups, configured through maps."""

import contextlib
import os
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract.names import Direction
from enforcer.datapath import abi, libbpf, pins, probes, records
from enforcer.datapath.earlier import WAY, EarlierSockets
from enforcer.datapath.exempt import ExemptLists
from enforcer.datapath.programs import HOOKS, Programs
from enforcer.errors import DatapathError, UnsupportedError
from enforcer.state import NO_RATES, Attachment, Rates, Target, TargetCounters, Used, Way

_NODE: Final = 0
"""No cgroup's id: whose list the networks of the node itself are."""


class KernelDatapath:
    """Implements ``ports.Datapath``. Safe to call from several threads, for one cgroup by one."""

    def __init__(
        self,
        pin_root: Path,
        cgroup_root: Path,
        source_dir: Path,
        *,
        compile_missing: bool = True,
    ) -> None:
        """Adopt or make the pins. Raises UnsupportedError, DatapathError.

        Without ``compile_missing``, what is there can be observed and taken off, no more: that
        needs no compiler.
        """
        probes.require(pin_root, cgroup_root)
        self._pin_root = pin_root
        self._source_hash = pins.source_hash(source_dir)
        directory = pins.generation_dir(pin_root, self._source_hash)
        try:
            pins.take_away_strange(pin_root)
            if compile_missing and not pins.is_whole(directory):
                probes.require_kernel()
                pins.set_aside(directory)
                pins.compile_generation(source_dir, directory)
            self._current = pins.open_generation(directory)
            self._older = pins.open_older(pin_root, directory)
            self._exempt = ExemptLists(self._current.fds.get("exempt_networks", -1))
        except OSError as error:
            raise UnsupportedError(f"cannot open the pins below {pin_root}: {error}") from error
        self._programs = Programs(self._current, lambda: self._older)
        self._earlier = EarlierSockets(self._current)
        self._records = threading.Lock()
        self._rates: dict[int, Rates] = {}
        self._let_go: set[int] = set()
        """Of those that nobody may write a record for any more."""

    @property
    def source_hash(self) -> str:
        """See ``ports.Datapath``."""
        return self._source_hash

    def features(self) -> Mapping[str, str]:
        """See ``ports.Datapath``."""
        return probes.features()

    def observe(self, cgroup_path: str) -> Attachment | None:
        """See ``ports.Datapath``."""
        try:
            with _directory(cgroup_path) as cgroup_fd:
                cgroup_id = os.fstat(cgroup_fd).st_ino
                ours = self._programs.ours(cgroup_fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DatapathError(f"cannot look at {cgroup_path}: {error}") from error
        if not any(ours.values()):
            return None
        current = all(ids == [self._current.program_ids.get(name)] for name, ids in ours.items())
        limits, shaped, mtu_bytes = None, False, abi.STANDARD_MTU
        record = records.read_limits(self._current, cgroup_id) if self._current.fds else None
        if record is not None:
            list_id = abi.decode_exempt_list(record)
            self._exempt.found(cgroup_id, list_id)
            limits = abi.decode_limits(record, self._exempt.networks(list_id))
            shaped = bool(abi.decode_flags(record) & abi.FLAG_INGRESS_SHAPED)
            current &= not abi.decode_flags(record) & abi.FLAG_HANDOVER
            mtu_bytes = abi.decode_mtu(record)
        return Attachment(cgroup_path, cgroup_id, current, limits, shaped, mtu_bytes)

    def mark(self, cgroup_path: str) -> Hashable:
        """See ``ports.Datapath``."""
        try:
            cgroup_fd = os.open(cgroup_path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            cgroup_id = os.fstat(cgroup_fd).st_ino
            programs = [libbpf.attached(cgroup_fd, hook) for hook in HOOKS.values()]
            record = records.read_limits(self._current, cgroup_id)
            return (*programs, cgroup_id, None if record is None else abi.decode_said(record))
        except OSError:
            return None
        finally:
            os.close(cgroup_fd)

    def write(self, target: Target, way: Way) -> None:
        """See ``ports.Datapath``.

        1. Programs that are missing are attached; they pass everything, older ones still hold the
           limit. A failure here takes off what was put on and raises.
        2. State and record are written: the limit is in force (point of no return), exemptions
           after it.
        3. Older programs are detached; a failure there raises, both hold the limit. Until then the
           new ones leave sockets alone: what older ones have set would look like an application's
           own choice. They let go, and the new ones go on.
        """
        done: list[str] = []
        try:
            with _directory(target.cgroup_path) as cgroup_fd:
                ours = self._programs.ours(cgroup_fd)
                try:
                    for name, hook in HOOKS.items():
                        if self._current.program_ids[name] not in ours[name]:
                            self._programs.attach(name, hook, target.cgroup_path, cgroup_fd)
                            done.append(name)
                    if len(done) == len(HOOKS):
                        records.start_state(
                            self._current, target.cgroup_id, self._older_last_attached(ours)
                        )
                    before = records.read_limits(self._current, target.cgroup_id)
                    handover = self._takes_over(before, ours)
                    self._write_record(target, way, handover=handover)
                except OSError:
                    for name in done:
                        libbpf.detach(self._current.fds[name], cgroup_fd, HOOKS[name])
                    raise
                # A network that cannot be written is limited: the next look finds it missing.
                with contextlib.suppress(OSError):
                    self._exempt.use(target.cgroup_id, target.limits.exempt_cidrs)
                for name, ids in ours.items():
                    for number in ids:
                        if number != self._current.program_ids[name]:
                            self._programs.detach(number, cgroup_fd, HOOKS[name])
                if handover:
                    for older in self._older:
                        self._earlier.release(target.cgroup_path, target.cgroup_id, older)
                    self._write_record(target, way)
                elif records.frees_sockets(before, target.limits, way):
                    self._earlier.release(target.cgroup_path, target.cgroup_id, self._current)
        except OSError as error:
            raise DatapathError(f"cannot limit {target.cgroup_path}: {error}") from error

    def detach(self, cgroup_path: str) -> None:
        """See ``ports.Datapath``."""
        try:
            with _directory(cgroup_path) as cgroup_fd:
                cgroup_id = os.fstat(cgroup_fd).st_ino
                ours = self._programs.ours(cgroup_fd)
                with self._records:
                    self._let_go.add(cgroup_id)
                    self._rates.pop(cgroup_id, None)
                    for generation in (self._current, *self._older):
                        if generation.same_abi:
                            with contextlib.suppress(OSError):  # no record there
                                record = abi.encode_no_limits(cgroup_id)
                                records.put_limits(generation, cgroup_id, record)
                self._exempt.use(cgroup_id, ())
                # Older ones first: they know what applications had asked for before.
                for generation in (*self._older, self._current):
                    self._earlier.release(cgroup_path, cgroup_id, generation)
                for name, ids in ours.items():
                    for number in ids:
                        self._programs.detach(number, cgroup_fd, HOOKS[name])
        except (FileNotFoundError, NotADirectoryError):
            return  # the kernel took the programs with the cgroup
        except OSError as error:
            raise DatapathError(f"cannot detach from {cgroup_path}: {error}") from error

    def forget(self, cgroup_id: int) -> None:
        """See ``ports.Datapath``."""
        with self._records:
            self._rates.pop(cgroup_id, None)
            self._let_go.discard(cgroup_id)
        try:
            self._exempt.use(cgroup_id, ())
        except OSError as error:
            raise DatapathError(f"cannot forget cgroup {cgroup_id}: {error}") from error

    def counters(self, target: Target) -> TargetCounters:
        """See ``ports.Datapath``."""
        try:
            state = records.read_state(self._current, target.cgroup_id)
        except OSError as error:
            raise DatapathError(f"cannot read {target.cgroup_path}: {error}") from error
        if state is None:
            raise DatapathError(f"{target.cgroup_path} has no record; attach it again")
        rates = self._rates.get(target.cgroup_id, NO_RATES)
        return TargetCounters(
            records.counters(Direction.INGRESS, state.ingress, target.limits, rates),
            records.counters(Direction.EGRESS, state.egress, target.limits, rates),
            WAY,
        )

    def give(self, target: Target, rates: Rates) -> None:
        """See ``ports.Datapath``."""
        number = target.cgroup_id
        try:
            with self._records:
                self._rates[number] = rates
                record = records.read_limits(self._current, number)
                if record is not None and number not in self._let_go:
                    again = abi.with_rates(record, target.limits, rates)
                    records.put_limits(self._current, number, again)
        except OSError as error:
            raise DatapathError(f"cannot give {target.cgroup_path} its part: {error}") from error

    def used(self, cgroup_id: int) -> Used | None:
        """See ``ports.Datapath``."""
        try:
            return records.read_used(self._current, cgroup_id)
        except OSError as error:
            raise DatapathError(f"cannot read cgroup {cgroup_id}: {error}") from error

    def note_local(self, networks: Iterable[str]) -> None:
        """See ``ports.Datapath``."""
        try:
            self._exempt.use(_NODE, networks)
        except OSError as error:
            raise DatapathError(f"cannot write the node's networks: {error}") from error

    def wanted_ns(self) -> int:
        """See ``ports.Datapath``."""
        try:
            return records.read_wanted_ns(self._current)
        except OSError as error:
            raise DatapathError(f"cannot read what is wanted: {error}") from error

    def tend(self, targets: Iterable[Target]) -> None:
        """See ``ports.Datapath``."""
        try:
            self._earlier.tend(targets)
        except OSError as error:
            raise DatapathError(f"cannot pace sockets older than their limit: {error}") from error

    def prune(self) -> None:
        """Unpin generations that are not today's. Call when everything has been replaced."""
        with contextlib.suppress(OSError):
            self._exempt.sweep()
        for generation in self._older:
            generation.unpin()
        self._older = []

    def unpin(self) -> None:
        """Remove every pin: the end of ``--cleanup``."""
        self.prune()
        self._current.unpin()
        for directory in (*sorted(self._pin_root.glob("v*")), self._pin_root):
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()

    def _older_last_attached(self, ours: Mapping[str, list[int]]) -> list[pins.Generation]:
        """Older generations, oldest first, but what is attached here comes last."""
        attached = {number for ids in ours.values() for number in ids}
        return sorted(
            self._older, key=lambda older: not attached.isdisjoint(older.program_ids.values())
        )

    def _takes_over(self, record: bytes | None, ours: Mapping[str, list[int]]) -> bool:
        """Whether sockets are still as older programs of ours have set them."""
        if record is not None and abi.decode_flags(record) & abi.FLAG_HANDOVER:
            return True
        return any(ids and ids != [self._current.program_ids[n]] for n, ids in ours.items())

    def _write_record(self, target: Target, way: Way, *, handover: bool = False) -> None:
        with self._records:
            self._let_go.discard(target.cgroup_id)
            record = abi.encode_limits(
                target.cgroup_id,
                target.limits,
                ingress_shaped=way.is_shaped,
                handover=handover,
                mtu_bytes=way.mtu_bytes,
                rates=self._rates.get(target.cgroup_id, NO_RATES),
            )
            records.put_limits(self._current, target.cgroup_id, record)


@contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
