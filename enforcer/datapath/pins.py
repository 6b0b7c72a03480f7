"""Where programs and maps are pinned, and which generations of them are there.

PIN_ROOT/v<abi>/<hash of the source>/<program or map>
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from enforcer.datapath import abi, libbpf, probes, shaper_abi
from enforcer.errors import DatapathError, UnsupportedError

SOURCE_DIR = Path(__file__).resolve().parents[2] / "bpf"
_COMPILE_TIMEOUT_SECONDS = 300
"""Takes a second, on a busy or emulated processor a minute and more; what takes longer hangs."""
UNFINISHED_PREFIX = "new-"
"""Of the folder that a compiler pins into before it is renamed; bpffs refuses dots in names."""
REFUSED_PREFIX = "refused-"
"""Of a folder in a generation's: this kernel refuses the program of that name."""


def source_hash(source_dir: Path) -> str:
    """Identifies the programs: 16 hex digits over the sources."""
    digest = hashlib.sha256()
    for path in sorted(source_dir.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def generation_dir(pin_root: Path, source: str) -> Path:
    """Where the programs of this source are pinned."""
    return pin_root / f"v{abi.ABI_VERSION}" / source


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of pinned programs and maps, opened."""

    directory: Path
    fds: dict[str, int]
    program_ids: dict[str, int]

    @property
    def same_abi(self) -> bool:
        """Whether its limits can be read and written by this daemon."""
        is_same = self.directory.parent.name == f"v{abi.ABI_VERSION}"
        return is_same and all(name in self.fds for name in abi.MAPS)

    def close(self) -> None:
        """Close the descriptors; the pins stay."""
        for fd in self.fds.values():
            os.close(fd)

    def unpin(self) -> None:
        """Remove the pins: what is attached nowhere is then gone from the kernel."""
        self.close()
        if self.directory.exists():
            shutil.rmtree(self.directory)


def open_generation(directory: Path) -> Generation:
    """Open what is pinned in ``directory``, which may be nothing. Raises OSError."""
    fds: dict[str, int] = {}
    try:
        for name in (*abi.PROGRAMS, abi.ITERATOR, abi.FILE_ITERATOR, *abi.MAPS):
            path = directory / name
            if path.exists():
                fds[name] = libbpf.obj_get(str(path))
        ids: dict[str, int] = {
            name: libbpf.program_identity(fds[name])[0] for name in abi.PROGRAMS if name in fds
        }
    except OSError:
        for fd in fds.values():
            os.close(fd)
        raise
    if "iterator_release" not in fds and abi.ITERATOR in fds:
        os.close(fds.pop(abi.ITERATOR))  # it would not let go, nor of whom
    return Generation(directory, fds, ids)


def open_older(pin_root: Path, today: Path) -> list[Generation]:
    """Every other generation that can be opened, the newest last.

    One that cannot be is left out: its programs are known by their names.
    """
    found = []
    for directory in sorted(pin_root.glob("v*/*"), key=lambda path: path.stat().st_mtime_ns):
        if directory != today:
            with contextlib.suppress(OSError):
                found.append(open_generation(directory))
    return found


def is_whole(directory: Path) -> bool:
    """Whether all of a generation is pinned there, or known to be refused by this kernel."""
    needed = (*abi.PROGRAMS, abi.ITERATOR, abi.FILE_ITERATOR, *abi.MAPS)
    if not all((directory / name).exists() for name in needed):
        return False
    shaper = shaper_abi.PROGRAM
    return (directory / shaper).exists() or (directory / f"{REFUSED_PREFIX}{shaper}").exists()


def set_aside(directory: Path) -> None:
    """Make room for a whole generation where half of one is: what is left of it counts as older.

    Raises OSError.
    """
    if directory.exists():
        number = next(n for n in itertools.count() if not _aside(directory, n).exists())
        directory.rename(_aside(directory, number))


def _aside(directory: Path, number: int) -> Path:
    return directory.with_name(f"{directory.name}-{number}")


def take_away_strange(pin_root: Path) -> None:
    """Remove pins that anybody but root made or can change, and what a killed compiler left.

    A BPF file system may be open to all: who comes first must not say which programs we attach, nor
    keep us from starting. Raises OSError.
    """
    places = (pin_root, *pin_root.glob("v*"), *pin_root.glob("v*/*"), *pin_root.glob("v*/*/*"))
    for place in places:
        if place.name.startswith(UNFINISHED_PREFIX) or not _is_roots(place):
            _remove(place)


def _is_roots(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == 0 and not others_write and not stat.S_ISLNK(found.st_mode)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)


def compile_generation(source_dir: Path, directory: Path) -> None:
    """Have a child compile, load and pin. Raises UnsupportedError, DatapathError."""
    # -P: root must not import from the directory it happens to stand in.
    command = [
        sys.executable,
        "-P",
        "-m",
        "enforcer.datapath.compiler",
        str(source_dir),
        str(directory),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for folder in (directory.parent.parent, directory.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DatapathError(
            f"compiling the BPF programs took over {_COMPILE_TIMEOUT_SECONDS} s; "
            "free CPU time on this node and start again"
        ) from error
    if child.returncode:
        raise _why_not_compiled(child.stderr)


def _why_not_compiled(output: str) -> DatapathError:
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    if "No module named 'bcc'" in output:
        return UnsupportedError("bcc is missing; run: apt-get install python3-bpfcc")
    if "file not found" in output:
        return UnsupportedError(
            f"a C header is missing ({last}); run: apt-get install linux-libc-dev"
        )
    if "Failed to load" in last:
        return UnsupportedError(
            f"this kernel ({os.uname().release}) refuses the programs: {last}; {probes.FLOOR}"
        )
    return DatapathError(f"the BPF programs did not compile: {last}")
