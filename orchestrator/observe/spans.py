"""The spans of traces as values, made from what is known at their end. Pure.

Names and attributes are what people search by: extend them, do not rename. No span ever carries a message, a value of
a row, a literal of a statement, or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator import events
from orchestrator.observe.happenings import MOST, Happening, Value
from orchestrator.observe.rollouts import FAILURES
from orchestrator.observe.trace_ids import Link

# Names; a statement's span is named by what it does.
ROLLOUT, REQUEST, WAVE, MIGRATION, SEGMENT, BACKFILL = (
    "rollout",
    "rollout requested",
    "wave",
    "migration",
    "segment",
    "backfill",
)


@dataclass(frozen=True, slots=True)
class Span:
    """`error`: what kind of failure it ended in. `client`: it tells of a call to another server."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, Value]
    happenings: Sequence[Happening] = ()
    error: str | None = None
    client: bool = False
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a span belongs; `span_id`: its own."""

    trace_id: int
    span_id: int
    parent_id: int | None


def rollout(
    event: events.RolloutStateChanged,
    origin: Origin,
    began_at: datetime,
    attempt: int,
    happenings: Sequence[Happening],
) -> Span:
    """One run of it, which has just finished."""
    error = None if event.state == "succeeded" else event.state
    attributes: dict[str, Value] = {
        "orchestrator.rollout.id": event.rollout,
        "orchestrator.track": event.track,
        "orchestrator.rollout.state": event.state,
        "orchestrator.attempt": attempt,
        **_counted(event.counts),
    }
    return _span(ROLLOUT, origin, began_at, event.at, attributes, error, happenings)


def request(event: events.RolloutRequested, origin: Origin, link: Link) -> Span:
    """Somebody else's work that asked for the rollout: a moment, which holds the link to it."""
    attributes: dict[str, Value] = {"orchestrator.rollout.id": event.rollout, "orchestrator.track": event.track}
    return Span(REQUEST, origin.trace_id, origin.span_id, origin.parent_id, event.at, event.at, attributes, link=link)


def wave(
    event: events.RolloutEvent,
    name: str,
    origin: Origin,
    began_at: datetime,
    attempt: int,
    counts: Mapping[str, int],
    happenings: Sequence[Happening],
) -> Span:
    """One that has just passed its gate, or whose rollout is over."""
    failed = any(counts.get(state) for state in FAILURES)
    attributes: dict[str, Value] = {
        "orchestrator.rollout.id": event.rollout,
        "orchestrator.track": event.track,
        "orchestrator.wave": name,
        "orchestrator.attempt": attempt,
        **_counted(counts),
    }
    return _span(WAVE, origin, began_at, event.at, attributes, "targets_failed" if failed else None, happenings)


def migration(
    event: events.MigrationFinished,
    origin: Origin,
    began_at: datetime,
    happenings: Sequence[Happening],
    *,
    detailed: bool,
) -> Span:
    error = (event.code or event.kind or event.outcome) if event.outcome in FAILURES else None
    attributes: dict[str, Value | None] = {
        **_who(event),
        "orchestrator.outcome": event.outcome,
        "orchestrator.attempts": event.attempts,
        "orchestrator.execution": event.execution,
        "orchestrator.steps": event.steps,
        "orchestrator.heads.from": event.from_heads,
        "orchestrator.heads.to": event.to_heads,
        "orchestrator.revision": event.revision,
        "orchestrator.signature": event.signature,
        "orchestrator.detailed": detailed,
    }
    return _span(MIGRATION, origin, began_at, event.at, attributes, error, happenings)


def interrupted(event: events.MigrationStarted, origin: Origin, at: datetime, happenings: Sequence[Happening]) -> Span:
    """One that this process goes on with no further: it is pending again."""
    attributes: dict[str, Value | None] = {
        **_who(event),
        "orchestrator.outcome": "interrupted",
        "orchestrator.attempts": event.attempt,
        "orchestrator.detailed": True,
    }
    return _span(MIGRATION, origin, event.at, at, attributes, "interrupted", happenings)


def segment(event: events.SegmentRan, origin: Origin, attempt: int) -> Span:
    attributes: dict[str, Value | None] = {
        **_who(event),
        "orchestrator.execution": event.execution,
        "orchestrator.revisions": event.revisions,
        "orchestrator.attempt": attempt,
        "orchestrator.statements.unnamed": event.unnamed or None,
    }
    ended_at = event.began_at + timedelta(seconds=event.seconds)
    return _span(SEGMENT, origin, event.began_at, ended_at, attributes, event.code or event.kind)


def statement(event: events.SegmentRan, sent: events.Statement, origin: Origin) -> Span:
    attributes: dict[str, Value | None] = {
        "db.system.name": event.system,
        "db.namespace": event.namespace,
        "db.operation.name": sent.operation,
        "db.operation.batch.size": sent.batch,
        "db.query.text": sent.text,
        "db.response.status_code": sent.code,
        "server.address": event.server,
        "server.port": event.port,
        "orchestrator.revision": sent.revision,
    }
    ended_at = sent.began_at + timedelta(seconds=sent.seconds)
    error = (sent.code or "failed") if sent.failed else None
    return _span(sent.operation, origin, sent.began_at, ended_at, attributes, error, client=True)


def backfill(
    event: events.BackfillFinished | events.BackfillStopped,
    origin: Origin,
    changed_before: int,
    batches: int,
    happenings: Sequence[Happening],
) -> Span:
    kind = event.kind if isinstance(event, events.BackfillStopped) else None
    attributes: dict[str, Value | None] = {
        "orchestrator.rollout.id": event.rollout,
        "orchestrator.track": event.track,
        "orchestrator.tenant": event.tenant,
        "orchestrator.shard": event.shard,
        "orchestrator.revision": event.revision,
        "orchestrator.backfill.table": event.table,
        "orchestrator.backfill.rows": max(0, event.changed - changed_before),
        "orchestrator.backfill.rows.total": event.changed,
        "orchestrator.backfill.batches": batches,
        "orchestrator.backfill.sweeps": event.sweep,
    }
    began_at = event.at - timedelta(seconds=event.seconds)
    return _span(BACKFILL, origin, began_at, event.at, attributes, kind, happenings)


def _who(event: events.MigrationEvent) -> dict[str, Value | None]:
    return {
        "orchestrator.rollout.id": event.rollout,
        "orchestrator.track": event.track,
        "orchestrator.tenant": event.tenant,
        "orchestrator.shard": event.shard,
        "orchestrator.wave": event.wave,
    }


def _counted(counts: Mapping[str, int]) -> dict[str, Value]:
    return {
        "orchestrator.targets": sum(counts.values()),
        "orchestrator.targets.failed": sum(counts.get(state, 0) for state in FAILURES),
    }


def _span(
    name: str,
    origin: Origin,
    began_at: datetime,
    ended_at: datetime,
    attributes: Mapping[str, Value | None],
    error: str | None,
    happenings: Sequence[Happening] = (),
    *,
    client: bool = False,
) -> Span:
    given = {key: value for key, value in attributes.items() if value is not None}
    if error is not None:
        given["error.type"] = error
    return Span(
        name,
        origin.trace_id,
        origin.span_id,
        origin.parent_id,
        began_at,
        max(began_at, ended_at),
        given,
        tuple(happenings[:MOST]),
        error,
        client,
    )
