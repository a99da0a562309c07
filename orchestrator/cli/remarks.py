"""Log lines of commands that are watched by a person: few, short, and never with a stack trace."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from orchestrator.cli import boundary
from orchestrator.observe import logs
from orchestrator.settings import LogLevel

EVENTS = "orchestrator.events"


def configure(level: LogLevel = "warning", *, stream: TextIO | None = None) -> None:
    """Send warnings and errors to `stream` (standard error), but for those of events, which commands show better."""
    logs.configure("console", level, stream=stream)
    logging.getLogger(EVENTS).setLevel(logging.CRITICAL)
    traceless = Traceless()
    for handler in logging.getLogger().handlers:
        handler.addFilter(traceless)


class Traceless(logging.Filter):
    """Moves the stack trace of a log line to a file, one for each type of error, and names the file instead."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[type[BaseException], str | None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.msg if isinstance(record.msg, dict) else None  # structlog's; a library's is text
        exc = _raised((ours.pop("exc_info", None) if ours else None) or record.exc_info)
        record.exc_info = record.exc_text = None
        if exc is None:
            return True
        if type(exc) not in self._files:
            self._files[type(exc)] = boundary.write_trace([exc])
        trace = self._files[type(exc)]
        if ours is not None:
            ours["trace"] = trace
        else:
            record.msg, record.args = f"{record.getMessage()} (trace: {trace})", None
        return True


def _raised(exc_info: object) -> BaseException | None:
    """The exception that a log call was given, in any of the ways there are."""
    if exc_info is True:
        return sys.exc_info()[1]
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return exc_info if isinstance(exc_info, BaseException) else None
