"""Which of a command's processes have left the cgroup that it was started in."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Leaver:
    """A process that is not in the limited cgroup any more."""

    pid: int
    name: str
    cgroup: str
    """Where it is, from the root of cgroup v2 on."""


def leavers(pid: int, cgroup: Path) -> Iterator[Leaver]:
    """The process ``pid`` and its descendants, as far as they are outside ``cgroup``."""
    for each in _family(pid):
        with contextlib.suppress(OSError):  # it has ended
            lines = (_PROC / str(each) / "cgroup").read_text().splitlines()
            inside = next((line[3:] for line in lines if line.startswith("0::")), "")
            # The end of the path is enough: nobody else has a cgroup of this random name.
            if inside and f"/{cgroup.parent.name}/{cgroup.name}" not in inside:
                name = (_PROC / str(each) / "comm").read_text(errors="replace").strip()
                yield Leaver(each, _printable(name), _printable(inside))


def _printable(text: str) -> str:
    """A process chooses its name; it must not reach a terminal as a control character."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _family(int(child))
