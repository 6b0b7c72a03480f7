"""Pure: what a member would use, from what it used of what it was given."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

HUNGRY_PERCENT: Final = 92
"""Who uses so much of what it is given may want more: limiters bring 97 to 101 % of it."""
HEADROOM_PERCENT: Final = 115
"""Who wants less is given so much of what it uses: 100/115 is clearly below the above."""
_LEAST_FRAMES_BYTES: Final = 3 * 1514
"""Fewer frames say nothing about a rate."""
_FRAMES_BYTES: Final = 8 * 1514
_LONGEST_SECONDS: Final = 3.2
_NSEC_PER_SEC: Final = 10**9


@dataclass(frozen=True, slots=True)
class _Sample:
    at_ns: int
    used_bytes: int
    given_bytes: float
    """What it might have used since the beginning."""


@dataclass(slots=True)
class Demand:
    """One member's, in one direction; remembers as much as is needed."""

    _samples: deque[_Sample] = field(default_factory=deque)
    _was_hungry: bool = False

    def look(self, at_ns: int, used_bytes: int, given_bytes_per_sec: int) -> None:
        """The counter as it is now; ``given`` is what held since the last look."""
        if self._samples and used_bytes < self._samples[-1].used_bytes:
            self._samples.clear()  # counted anew
        given = 0.0
        if self._samples:
            last = self._samples[-1]
            given = last.given_bytes
            given += given_bytes_per_sec * max(0, at_ns - last.at_ns) / _NSEC_PER_SEC
        self._samples.append(_Sample(at_ns, used_bytes, given))
        longest_ns = _window_seconds(given_bytes_per_sec) * _NSEC_PER_SEC
        while len(self._samples) > 2 and self._samples[1].at_ns <= at_ns - longest_ns:
            self._samples.popleft()

    def wants(self, everything: int) -> int:
        """What it would use; ``everything`` where it uses all it is given, now or a look ago.

        Up at once, down at the second look: who has just been given more takes a moment to use it.
        """
        is_hungry = any(_is_hungry(start, self._samples[-1]) for start in self._starts())
        held, self._was_hungry = is_hungry or self._was_hungry, is_hungry
        if held:
            return everything
        used = max((_rate(start, self._samples[-1]) for start in self._starts()), default=0.0)
        return min(everything, int(used * HEADROOM_PERCENT / 100))

    def used_bytes_per_sec(self) -> int:
        """Since the last look but one."""
        return int(_rate(self._samples[-2], self._samples[-1])) if len(self._samples) > 1 else 0

    def _starts(self) -> tuple[_Sample, ...]:
        """Of the last look, and of so many that the rate holds some frames."""
        if len(self._samples) < 2:
            return ()
        return self._samples[-2], self._samples[0]


def _window_seconds(given_bytes_per_sec: int) -> float:
    return min(_LONGEST_SECONDS, _FRAMES_BYTES / max(1, given_bytes_per_sec))


def _rate(start: _Sample, end: _Sample) -> float:
    return (end.used_bytes - start.used_bytes) * _NSEC_PER_SEC / max(1, end.at_ns - start.at_ns)


def _is_hungry(start: _Sample, end: _Sample) -> bool:
    used, given = end.used_bytes - start.used_bytes, end.given_bytes - start.given_bytes
    return used >= max(_LEAST_FRAMES_BYTES, given * HUNGRY_PERCENT / 100)
