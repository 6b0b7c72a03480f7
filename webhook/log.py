"""Logs: JSON, one line per decision, on standard output."""

import logging
from typing import Any

import msgspec
import structlog

_encoder = msgspec.json.Encoder(enc_hook=str)


def configure(level: str = "info") -> None:
    """Set up structlog for this process, and let other libraries' warnings through."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serialize),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING)


def _serialize(event: Any, **_: Any) -> bytes:
    try:
        return _encoder.encode(event)
    except ValueError:
        # A lone surrogate in somebody's text has no UTF-8.
        return repr(event).encode("ascii", "backslashreplace")
