"""Tells when the first process comes into a cgroup that waits for one: inotify on its events.

A cgroup gets its processes after its limit. Until then there is no interface to look at, and nobody
need look.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from inotify_simple import INotify, flags

EVENTS_FILE = "cgroup.events"


class ProcessWatch:
    """:meth:`step` is run in a loop by a thread of its own; ``tell`` is called from there.

    Where the kernel refuses (fs.inotify.max_user_watches), the next resync finds the process.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        try:
            self._inotify: INotify | None = INotify()
        except OSError:
            self._inotify = None

    def waits(self, cgroup_path: str) -> bool:
        """Begin to wait, unless a process is there already; False when one is."""
        if self._inotify is not None:
            with self._lock:
                if cgroup_path not in self._watches:
                    try:
                        number = self._inotify.add_watch(
                            f"{cgroup_path}/{EVENTS_FILE}", flags.MODIFY
                        )
                    except OSError:
                        number = None
                    if number is not None:
                        self._watches[cgroup_path] = number
                        self._paths[number] = cgroup_path
        if not is_populated(cgroup_path):
            return True
        self.forget(cgroup_path)
        return False

    def watches(self, cgroup_path: str) -> bool:
        """Whether the first process there will be told."""
        return cgroup_path in self._watches

    def forget(self, cgroup_path: str) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            number = self._watches.pop(cgroup_path, None)
            if number is not None and self._inotify is not None:
                self._paths.pop(number, None)
                with contextlib.suppress(OSError):  # it went with its cgroup
                    self._inotify.rm_watch(number)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._inotify is not None:
            self._inotify.close()

    def step(self, timeout_milliseconds: int | None = None) -> None:
        """Wait for the next process, and tell its cgroup's path."""
        if self._inotify is None:
            threading.Event().wait()
            return
        for event in self._inotify.read(timeout_milliseconds):
            with self._lock:
                path = self._paths.get(event.wd)
                if path is not None and event.mask & flags.IGNORED:
                    del self._paths[event.wd]
                    self._watches.pop(path, None)
                    continue
            if path is not None and is_populated(path):
                self.forget(path)
                self._tell(path)


def is_populated(cgroup_path: str) -> bool:
    """Whether a process is in the cgroup or below."""
    try:
        return "populated 1" in Path(cgroup_path, EVENTS_FILE).read_text()
    except OSError:
        return False
