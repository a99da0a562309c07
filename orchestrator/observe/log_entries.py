"""What the table of log events is made of: an entry for each name that a line of the log can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from orchestrator import events

Level = Literal["debug", "info", "warning", "error"]

# Of events: keys that read better, or that other lines have for the same, than the event's own field names.
RENAMED: Mapping[type[events.Event], Mapping[str, str]] = {
    events.RolloutCreated: {"to": "goal", "waves": "wave_totals"},
    events.RolloutStateChanged: {"allowed": "failures_allowed", "accepted": "failures_accepted"},
    events.BackupTaken: {"path": "file"},
    events.PlanJudged: {"from_heads": "from", "to_heads": "to"},
    events.MigrationFinished: {
        "from_heads": "from",
        "to_heads": "to",
        "kind": "error",
        "code": "error_code",
        "revision": "error_revision",
    },
    events.ReplayRefused: {"code": "error_code"},
    events.SegmentRan: {"kind": "error", "code": "error_code", "namespace": "database"},
    events.BackfillStopped: {"kind": "outcome"},
    events.BackfillHeld: {"text": "message"},
    events.RegistryReloaded: {"result": "outcome"},
}
# What is not for the log: a number for each batch, a text for each statement, what the rollout's last line tells apart.
LEFT_OUT = frozenset({"at", "batches", "statements", "unnamed", "ending", "again"})


@dataclass(frozen=True, slots=True)
class By:
    """A level that follows a field of the event: of some values, and of all others."""

    field: str
    levels: Mapping[object, Level]
    otherwise: Level

    def of(self, value: object) -> Level:
        return self.levels.get(value, self.otherwise)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. `told`: when there is such a line; `remedy`: what to do where it is a warning or an error. `keys` are
    those that it can have; one whose value is None is left out of a line."""

    name: str
    level: Level | By
    told: str
    remedy: str = ""
    keys: tuple[str, ...] = ()

    @property
    def levels(self) -> set[Level]:
        return {self.level} if isinstance(self.level, str) else {*self.level.levels.values(), self.level.otherwise}


@dataclass(frozen=True, slots=True)
class Told(Entry):
    """The line of an event."""

    event: type[events.Event] = field(default=events.Event)

    def level_of(self, event: events.Event) -> Level:
        level = self.level
        return level if isinstance(level, str) else level.of(getattr(event, level.field))


def told(
    event: type[events.Event], name: str, level: Level | By, text: str, remedy: str = "", *, further: str = ""
) -> Told:
    """The entry of an event; its keys follow from the event's fields, and `further` ones."""
    found = [key_of(event, one.name) for one in fields(event) if one.name not in LEFT_OUT]
    return Told(name, level, text, remedy, (*found, *further.split()), event)


def key_of(event: type[events.Event], name: str) -> str:
    """The log's key for a field of an event."""
    return RENAMED.get(event, {}).get(name, name)


def call(name: str, level: Level, keys: str, text: str, remedy: str = "") -> Entry:
    """The entry of a line that a call of the logger makes, with its keys in their order."""
    return Entry(name, level, text, remedy, tuple(keys.split()))


def words(level: Level | By, renamed: Mapping[str, str]) -> str:
    """A level for people.

    >>> words(By("wait_seconds", {None: "error"}, "info"), {})
    '`info`; `error` without `wait_seconds`'
    >>> words(By("outcome", {"failed": "error", "locked": "warning", "ahead": "warning"}, "info"), {})
    '`info`; `error` where `outcome` is failed; `warning` where it is locked or ahead'
    """
    if isinstance(level, str):
        return f"`{level}`"
    key, by_level = renamed.get(level.field, level.field), dict[Level, list[Any]]()
    for value, one in level.levels.items():
        by_level.setdefault(one, []).append(value)
    parts, subject = [f"`{level.otherwise}`"], f"`{key}`"
    for one, values in by_level.items():
        if values == [None]:
            parts.append(f"`{one}` without {subject}")
        else:
            shown = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
            parts.append(f"`{one}` where {subject} is {' or '.join(', '.join(shown).rsplit(', ', 1))}")
        subject = "it"
    return "; ".join(parts)
