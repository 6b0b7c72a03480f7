"""Pure: a token bucket for what is done now and then; the clock is passed in."""


class Budget:
    """``burst`` at once, and one more every ``refill_seconds``."""

    def __init__(self, burst: int, refill_seconds: float, now: float) -> None:
        self._burst = burst
        self._refill_seconds = refill_seconds
        self._left = float(burst)
        self._at = now

    def spend(self, now: float) -> float:
        """Take one and return 0; or, when none is left, the seconds until there is one."""
        self._left = min(self._burst, self._left + (now - self._at) / self._refill_seconds)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * self._refill_seconds
        self._left -= 1
        return 0.0
