"""The shaper's program and maps: pinned beside the limiter's, attached to interfaces.

Everything here raises OSError; enforcer/net/ decides nothing and calls it.
"""

import contextlib
import os
from pathlib import Path

from enforcer.datapath import libbpf, pins, shaper_abi
from enforcer.datapath.layout import layout_of
from enforcer.datapath.shaper_abi import LinkRecord, ShaperRecord


class ShaperPrograms:
    """Today's program and maps, and the older ones that may still be attached."""

    def __init__(self, pin_root: Path, source_dir: Path = pins.SOURCE_DIR) -> None:
        """Open what the datapath has pinned; nothing is compiled here."""
        self._pin_root = pin_root
        directory = pins.generation_dir(pin_root, pins.source_hash(source_dir))
        self._fds = _open(directory)
        self._older = [
            fds
            for other in sorted(pin_root.glob("v*/*"))
            if other != directory and (fds := _open(other))
        ]
        self._has_tcx = _has_tcx()

    @property
    def refusal(self) -> str:
        """Why there is no shaper on this kernel; empty where there is one."""
        return "" if self._fds else "this kernel refuses the shaper program"

    @property
    def program_fd(self) -> int:
        """Today's program."""
        return self._fds[shaper_abi.PROGRAM]

    @property
    def has_tcx(self) -> bool:
        """Whether programs can be attached without clsact (Linux 6.6)."""
        return self._has_tcx

    def tcx_is_current(self, ifindex: int) -> bool:
        """Whether today's program, and no older one of ours, is attached there by tcx."""
        return self._ours_by_tcx(ifindex) == [self._id(self._fds)]

    def has_tcx_neighbours(self, ifindex: int) -> bool:
        """Whether somebody else's programs are attached there by tcx."""
        if not self._has_tcx:
            return False
        return not all(_is_shaper(number) for number in libbpf.attached_tcx(ifindex))

    def is_current(self, program_id: int) -> bool:
        """Whether this is today's program."""
        return bool(self._fds) and program_id == self._id(self._fds)

    def attach_tcx(self, ifindex: int) -> None:
        """Attach today's program, then take older ones of ours off: no gap."""
        ours = self._ours_by_tcx(ifindex)
        today = self._id(self._fds)
        if today not in ours:
            libbpf.attach_tcx(self.program_fd, ifindex)
        self._detach_tcx(ifindex, [number for number in ours if number != today])

    def detach_tcx(self, ifindex: int) -> None:
        """Take ours off."""
        self._detach_tcx(ifindex, self._ours_by_tcx(ifindex))

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

    def put_link(self, ifindex: int, record: LinkRecord) -> None:
        """In force from here on, where the program is attached."""
        key = shaper_abi.shaper_key(record.cgroup_id)
        if libbpf.map_lookup(self._fds["shapers"], key, shaper_abi.SHAPER_BYTES) is None:
            libbpf.map_update(self._fds["shapers"], key, self._counted_before(key))
        value = shaper_abi.encode_link(record)
        libbpf.map_update(self._fds["links"], shaper_abi.link_key(ifindex), value)

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

    def _id(self, fds: dict[str, int]) -> int:
        return libbpf.program_identity(fds[shaper_abi.PROGRAM])[0] if fds else 0

    def _ours_by_tcx(self, ifindex: int) -> list[int]:
        if not self._has_tcx:
            return []
        return [number for number in libbpf.attached_tcx(ifindex) if _is_shaper(number)]

    def _detach_tcx(self, ifindex: int, numbers: list[int]) -> None:
        for number in numbers:
            fd = libbpf.program_open(number)
            try:
                libbpf.detach_tcx(fd, ifindex)
            finally:
                os.close(fd)


def _open(directory: Path) -> dict[str, int]:
    """By name; empty where no shaper is pinned, or one of other maps."""
    names = (shaper_abi.PROGRAM, *shaper_abi.MAPS)
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


def _is_shaper(number: int) -> bool:
    try:
        fd = libbpf.program_open(number)
    except OSError:
        return False
    try:
        return libbpf.program_identity(fd)[1] == shaper_abi.PROGRAM
    finally:
        os.close(fd)


def _has_tcx() -> bool:
    try:
        libbpf.attached_tcx(1)
    except OSError:
        return False
    return True
