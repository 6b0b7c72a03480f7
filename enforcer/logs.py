"""Structured logs: one JSON line per decision, on stdout."""

import logging
from typing import Any

import structlog

LEVELS = ("debug", "info", "warning", "error")


class _Forward(logging.Handler):
    """Libraries' records (uvicorn's) as the same JSON lines."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning(record.getMessage(), logger=record.name)


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
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    log = structlog.get_logger()
    logging.basicConfig(handlers=[_Forward(log)], level=logging.WARNING, force=True)
    return log
