"""Rollouts, migrations and events as rows, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from orchestrator.events import RolloutEvent
from orchestrator.plan.bound import Planned
from orchestrator.registry.model import FailureBudget
from orchestrator.rollout.ports import StoredEvent
from orchestrator.rollout.state import (
    Aim,
    Direction,
    Failure,
    Migration,
    MigrationState,
    Override,
    Request,
    Rollout,
    RolloutState,
    Scheduled,
)
from orchestrator.rollout.waves import ALL_AT_ONCE, WaveRun
from orchestrator.store.tables import MESSAGE_LIMIT, STATEMENT_LIMIT

# PostgreSQL refuses NUL in text; a lone surrogate (say from a file name in a traceback) cannot be encoded at all.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """The text as both databases can keep it, in at most `limit` characters.

    >>> storable("a\\0b" + "c" * 10, limit=6)
    'a\ufffdbcc…'
    """
    shortened = text if len(text) <= limit else text[: limit - 1] + "…"
    return UNSTORABLE.sub("\ufffd", shortened)


def _optional(text: str | None, limit: int = MESSAGE_LIMIT) -> str | None:
    return None if text is None else storable(text, limit)


def storable_json(value: Any) -> Any:
    """The same for every text inside a value of lists and objects."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {str(key): storable_json(item) for key, item in value.items()}
        case list() | tuple():
            return [storable_json(item) for item in value]
        case _:
            return value


def rollout_row(rollout: Rollout) -> dict[str, Any]:
    request = rollout.request
    return {
        "id": rollout.id,
        "state": str(rollout.state),
        "reason": _optional(rollout.reason),
        "aborting": rollout.aborting,
        "track": request.track,
        "to": request.to,
        "select": request.select,
        "strategy": request.strategy,
        "direction": str(request.direction),
        "created_by": storable(request.created_by),
        "idempotency_key": request.idempotency_key,
        "foreground": request.foreground,
        "max_concurrent": request.max_concurrent,
        "goal": rollout.goal,
        "history_digest": rollout.history_digest,
        "several": {track: [list(aim.goal), aim.history_digest] for track, aim in rollout.several.items()} or None,
        "waves": [_wave_row(wave) for wave in rollout.waves],
        "rolling_back": rollout.rolling_back,
        "approval": rollout.approval,
        "four_eyes": rollout.four_eyes,
        "approved_at": rollout.approved_at,
        "approved_by": _optional(rollout.approved_by),
        "waiting": _optional(rollout.waiting),
        "accepted_failures": 0,
        "plan_digest": request.plan_digest,
        "irreversible": dict(rollout.irreversible) or None,
        "schedule": request.scheduled.schedule if request.scheduled else None,
        "planned_at": request.scheduled.planned_at if request.scheduled else None,
        "windows_overridden": _override_row(rollout.override),
        "total": rollout.total,
        "created_at": rollout.created_at,
        "started_at": rollout.started_at,
        "finished_at": rollout.finished_at,
    }


