"""What is told of events on the spans that they belong to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator import events

Value = str | int | float | bool | Sequence[str]
# Those of one span; what comes later is left out.
MOST = 100


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a span."""

    name: str
    at: datetime
    attributes: Mapping[str, Value] = field(default_factory=dict)


def happened(event: events.Event) -> Happening | None:
    """What is told of an event on the span that it belongs to; None: nothing."""
    match event:
        case events.RolloutStateChanged():
            return Happening(event.state, event.at)
        case events.WaveChanged():
            return Happening(event.change, event.at)
        case events.MigrationStarted():
            return Happening("attempt", event.at, {"orchestrator.attempt": event.attempt})
        case events.LockWaited():
            waited = {"orchestrator.seconds": event.seconds, "orchestrator.acquired": event.acquired}
            return Happening("lock_waited", event.at, waited)
        case events.BackupTaken():
            return Happening("backup_taken", event.at, {"orchestrator.seconds": event.seconds})
        case events.BackupFailed():
            return Happening("backup_failed", event.at, {"orchestrator.seconds": event.seconds})
        case events.StepApplied():
            said: dict[str, Value] = {"orchestrator.revision": event.revision, "orchestrator.seconds": event.seconds}
            return Happening("step_applied", event.at, said)
        case events.MigrationRetried():
            said = {"orchestrator.reason": event.reason, "orchestrator.seconds": event.wait_seconds}
            return Happening("retried", event.at, said)
        case events.ReplayRefused():
            code = {} if event.code is None else {"db.response.status_code": event.code}
            return Happening("replay_refused", event.at, code)
        case events.BackfillReleased():
            said = {"orchestrator.reason": event.reason, "orchestrator.seconds": event.seconds}
            return Happening("held", event.at - timedelta(seconds=event.seconds), said)
        case _:
            return None
