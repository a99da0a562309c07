"""What is to be written of backfills: what they have come to since they were written last. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Key, Record
from orchestrator.backfill.view import Underway
from orchestrator.events import BackfillAdvanced, BackfillFinished, BackfillStopped

GONE = "it ended without a word, or before its first batch: its checkpoint tells how far it came"


def ended(view: Underway, event: BackfillFinished | BackfillStopped) -> Record:
    reason = None if isinstance(event, BackfillFinished) else event.reason
    finished = reason is None
    last = replace(view, progress=_progress(view, event, finished), rows_per_second=None, eta_seconds=None, holds=())
    return Record(
        replace(last, updated_at=event.at), "finished" if finished else "stopped", reason, finished_at=event.at
    )


def _progress(view: Underway, event: BackfillAdvanced, finished: bool) -> Progress:
    before = view.progress
    return replace(
        before,
        finished=finished,
        seen=event.seen,
        changed=event.changed,
        estimated=event.estimated if event.estimated is not None else before.estimated,
        sweep=event.sweep,
        dead_rows=event.dead_rows if event.dead_rows is not None else before.dead_rows,
    )


def changed(
    before: Mapping[Key, Record], current: Mapping[Key, Record], at: datetime, *, progress: bool
) -> list[Record]:
    """What is to be written: what is new, in another state, or held for another reason; with `progress`, whatever is
    otherwise. What is gone without an end has stopped."""
    found = [record for key, record in current.items() if _differs(before.get(key), record, progress)]
    return [*found, *_gone(before, current, at)]


def _differs(before: Record | None, record: Record, progress: bool) -> bool:
    if before is None or progress or record.finished_at is not None:
        return before != record
    return before.state != record.state or _reasons(before) != _reasons(record)


def _reasons(record: Record) -> set[str]:
    return {hold.reason for hold in record.view.holds}


def _gone(before: Mapping[Key, Record], current: Mapping[Key, Record], at: datetime) -> Iterable[Record]:
    for key, record in before.items():
        if key not in current:
            last = replace(record.view, rows_per_second=None, eta_seconds=None, holds=(), updated_at=at)
            yield Record(last, "stopped", GONE, at)
