"""The desired targets, kept over a restart: one JSON file per target."""

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from enforcer.errors import EnforcerError
from enforcer.state import Target

_SUFFIX: Final = ".json"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_NOT_OURS: Final = "not this daemon's user owns it, or others may write it: not believed"


class TargetStore:
    """Desired targets, in memory by cgroup path and on disk by cgroup id.

    The folder belongs on a file system that does not survive a reboot (``/run``), because the
    kernel's cgroup ids do not either. Safe to call from several threads, for one cgroup by one at
    a time.

    A folder that is full or read-only loses nothing: :meth:`save` changes all or nothing, and what
    :meth:`keep` and :meth:`remove` cannot write :meth:`flush` writes later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._targets: dict[str, Target] = {}
        self._unwritten: dict[Path, Target | None] = {}
        self.version = 0
        """Another one whenever a target has come, changed or gone."""
        self._lock_fd = -1

    def lock(self) -> None:
        """Keep others out: a second daemon, until this process ends, and whoever may write there.

        Raises EnforcerError, OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        if not _is_ours(self._lock_fd):
            raise EnforcerError(
                f"{self._folder} says what is limited, and others may write there; run: "
                f"chown root {self._folder}; chmod 700 {self._folder}; or give another --state-dir"
            )
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnforcerError(
                f"another daemon keeps its targets in {self._folder}; stop that one first, "
                "or give another --state-dir"
            ) from None

    def load(self) -> dict[Path, str]:
        """Read every file; returns those that cannot be used, with the reason. Raises OSError.

        A bad file is left where it is: its target's programs keep working, and it is evidence. One
        that somebody else could have written is bad: it might lift a limit.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bad: dict[Path, str] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix != _SUFFIX:
                continue
            try:
                target = msgspec.json.decode(_read_ours(path), type=Target)
            except (OSError, msgspec.MsgspecError) as error:
                bad[path] = str(error)
            else:
                self._remember(target)
        return bad

    def save(self, target: Target) -> None:
        """Remember ``target``. Raises OSError; then nothing has changed."""
        self._write(self._path(target), target)
        self._remember(target)

    def keep(self, target: Target) -> None:
        """Remember ``target`` in any case, and in its file as soon as that can be."""
        self._remember(target)
        self._unwritten[self._path(target)] = target

    def remove(self, target: Target) -> None:
        """Forget ``target``; nothing happens when it is not there."""
        known = self._targets.get(target.cgroup_path)
        if known is not None and known.cgroup_id == target.cgroup_id:
            del self._targets[target.cgroup_path]
            self.version += 1
        self._drop(self._path(target))

    def flush(self) -> None:
        """Write what could not be written. Raises OSError; the rest is tried the next time."""
        for path, target in list(self._unwritten.items()):
            self._write(path, target)

    def get(self, cgroup_path: str) -> Target | None:
        """The target on this cgroup."""
        return self._targets.get(cgroup_path)

    def by_name(self, name: str) -> Target | None:
        """The target of this name, also when its process or container is long gone."""
        return next((t for t in list(self._targets.values()) if t.name == name), None)

    def all(self) -> tuple[Target, ...]:
        """Every target, sorted by name."""
        targets = list(self._targets.values())  # in one step: another thread may write
        return tuple(sorted(targets, key=lambda target: target.name))

    def _remember(self, target: Target) -> None:
        before = self._targets.get(target.cgroup_path)
        self._targets[target.cgroup_path] = target
        self.version += 1
        if before is not None and before.cgroup_id != target.cgroup_id:
            self._drop(self._path(before))

    def _drop(self, path: Path) -> None:
        try:
            self._write(path, None)
        except OSError:
            self._unwritten[path] = None

    def _write(self, path: Path, target: Target | None) -> None:
        """The file is whole, or as it was."""
        if target is None:
            path.unlink(missing_ok=True)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(target))
            temporary.replace(path)
        self._unwritten.pop(path, None)

    def _path(self, target: Target) -> Path:
        return self._folder / f"{target.cgroup_id}{_SUFFIX}"


def _read_ours(path: Path) -> bytes:
    """Raises OSError where the file is not ours alone, or is no plain file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not _is_ours(fd):
            raise PermissionError(_NOT_OURS)
        return file.read()


def _is_ours(fd: int) -> bool:
    """Whether nobody else may write it. The daemon is root."""
    found = os.fstat(fd)
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def remove_files(folder: Path) -> list[Path]:
    """Delete every state file, and the folder when it is empty then; returns what was deleted."""
    if not folder.is_dir():
        return []
    removed = [p for p in sorted(folder.iterdir()) if p.suffix in {_SUFFIX, ".tmp"}]
    for path in removed:
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
        removed.append(folder)
    return removed
