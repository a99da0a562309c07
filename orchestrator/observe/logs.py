"""Sets logging up: ours and the libraries', through the same processors, to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from orchestrator.observe import plain, redact, requests
from orchestrator.settings import LogFormat, LogLevel

# What libraries may say when we are at `info`, and when we are at `debug`. SQLAlchemy's statements carry tenants' data,
# and an HTTP client's URLs may hold a secret, so they stay out of the log at every level; Alembic tells at `info` what
# `migration_finished` tells better.
_LIBRARIES: Mapping[str, tuple[int, int]] = {
    "alembic": (logging.WARNING, logging.INFO),
    "asyncio": (logging.WARNING, logging.INFO),
    "httpcore2": (logging.WARNING, logging.WARNING),
    "httpx2": (logging.WARNING, logging.WARNING),
    "opentelemetry": (logging.CRITICAL + 1, logging.CRITICAL + 1),  # headers may stand in it; see `otlp`
    "sqlalchemy": (logging.WARNING, logging.WARNING),
    "uvicorn": (logging.WARNING, logging.INFO),
    "uvicorn.access": (logging.CRITICAL, logging.CRITICAL),
}


def configure(format: LogFormat = "auto", level: LogLevel = "info", *, stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (standard error), as text for people or JSON for machines.

    `auto` is `console` on a terminal and `json` elsewhere. May be called again: the last call counts.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _route(_handler(chosen(format, stream.isatty()), stream), number)


def chosen(format: LogFormat, terminal: bool) -> LogFormat:
    """`json` or `console`.

    >>> chosen("auto", terminal=False)
    'json'
    """
    if format == "auto":
        return "console" if terminal else "json"
    return format


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that runs last before rendering: see `redact`."""
    return {key: redact.pair(key, value) for key, value in event.items()}


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        requests.add,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _handler(format: LogFormat, stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # a plain traceback: local variables hold URLs
                mask,
                plain.bounded,
                *_renderer(format, stream),
            ],
        )
    )
    return handler


def _renderer(format: LogFormat, stream: TextIO) -> Sequence[Processor]:
    if format == "json":
        return (plain.within(structlog.processors.JSONRenderer(allow_nan=False)),)
    console = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )
    return plain.one_line, console


def _route(handler: logging.Handler, level: int) -> None:
    """Make `handler` the only way out: libraries that brought handlers of their own lose them."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, (usual, debugging) in _LIBRARIES.items():
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(level, debugging if level <= logging.DEBUG else usual))
