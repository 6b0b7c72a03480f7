"""A process that logs JSON to standard output; its log is read as it is written."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.cluster.client import Json
from tests.cluster.plane import DIES_WITH_US

ROOT: Final = Path(__file__).parents[2]
LOG_SECONDS: Final = 30


class LoggedProcess:
    """One process, started at once; ``stderr`` is the file that its standard error goes to."""

    def __init__(self, command: Sequence[str | Path], stderr: Path, folder: Path = ROOT) -> None:
        self.log: list[Json] = []
        self._news = threading.Condition()
        self._stderr = stderr
        with stderr.open("wb") as errors:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, *command],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONWARNINGS": "default"},
                cwd=folder,
            )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait_log(
        self, wanted: Callable[[Json], Any], seconds: float = LOG_SECONDS, start: int = 0
    ) -> Json:
        """The first log line from ``start`` on that is wanted, waiting for it."""
        until = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self.log[start:]:
                    if wanted(line):
                        return line
                # Lines are looked at once: a busy log would be searched again for each.
                start = max(start, len(self.log))
                left = until - time.monotonic()
                assert left > 0, f"no such log line in {seconds} s; last: {self.log[-5:]}"
                assert self.process.poll() is None or self._reader.is_alive(), (
                    f"ended without that line; last: {self.log[-5:]} {self.errors()[-2000:]}"
                )
                self._news.wait(min(left, 1.0))

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def join(self) -> int:
        """Wait until it has ended; its exit code."""
        code = self.process.wait(60)
        self._reader.join()
        return code

    def errors(self) -> str:
        """What it wrote to standard error; should be nothing."""
        return self._stderr.read_text()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.log.append(json.loads(line))
                    self._news.notify_all()