def rollout_from(row: RowMapping) -> Rollout:
    return Rollout(
        id=row["id"],
        request=Request(
            track=row["track"],
            to=row["to"],
            select=row["select"],
            strategy=row["strategy"],
            direction=Direction(row["direction"]),
            created_by=row["created_by"],
            idempotency_key=row["idempotency_key"],
            foreground=row["foreground"],
            max_concurrent=row["max_concurrent"],
            plan_digest=row["plan_digest"],
            scheduled=Scheduled(row["schedule"], row["planned_at"]) if row["schedule"] is not None else None,
        ),
        goal=row["goal"],
        total=row["total"],
        created_at=row["created_at"],
        history_digest=row["history_digest"],
        state=RolloutState(row["state"]),
        reason=row["reason"],
        aborting=row["aborting"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        several={track: Aim(tuple(goal), digest) for track, (goal, digest) in (row["several"] or {}).items()},
        waves=tuple(_wave_from(wave) for wave in row["waves"] or ()) or ALL_AT_ONCE,
        rolling_back=row["rolling_back"],
        approval=row["approval"],
        four_eyes=row["four_eyes"],
        approved_at=row["approved_at"],
        approved_by=row["approved_by"],
        waiting=row["waiting"],
        irreversible=row["irreversible"] or {},
        override=_override_from(row["windows_overridden"]),
    )


def _override_row(override: Override | None) -> dict[str, Any] | None:
    if override is None:
        return None
    return {"by": storable(override.by), "reason": storable(override.reason), "at": override.at.isoformat()}


def _override_from(values: Mapping[str, Any] | None) -> Override | None:
    return None if values is None else Override(values["by"], values["reason"], datetime.fromisoformat(values["at"]))


def _wave_row(wave: WaveRun) -> dict[str, Any]:
    """A wave as JSON: moments as text, the rest as it is."""
    values = storable_json(asdict(wave))
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _wave_from(values: Mapping[str, Any]) -> WaveRun:
    moments = {
        name: datetime.fromisoformat(value)
        for name, value in values.items()
        if name.endswith(("_at", "_since")) and value is not None
    }
    given = {**values, **moments, "budget": FailureBudget(**values["budget"]), "checks": tuple(values["checks"])}
    given["irreversible"] = tuple(values.get("irreversible", ()))
    return WaveRun(**given)


def migration_row(migration: Migration) -> dict[str, Any]:
    return {
        "rollout": migration.rollout,
        "tenant": migration.tenant,
        "track": migration.track,
        "shard": migration.shard,
        "wave": migration.wave,
        "position": migration.position,
        "state": str(migration.state),
        "attempts": migration.attempts,
        "from_heads": migration.from_heads,
        "to_heads": migration.to_heads,
        "place": migration.place,
        "steps": migration.steps,
        "execution": migration.execution,
        "planned": None if migration.planned is None else _planned(migration.planned),
        "started_at": migration.started_at,
        "finished_at": migration.finished_at,
        "reverting": migration.reverting,
        "doubt": _optional(migration.doubt),
        "counted": None if migration.counted is None else dict(migration.counted),
        **_failure_columns(migration.failure),
    }


NO_FAILURE: Mapping[str, Any] = dict.fromkeys(
    f"failure_{part}" for part in ("kind", "message", "remedy", "code", "revision", "statement", "signature")
)


def _planned(planned: Planned) -> list[Any]:
    return [list(planned.heads), planned.steps, planned.sql]


def _failure_columns(failure: Failure | None) -> Mapping[str, Any]:
    """The signature is that of the whole statement, as the events tell it; only the text that is kept is cut."""
    if failure is None:
        return NO_FAILURE
    return {
        "failure_kind": storable(failure.kind),
        "failure_message": storable(failure.message),
        "failure_remedy": _optional(failure.remedy),
        "failure_code": _optional(failure.code),
        "failure_revision": _optional(failure.revision),
        "failure_statement": _optional(failure.statement, STATEMENT_LIMIT),
        "failure_signature": storable(failure.signature),
    }


def failure_from(row: RowMapping) -> Failure | None:
    if row["failure_kind"] is None:
        return None
    return Failure(
        kind=row["failure_kind"],
        message=row["failure_message"],
        remedy=row["failure_remedy"],
        code=row["failure_code"],
        revision=row["failure_revision"],
        statement=row["failure_statement"],
    )


def migration_from(row: RowMapping) -> Migration:
    return Migration(
        rollout=row["rollout"],
        tenant=row["tenant"],
        track=row["track"],
        shard=row["shard"],
        wave=row["wave"],
        position=row["position"],
        state=MigrationState(row["state"]),
        attempts=row["attempts"],
        from_heads=row["from_heads"],
        to_heads=row["to_heads"],
        place=row["place"],
        steps=row["steps"],
        execution=row["execution"],
        planned=None if row["planned"] is None else Planned(tuple(row["planned"][0]), *row["planned"][1:]),
        failure=failure_from(row),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        reverting=row["reverting"],
        doubt=row["doubt"],
        counted=row["counted"],
    )


def event_row(event: RolloutEvent, sequence: int) -> dict[str, Any]:
    return {
        "rollout": event.rollout,
        "sequence": sequence,
        "name": event.name,
        "data": storable_json(event.as_dict()),
        "at": event.at,
    }


def event_from(row: RowMapping) -> StoredEvent:
    return StoredEvent(sequence=row["sequence"], name=row["name"], data=row["data"])
