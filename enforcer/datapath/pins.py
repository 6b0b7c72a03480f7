"""Where programs and maps are pinned, and which generations of them are there.

PIN_ROOT/v<abi>/<hash of the source>/<program or map>
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from enforcer.datapath import abi, libbpf
from enforcer.errors import DatapathError, UnsupportedError

SOURCE_DIR = Path(__file__).resolve().parents[2] / "bpf"
_COMPILE_TIMEOUT_SECONDS = 300
"""Takes a second, on a busy or emulated processor a minute and more; what takes longer hangs."""
UNFINISHED_PREFIX = "new-"
"""Of the folder that a compiler pins into before it is renamed; bpffs refuses dots in names."""


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
        return bool(self.fds) and self.directory.parent.name == f"v{abi.ABI_VERSION}"

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
    return Generation(directory, fds, ids)


def generation_dirs(pin_root: Path) -> Iterator[Path]:
    """Every whole set of pins of ours, the newest last."""
    whole = [path for path in pin_root.glob("v*/*") if not _is_unfinished(path)]
    yield from sorted(whole, key=lambda path: path.stat().st_mtime_ns)


def remove_unfinished(pin_root: Path) -> None:
    """Remove what a compiler that was killed left: half a set must never be opened."""
    for path in pin_root.glob("v*/*"):
        if _is_unfinished(path):
            shutil.rmtree(path)


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(UNFINISHED_PREFIX)


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
    with contextlib.suppress(FileExistsError):
        directory.parent.mkdir(parents=True, mode=0o700)
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
            f"this kernel ({os.uname().release}) refuses the programs: {last}; "
            "Linux 5.15 or newer is needed"
        )
    return DatapathError(f"the BPF programs did not compile: {last}")
