"""Tells when pods' cgroups appear, fill, empty and vanish: inotify on the tree.

Every folder is watched that is no pod's and not inside one, since nobody can say where the pods'
own folder will be made. The tree is read again now and then, in case the kernel dropped events or
refused a watch.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

from enforcer.pods.cgroups import pod_uid
from enforcer.pods.news import CgroupAppeared, CgroupPopulated, CgroupVanished
from enforcer.ports import Log
from enforcer.reconcile.process_watch import EVENTS_FILE, is_populated

RESCAN_SECONDS: Final = 60.0
_RESCAN_UNWATCHED_SECONDS: Final = 1.0
"""Where the kernel refuses watches (fs.inotify.max_user_watches), the tree is read this often."""
_POLL_MILLISECONDS: Final = 2000
_FOLDER_EVENTS: Final = flags.CREATE | flags.DELETE | flags.ONLYDIR

Tell = Callable[[CgroupAppeared | CgroupPopulated | CgroupVanished], None]


@dataclass(slots=True)
class _PodCgroup:
    uid: str
    inode: int
    watch: int | None = None
    """On its ``cgroup.events``."""
    populated: bool = False


class CgroupWatch:
    """Run it in one thread: :meth:`run`. ``tell`` is called from there."""

    def __init__(self, root: Path, tell: Tell, log: Log) -> None:
        self._root = str(root)
        self._tell = tell
        self._log = log
        self._folders: dict[int, str] = {}
        self._pods: dict[str, _PodCgroup] = {}
        self._events: dict[int, str] = {}
        self._refused = False
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify()
        except OSError as error:
            self._refuse(error)

    def run(self, stopping: threading.Event) -> None:
        """Tell what is there, then what changes, until ``stopping``."""
        with contextlib.ExitStack() as stack:
            if self._inotify is not None:
                stack.enter_context(self._inotify)
            self._rescan()
            scanned = time.monotonic()
            while not stopping.is_set():
                overflow = self._wait(stopping)
                every = _RESCAN_UNWATCHED_SECONDS if self._refused else RESCAN_SECONDS
                if overflow or time.monotonic() - scanned >= every:
                    self._rescan()
                    scanned = time.monotonic()

    def _wait(self, stopping: threading.Event) -> bool:
        """Take what comes for a while; True when the kernel had to drop events."""
        if self._inotify is None:
            stopping.wait(_RESCAN_UNWATCHED_SECONDS / 2)
            return False
        overflow = False
        for event in self._inotify.read(timeout=_POLL_MILLISECONDS):
            overflow |= bool(event.mask & flags.Q_OVERFLOW)
            self._take(event.wd, event.mask, event.name)
        return overflow

    def _take(self, watch: int, mask: int, name: str) -> None:
        if mask & flags.IGNORED:
            self._folders.pop(watch, None)
            self._events.pop(watch, None)
        elif watch in self._events:
            self._look_inside(self._events[watch])
        elif watch in self._folders and mask & flags.ISDIR:
            path = f"{self._folders[watch]}/{name}"
            if mask & flags.CREATE:
                self._found(path, name)
            elif mask & flags.DELETE and path in self._pods:
                self._vanished(path)

    def _rescan(self) -> None:
        """Read the whole tree; what is known already is not told again."""
        seen: set[str] = set()
        self._scan(self._root, seen)
        for path in self._pods.keys() - seen:
            self._vanished(path)
        for path in self._pods:
            self._look_inside(path)

    def _scan(self, folder: str, seen: set[str]) -> None:
        # Watched before it is read: what is made in between is seen twice rather than never.
        watch = self._watch(folder, _FOLDER_EVENTS)
        if watch is not None:
            self._folders[watch] = folder
        try:
            with os.scandir(folder) as entries:
                children = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return  # removed meanwhile
        for name in children:
            self._found(f"{folder}/{name}", name, seen)

    def _found(self, path: str, name: str, seen: set[str] | None = None) -> None:
        uid = pod_uid(name)
        if uid is None:
            self._scan(path, set() if seen is None else seen)
            return
        try:
            status = Path(path).stat()
        except OSError:
            return
        if status.st_uid != os.geteuid():
            return  # somebody's own part of the tree: kubelets are root, as this daemon is
        if seen is not None:
            seen.add(path)
        known = self._pods.get(path)
        if known is not None and known.inode == status.st_ino:
            return
        if known is not None:
            self._vanished(path)
        # Told first: the limit is to be in force before the containers start.
        self._tell(CgroupAppeared(uid, path))
        self._pods[path] = pod = _PodCgroup(uid, status.st_ino)
        pod.watch = self._watch(f"{path}/{EVENTS_FILE}", flags.MODIFY)
        if pod.watch is not None:
            self._events[pod.watch] = path
        self._look_inside(path)

    def _look_inside(self, path: str) -> None:
        """Tell when the first process has come, or the last has gone."""
        pod = self._pods[path]
        populated = is_populated(path)
        if populated != pod.populated:
            pod.populated = populated
            self._tell(CgroupPopulated(pod.uid, path, populated))

    def _vanished(self, path: str) -> None:
        pod = self._pods.pop(path)
        if pod.watch in self._events and self._inotify is not None:
            del self._events[pod.watch]
            with contextlib.suppress(OSError):  # the kernel may have dropped it
                self._inotify.rm_watch(pod.watch)
        self._tell(CgroupVanished(pod.uid, path))

    def _watch(self, path: str, events: int) -> int | None:
        if self._inotify is None:
            return None
        try:
            return int(self._inotify.add_watch(path, events))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)
            return None

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            self._log.warning(
                "failed",
                operation="watch cgroups",
                reason=f"{error}; the tree is read every second instead; raise "
                "fs.inotify.max_user_watches and fs.inotify.max_user_instances",
            )
