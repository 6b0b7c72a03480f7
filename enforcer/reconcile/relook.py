"""Pure but for one file: which targets to look at again soon, because they are still coming up.

A cgroup gets its processes after its limit, and a process may join its network namespace after its
cgroup: what is found in between is not the last word.
"""

import threading
from pathlib import Path
from typing import Final

_FIRST_PAUSE: Final = 1
_LAST_PAUSE: Final = 32
"""In ticks of a tenth of a second: looked at five times within three seconds, then with the rest.
"""


class Relook:
    """Told what was found, says what is due. Ticks are the daemon's periodic calls.

    Safe to call from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: dict[str, int] = {}
        self._due_at: dict[str, int] = {}
        self._tick = 0

    def found(self, cgroup_path: str, *, settled: bool) -> None:
        """A target was looked at. Not settled: it may be held better in a moment."""
        if settled:
            self.forget(cgroup_path)
            return
        with self._lock:
            if cgroup_path not in self._pauses:
                self._pauses[cgroup_path] = _FIRST_PAUSE
                self._due_at[cgroup_path] = self._tick + _FIRST_PAUSE

    def forget(self, cgroup_path: str) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._pauses.pop(cgroup_path, None)
            self._due_at.pop(cgroup_path, None)

    def waits_for(self, cgroup_path: str) -> bool:
        """Whether it will be due."""
        return cgroup_path in self._due_at

    def due(self) -> list[str]:
        """One tick later: the paths to look at now. Those without processes wait, at no cost."""
        with self._lock:
            self._tick += 1
            paths = [path for path, tick in self._due_at.items() if tick <= self._tick]
            ready = [path for path in paths if is_populated(path)]
            for path in ready:
                pause = self._pauses[path] * 2
                self._pauses[path] = pause
                if pause < _LAST_PAUSE:
                    self._due_at[path] = self._tick + pause
                else:
                    del self._due_at[path]
            return ready


def is_populated(cgroup_path: str) -> bool:
    """Whether a process is in the cgroup or below."""
    try:
        return "populated 1" in Path(cgroup_path, "cgroup.events").read_text()
    except OSError:
        return False
