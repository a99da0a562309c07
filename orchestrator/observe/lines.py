"""What the log says of each event: every such line is made here, by the table in `log_events`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator import events
from orchestrator.observe.log_entries import LEFT_OUT, Level, key_of
from orchestrator.observe.log_events import BY_EVENT, ROLLOUT_FINISHED

# Where the target is of which an event tells, as the registry has it now: `database` and `schema`, or neither.
Where = Callable[[events.MigrationFinished], Mapping[str, str | None]]
# The trace and the span that tell of the event as well; nothing where traces are off.
Ids = Callable[[events.Event], Mapping[str, str]]

_NUMBERS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

log = structlog.get_logger("orchestrator.events")


@dataclass(frozen=True, slots=True)
class Line:
    level: Level
    name: str
    fields: Mapping[str, Any]


def lines(event: events.Event) -> Iterator[Line]:
    """The lines that tell of `event`; none of one that is not in the table."""
    if entry := BY_EVENT.get(type(event)):
        yield Line(entry.level_of(event), entry.name, fields(event))
    if isinstance(event, events.RolloutStateChanged) and event.ending is not None:
        yield _finished(event, event.ending)


def level(event: events.Event) -> Level:
    """How loud an event is: `warning` and `error` want a person, the rest is the record."""
    entry = BY_EVENT.get(type(event))
    return entry.level_of(event) if entry else "debug"


def fields(event: events.Event) -> Mapping[str, Any]:
    """The event's values under the log's keys, without those that say nothing; seconds to the millisecond."""
    told = {key_of(type(event), name): value for name, value in event.as_dict().items() if name not in LEFT_OUT}
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in _said(told).items()}


def _finished(event: events.RolloutStateChanged, ending: Mapping[str, Any]) -> Line:
    """A rollout's last line: its end by itself, whatever was told before."""
    known = fields(event)
    told = {"outcome": event.state, **known, **ending}
    values = _said({key: told.get(key) for key in ROLLOUT_FINISHED.keys})
    by = ROLLOUT_FINISHED.level
    return Line(by if isinstance(by, str) else by.of(event.state), ROLLOUT_FINISHED.name, values)


def _is_heard(level: Level) -> bool:
    return logging.getLogger().isEnabledFor(_NUMBERS[level])


def _said(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def writer(where: Where, ids: Ids = lambda event: {}) -> Callable[[events.Event], None]:
    """Subscribe this to the bus."""

    def write(event: events.Event) -> None:
        # A line that nobody wants to hear is not made: steps and migrations are many. A rollout has a second one.
        if not isinstance(event, events.RolloutStateChanged) and not _is_heard(level(event)):
            return
        at = _said(where(event)) if isinstance(event, events.MigrationFinished) else {}
        for line in lines(event):
            say: Callable[..., object] = getattr(log, line.level)
            say(line.name, **line.fields, **at, **ids(event))

    return write
