"""Our programs on cgroups: which are there, and putting them on and taking them off."""

import os
from collections.abc import Callable, Sequence
from typing import Final

from enforcer.datapath import libbpf, pins
from enforcer.datapath.libbpf import AttachType

HOOKS: Final = {
    "podpace_ingress": AttachType.INGRESS,
    "podpace_egress": AttachType.EGRESS,
    "podpace_sockops": AttachType.SOCK_OPS,
}
_MAX_NAMES: Final = 4096


class Programs:
    """Of this daemon and of earlier ones. Methods raise OSError."""

    def __init__(
        self, current: pins.Generation, older: Callable[[], Sequence[pins.Generation]]
    ) -> None:
        self._current = current
        self._older = older
        self._names: dict[int, str] = {}

    def ours(self, cgroup_fd: int) -> dict[str, list[int]]:
        """Our programs on this cgroup by hook: pinned, and by name those whose pin is lost."""
        known = {
            number: name
            for generation in (self._current, *self._older())
            for name, number in generation.program_ids.items()
        }
        return {
            name: [
                number
                for number in libbpf.attached(cgroup_fd, hook)
                if known.get(number) == name or self._name_of(number) == name
            ]
            for name, hook in HOOKS.items()
        }

    def _name_of(self, number: int) -> str:
        """A program's name; empty where it is gone or we may not look (no CAP_SYS_ADMIN)."""
        if len(self._names) > _MAX_NAMES:
            self._names.clear()
        if number not in self._names:
            try:
                fd = libbpf.program_open(number)
            except OSError:
                return ""
            try:
                self._names[number] = libbpf.program_identity(fd)[1]
            finally:
                os.close(fd)
        return self._names[number]

    def attach(self, name: str, hook: AttachType, cgroup_path: str, cgroup_fd: int) -> None:
        """One of today's programs. Raises OSError, with who is in the way."""
        for place, number, flags in libbpf.alone_above(cgroup_path, hook):
            how = "with override, and would be switched off" if flags else "as the only one"
            who = f"program {self._name_of(number) or '?'} (id {number}) on {place}"
            raise PermissionError(
                f"{who} is attached {how}: whoever attached it has to allow several (multi)"
            )
        libbpf.attach(self._current.fds[name], cgroup_fd, hook)

    def detach(self, number: int, cgroup_fd: int, hook: AttachType) -> None:
        """One of ours, of any version, by its id."""
        for generation in (self._current, *self._older()):
            for name, known in generation.program_ids.items():
                if known == number:
                    libbpf.detach(generation.fds[name], cgroup_fd, hook)
                    return
        fd = libbpf.program_open(number)
        try:
            libbpf.detach(fd, cgroup_fd, hook)
        finally:
            os.close(fd)
