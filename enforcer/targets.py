"""From what the user wrote to a cgroup: a path, ``cgroup:/path``, ``pid:N``, ``container:ID``.

``pod:NAMESPACE/NAME`` names what the API server asked for; only the daemon makes such targets.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.problems import Problem
from enforcer.errors import UnsupportedError
from enforcer.state import Target

KEY = "target"
POD_PREFIX = "pod:"
"""Of the names of targets that follow a pod's labels: ``pod:NAMESPACE/NAME``."""
_CONTAINER = re.compile(
    r"(?:docker|cri-containerd|crio|libpod|nerdctl)-([0-9a-f]{6,64})\.scope"
    r"|libpod-payload-([0-9a-f]{12,64})"  # Podman's --cgroups=split, as Quadlet starts services
    r"|.+:(?:docker|cri-containerd|crio):([0-9a-f]{12,64})"  # systemd names, no systemd driver
    r"|([0-9a-f]{12,64})"
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A cgroup that is there, and its canonical name."""

    name: str
    cgroup_path: str
    cgroup_id: int


def cgroup_id(path: str) -> int | None:
    """The kernel's id of a cgroup (its inode number), or None when there is none at ``path``."""
    try:
        return Path(path).stat().st_ino
    except OSError:
        return None


def is_alive(target: Target) -> bool:
    """Whether its cgroup is there, and is not another of the same name."""
    return cgroup_id(target.cgroup_path) == target.cgroup_id


def is_pod(target: Target) -> bool:
    """Whether the target follows a pod's labels, rather than a request."""
    return target.name.startswith(POD_PREFIX)


class CgroupTree:
    """The cgroup v2 hierarchy mounted at ``root``; ``proc`` is where procfs is."""

    def __init__(self, root: Path, proc: Path = Path("/proc")) -> None:
        self.root = root
        self._proc = proc

    def resolve(self, text: str) -> Resolved | Problem:
        """The cgroup that ``text`` means, or why there is none that can be limited."""
        kind, colon, rest = text.partition(":")
        if "\0" in text:
            return Problem(KEY, text.replace("\0", "\\0"), "holds a zero byte", "leave it out")
        if text.startswith(POD_PREFIX):
            return Problem(
                KEY,
                text,
                "is not a limited pod of this node",
                "limit pods with kubectl annotate; list those that are with: podpace list",
            )
        if kind == "pid" and colon:
            return self._resolve_pid(text, rest)
        if kind == "container" and colon:
            return self._resolve_container(text, rest)
        return self._resolve_path(text, rest if kind == "cgroup" and colon else text)

    def walk(self) -> Iterator[str]:
        """Every cgroup, the root first; those removed meanwhile are left out."""
        for folder, _, _ in os.walk(self.root):
            yield folder

    def _resolve_path(self, text: str, path_text: str) -> Resolved | Problem:
        if not path_text:
            return Problem(KEY, text, "names nothing", "give a cgroup path, pid:N or container:ID")
        given = Path(path_text)
        below_root = self.root / path_text.lstrip("/")
        candidates = [given, below_root] if given.is_absolute() else [below_root]
        paths = [self._at_root(Path(os.path.realpath(p))) for p in candidates if _exists(p)]
        if not paths:
            return Problem(
                KEY,
                text,
                f"does not exist, neither as it is nor below {self.root}",
                f"look for it with: find {self.root} -type d",
            )
        problems = [self._problem_with(text, path) for path in paths]
        for path, problem in zip(paths, problems, strict=True):
            if problem is None:
                inside = path.is_relative_to(self.root)
                name = f"/{path.relative_to(self.root)}" if inside else str(path)
                return _found(text, f"cgroup:{name}", path)
        return problems[-1 if path_text == "/" else 0] or _gone(text)

    def _at_root(self, path: Path) -> Path:
        """The same cgroup below ``root``, where ``path`` is on another mount of the hierarchy.

        One cgroup must be one target, whatever it is called.
        """
        if path.is_relative_to(self.root):
            return path
        mounts = _read_mounts(self._proc)
        there, here = _mount_of(path, mounts), _mount_of(self.root, mounts)
        if there.kind != "cgroup2" or here.kind != "cgroup2":
            return path
        inside = there.root / path.relative_to(there.point)
        top = here.root / self.root.relative_to(here.point)
        if not inside.is_relative_to(top):
            return path
        same = self.root / inside.relative_to(top)
        return same if cgroup_id(str(same)) == cgroup_id(str(path)) else path

    def _problem_with(self, text: str, path: Path) -> Problem | None:
        """Why ``path`` cannot be limited; the mount table knows what is a cgroup."""
        if path.is_relative_to(self.root):
            kind, mount_point = "cgroup2", self.root
        else:
            mount = _mount_of(path, _read_mounts(self._proc))
            kind, mount_point = mount.kind, mount.point
        if kind == "cgroup":
            return Problem(
                KEY,
                text,
                "is a cgroup v1 path, and programs attach to cgroup v2 only",
                f"give the process's cgroup below {self.root}, or pid:N",
            )
        if kind != "cgroup2" or not path.is_dir():
            return Problem(
                KEY, text, "is not a cgroup", f"give a folder below {self.root}, or pid:N"
            )
        if path == mount_point:
            return Problem(
                KEY,
                text,
                "is the root cgroup, which holds everything on this machine",
                f"choose a cgroup below it; list them with: find {self.root} -type d",
            )
        return None

    def _resolve_pid(self, text: str, number: str) -> Resolved | Problem:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", number, re.ASCII):
            return Problem(KEY, text, "is not a process id", "write pid:N with N from ps")
        try:
            lines = (self._proc / number / "cgroup").read_text().splitlines()
        except OSError:
            return Problem(
                KEY, text, "is not a running process", "take the id of one that runs, from ps"
            )
        inside = next((line[3:] for line in lines if line.startswith("0::")), None)
        if inside is None or inside.startswith("/.."):
            return Problem(
                KEY,
                text,
                "is in no cgroup v2 that is visible here",
                "start the daemon in the host's cgroup namespace, with cgroup v2 mounted",
            )
        if inside == "/":
            return Problem(
                KEY,
                text,
                "is in the root cgroup, which holds everything on this machine",
                "move it to a cgroup of its own, or start it with: podpace run … -- COMMAND",
            )
        path = self.root / inside.removeprefix("/")
        if not path.is_dir():
            return Problem(
                KEY,
                text,
                f"is in a cgroup that is not at {path}",
                "give --cgroup-root to the daemon, or take a process that has not ended",
            )
        return _found(text, text, path)

    def _resolve_container(self, text: str, prefix: str) -> Resolved | Problem:
        if not re.fullmatch(r"[0-9a-f]{1,64}", prefix):
            return Problem(
                KEY, text, "is not a container id", "write the hexadecimal id, from crictl ps"
            )
        found: dict[str, str] = {}
        for path in self.walk():
            match = _CONTAINER.fullmatch(path.rpartition("/")[2])
            container = None if match is None else next(filter(None, match.groups()))
            if container is not None and container.startswith(prefix):
                # The walk goes from the top down: the first is the container's own cgroup.
                found.setdefault(container, path)
        if not found:
            return Problem(
                KEY,
                text,
                f"is no container in a cgroup below {self.root}",
                "list the running ones with: crictl ps, or docker ps --no-trunc",
            )
        if prefix in found:
            found = {prefix: found[prefix]}
        if len(found) > 1:
            some = ", ".join(c[: len(prefix) + 6] for c in sorted(found)[:3])
            return Problem(
                KEY,
                text,
                f"fits {len(found)} containers ({some}{', …' if len(found) > 3 else ''})",
                "write more of the id",
            )
        ((container, path),) = found.items()
        return _found(text, f"container:{container}", Path(path))


def find_cgroup_root(given: Path | None, proc: Path = Path("/proc")) -> Path:
    """The mount point of cgroup v2, or ``given`` if it is in one. Raises ``UnsupportedError``.

    On a hybrid host, ``given`` may also be the folder of all hierarchies (/sys/fs/cgroup).
    """
    mounts = _read_mounts(proc)
    if given is not None:
        real = Path(os.path.realpath(given))
        for path in (real, real / "unified"):
            if path.is_dir() and _mount_of(path, mounts).kind == "cgroup2":
                return path
        raise UnsupportedError(
            f"--cgroup-root {given} is not a folder of cgroup v2; see: grep cgroup2 /proc/mounts"
        )
    for mount in mounts:
        if mount.kind == "cgroup2":
            return mount.point
    raise UnsupportedError(
        "cgroup v2 is not mounted; boot with systemd.unified_cgroup_hierarchy=1, or: "
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


@dataclass(frozen=True, slots=True)
class _Mount:
    point: Path
    kind: str
    """The file system's type."""
    root: Path = Path("/")
    """What of the file system is mounted."""


def _read_mounts(proc: Path) -> list[_Mount]:
    """Each mount, in mount order. Whoever may mount chooses the names: any bytes but zero."""
    mounts = []
    for line in os.fsdecode((proc / "self/mountinfo").read_bytes()).split("\n"):
        fields, _, tail = line.partition(" - ")
        if tail:
            root, point = map(_unescaped, fields.split(" ")[3:5])
            mounts.append(_Mount(point, tail.split(" ")[0], root))
    return mounts


def _unescaped(text: str) -> Path:
    return Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text))


def _mount_of(path: Path, mounts: list[_Mount]) -> _Mount:
    """The mount that ``path`` is on: the deepest, the latest among equals."""
    covering = [mount for mount in mounts if path.is_relative_to(mount.point)]
    nothing = _Mount(Path("/"), "")
    return max(reversed(covering), key=lambda mount: len(mount.point.parts), default=nothing)


def _found(text: str, name: str, path: Path) -> Resolved | Problem:
    inode = cgroup_id(str(path))
    return _gone(text) if inode is None else Resolved(name, str(path), inode)


def _gone(text: str) -> Problem:
    return Problem(KEY, text, "was removed just now", "give a cgroup that stays")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
