"""Logs: JSON, one line per decision, on standard output."""

import logging
import sys
from typing import Any

import msgspec
import structlog

_encoder = msgspec.json.Encoder(enc_hook=str)


def configure(level: str = "info") -> None:
    """Set up structlog for this process; other libraries' warnings come out in the same form."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_serialize)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_serialize_text),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _serialize_text(event: Any, **options: Any) -> str:
    return _serialize(event, **options).decode()


def _serialize(event: Any, **_: Any) -> bytes:
    try:
        return _encoder.encode(event)
    except ValueError:
        # A lone surrogate in somebody's text has no UTF-8.
        return repr(event).encode("ascii", "backslashreplace")
