"""The limits set through the control socket, kept over a restart: one JSON file per target."""

from pathlib import Path

import msgspec

from enforcer.state import Target

_SUFFIX = ".json"


class TargetStore:
    """Desired targets, in memory by cgroup path and on disk by cgroup id.

    The folder belongs on a file system that does not survive a reboot (``/run``), because the
    kernel's cgroup ids do not either. Safe to call from several threads, for one cgroup by one at
    a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._targets: dict[str, Target] = {}

    def load(self) -> dict[Path, str]:
        """Read every file; returns those that cannot be used, with the reason.

        A bad file is left where it is: its target's programs keep working, and it is evidence.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bad: dict[Path, str] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix != _SUFFIX:
                continue
            try:
                target = msgspec.json.decode(path.read_bytes(), type=Target)
            except (OSError, msgspec.MsgspecError) as error:
                bad[path] = str(error)
            else:
                self._targets[target.cgroup_path] = target
        return bad

    def save(self, target: Target) -> None:
        """Remember ``target``; the file is whole or not there. Raises OSError."""
        stale = self._targets.get(target.cgroup_path)
        path = self._path(target)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(target))
        temporary.replace(path)
        self._targets[target.cgroup_path] = target
        if stale is not None and stale.cgroup_id != target.cgroup_id:
            self._path(stale).unlink(missing_ok=True)

    def remove(self, target: Target) -> None:
        """Forget ``target``; nothing happens when it is not there."""
        if self._targets.get(target.cgroup_path) is not None:
            del self._targets[target.cgroup_path]
        self._path(target).unlink(missing_ok=True)

    def restore(self, target: Target, before: Target | None) -> None:
        """Forget ``target`` and remember what was there before it. Raises OSError."""
        self.remove(target)
        if before is not None:
            self.save(before)

    def get(self, cgroup_path: str) -> Target | None:
        """The target on this cgroup."""
        return self._targets.get(cgroup_path)

    def by_name(self, name: str) -> Target | None:
        """The target of this name, also when its process or container is long gone."""
        return next((t for t in list(self._targets.values()) if t.name == name), None)

    def all(self) -> tuple[Target, ...]:
        """Every target, sorted by name."""
        return tuple(sorted(self._targets.values(), key=lambda target: target.name))

    def _path(self, target: Target) -> Path:
        return self._folder / f"{target.cgroup_id}{_SUFFIX}"


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
