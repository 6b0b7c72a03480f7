"""Structured logs: one JSON line per decision, on stdout."""

import contextlib
import io
import logging
import sys
from typing import Any

# structlog imports rich where it finds it, for tracebacks that we do not print. Hidden for as long
# as that import takes: 4 MB of the daemon's 60.
_hide_rich = "rich" not in sys.modules
if _hide_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if _hide_rich:
    del sys.modules["rich"]

LEVELS = ("debug", "info", "warning", "error")


class _Stream(io.StringIO):
    """Standard output, on a full disk or a closed pipe too: a line is lost, nothing else is.

    A log line comes after what it tells of. If it could raise, its failure would look like one of
    that, and undo it.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


def make_log(level: str) -> Any:
    """The daemon's logger; ``level`` is one of :data:`LEVELS`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(_Stream()),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger()
