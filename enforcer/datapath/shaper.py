"""The shaper's programs and maps: pinned beside the limiter's, attached to interfaces.

Everything here raises OSError; enforcer/net/ decides nothing and calls it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from enforcer.datapath import libbpf, pins, shaper_abi
from enforcer.datapath.layout import layout_of
from enforcer.datapath.shaper_abi import LinkRecord, ShaperRecord

_HOOKS: Final = {
    shaper_abi.PROGRAM: libbpf.TCX_EGRESS,
    shaper_abi.SENT_PROGRAM: libbpf.TCX_INGRESS,
}
_OLDER: Final = (shaper_abi.PROGRAM, "links", "shapers")
"""What every version has pinned, and all that is wanted of an older one."""


class ShaperPrograms:
    """Today's programs and maps, and the older ones that may still be attached."""

    def __init__(self, pin_root: Path, source_dir: Path = pins.SOURCE_DIR) -> None:
        """Open what the datapath has pinned; nothing is compiled here."""
        self._pin_root = pin_root
        directory = pins.generation_dir(pin_root, pins.source_hash(source_dir))
        self._fds = _open(directory, (*shaper_abi.PROGRAMS, *shaper_abi.MAPS))
        self._older = [
            fds
            for other in sorted(pin_root.glob("v*/*"))
            if other != directory and (fds := _open(other, _OLDER))
        ]
        self._has_tcx = _has_tcx()

    @property
    def refusal(self) -> str:
        """Why there is no shaper on this kernel; empty where there is one."""
        return "" if self._fds else "this kernel refuses the shaper program"

    def close_older(self) -> None:
        """Let go of older versions' maps, once no record of a target is in them alone."""
        for fds in self._older:
            for fd in fds.values():
                os.close(fd)
        self._older = []

    def program_fd(self, name: str) -> int:
        """Today's program of that name."""
        return self._fds[name]

    @property
    def has_tcx(self) -> bool:
        """Whether programs can be attached without clsact (Linux 6.6)."""
        return self._has_tcx

    def by_tcx(self, ifindex: int, name: str) -> tuple[int, ...]:
        """Ids of the programs of ours of that name that are attached there by tcx."""
        attached = libbpf.attached_tcx(ifindex, _HOOKS[name]) if self._has_tcx else ()
        return tuple(number for number in attached if _is_named(number, name))

    def has_tcx_neighbours(self, ifindex: int) -> bool:
        """Whether somebody else's programs are attached there by tcx."""
        return self._has_tcx and any(
            self.by_tcx(ifindex, name) != libbpf.attached_tcx(ifindex, hook)
            for name, hook in _HOOKS.items()
        )

    def id_of(self, name: str) -> int:
        """Of today's program of that name."""
        return libbpf.program_identity(self._fds[name])[0] if self._fds else 0

    def attach_tcx(self, ifindex: int, name: str) -> None:
        """Attach today's program, then take older ones of ours off: no gap."""
        ours, today = self.by_tcx(ifindex, name), self.id_of(name)
        if today not in ours:
            libbpf.attach_tcx(self.program_fd(name), ifindex, _HOOKS[name])
        self._detach_tcx(ifindex, name, [number for number in ours if number != today])

    def detach_tcx(self, ifindex: int, name: str) -> None:
        """Take ours of that name off."""
        self._detach_tcx(ifindex, name, self.by_tcx(ifindex, name))

    def links(self) -> dict[int, LinkRecord]:
        """Every interface that is ours, by ifindex; an older version's too."""
        found: dict[int, LinkRecord] = {}
        for fds in self._older:
            for key in list(libbpf.map_keys(fds["links"], 4)):
                if numbers := _numbers(fds["links"], key):
                    found[shaper_abi.link_key_ifindex(key)] = shaper_abi.take_over_link(numbers)
        for key in list(libbpf.map_keys(self._fds["links"], 4)) if self._fds else []:
            record = self._link(key)
            if record is not None:
                found[shaper_abi.link_key_ifindex(key)] = record
        return found

    def link(self, ifindex: int) -> LinkRecord | None:
        """What today's program holds there."""
        return self._link(shaper_abi.link_key(ifindex)) if self._fds else None

    def own_bytes(self, ifindex: int) -> int:
        """What the target's own sockets have sent there, since it is held there."""
        key = shaper_abi.link_key(ifindex)
        value = libbpf.map_lookup(self._fds["links"], key, shaper_abi.LINK_BYTES)
        return 0 if value is None else shaper_abi.decode_own_bytes(value)

    def put_link(self, ifindex: int, record: LinkRecord) -> None:
        """In force from here on, where the program is attached."""
        key = shaper_abi.shaper_key(record.cgroup_id)
        if libbpf.map_lookup(self._fds["shapers"], key, shaper_abi.SHAPER_BYTES) is None:
            libbpf.map_update(self._fds["shapers"], key, self._counted_before(key))
        value, link = shaper_abi.encode_link(record), shaper_abi.link_key(ifindex)
        before = libbpf.map_lookup(self._fds["links"], link, shaper_abi.LINK_BYTES)
        if before is not None and shaper_abi.decode_link(before).cgroup_id == record.cgroup_id:
            value = shaper_abi.with_counts(value, before)
        libbpf.map_update(self._fds["links"], link, value)

    def remove_link(self, ifindex: int) -> None:
        """The program passes everything there."""
        for fds in (self._fds, *self._older):
            if fds:
                with contextlib.suppress(FileNotFoundError):
                    libbpf.map_delete(fds["links"], shaper_abi.link_key(ifindex))

    def shaper(self, cgroup_id: int) -> ShaperRecord | None:
        """A target's clocks and counters."""
        if not self._fds:
            return None
        value = libbpf.map_lookup(
            self._fds["shapers"],
            shaper_abi.shaper_key(cgroup_id),
            shaper_abi.SHAPER_BYTES,
            locked=True,
        )
        return None if value is None else shaper_abi.decode_shaper(value)

    def remove_shaper(self, cgroup_id: int) -> None:
        """Forget a target's clocks and counters."""
        for fds in (self._fds, *self._older):
            if fds:
                with contextlib.suppress(FileNotFoundError):
                    libbpf.map_delete(fds["shapers"], shaper_abi.shaper_key(cgroup_id))

    def _counted_before(self, key: bytes) -> bytes:
        for fds in reversed(self._older):
            if numbers := _numbers(fds["shapers"], key):
                return shaper_abi.take_over_shaper(numbers)
        return bytes(shaper_abi.SHAPER_BYTES)

    def _link(self, key: bytes) -> LinkRecord | None:
        value = libbpf.map_lookup(self._fds["links"], key, shaper_abi.LINK_BYTES)
        return None if value is None else shaper_abi.decode_link(value)

    def _detach_tcx(self, ifindex: int, name: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            fd = libbpf.program_open(number)
            try:
                libbpf.detach_tcx(fd, ifindex, _HOOKS[name])
            finally:
                os.close(fd)


def _open(directory: Path, names: tuple[str, ...]) -> dict[str, int]:
    """By name; empty where one of them is not pinned."""
    if not all((directory / name).exists() for name in names):
        return {}
    return {name: libbpf.obj_get(str(directory / name)) for name in names}


def _numbers(map_fd: int, key: bytes) -> dict[str, int]:
    """A record of any ABI by its numbers' names; empty where there is none, or no type info."""
    try:
        layout = layout_of(map_fd)
    except OSError:
        return {}
    value = libbpf.map_lookup(map_fd, key, layout.value_bytes)
    if value is None:
        return {}
    return {name: int.from_bytes(value[place], "little") for name, place in layout.numbers.items()}


def _is_named(number: int, name: str) -> bool:
    try:
        fd = libbpf.program_open(number)
    except OSError:
        return False
    try:
        return libbpf.program_identity(fd)[1] == name
    finally:
        os.close(fd)


def _has_tcx() -> bool:
    try:
        libbpf.attached_tcx(1, libbpf.TCX_EGRESS)
    except OSError:
        return False
    return True
