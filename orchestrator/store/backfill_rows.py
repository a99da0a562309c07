"""Backfills and orders of them as rows, and back. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.records import Record, holds_from, holds_json
from orchestrator.backfill.steering import Adjustment, Order, Scope
from orchestrator.backfill.view import Underway
from orchestrator.store.rows import storable, storable_json

# A key may be a long text of a tenant's; what is shown of it needs no more.
KEY_LIMIT = 500


def record_row(record: Record) -> dict[str, Any]:
    it, progress, backfill = record.view, record.view.progress, record.view.backfill
    return {
        **record.key._asdict(),
        "shard": it.shard,
        "kind": backfill.kind,
        "table": storable(backfill.table),
        "key": storable_json(list(backfill.key)),
        "batch_size": backfill.batch_size,
        "state": record.state,
        "reason": None if record.reason is None else storable(record.reason),
        "seen": progress.seen,
        "changed": progress.changed,
        "estimated": progress.estimated,
        "sweep": progress.sweep,
        "last_key": None if progress.last_key is None else storable(progress.last_key, KEY_LIMIT),
        "dead_rows": progress.dead_rows,
        "vacuuming": progress.vacuuming,
        "size": it.size,
        "rows_per_second": it.rows_per_second,
        "eta_seconds": it.eta_seconds,
        "holds": storable_json(holds_json(it.holds)),
        "started_at": it.started_at,
        "updated_at": it.updated_at,
        "finished_at": record.finished_at,
    }


def record_from(row: RowMapping) -> Record:
    backfill = Backfill(
        row["revision"],
        row["direction"],
        row["ordinal"],
        row["kind"],
        row["table"],
        tuple(row["key"]),
        row["batch_size"],
    )
    progress = Progress(
        finished=row["state"] == "finished",
        seen=row["seen"],
        changed=row["changed"],
        estimated=row["estimated"],
        sweep=row["sweep"],
        last_key=row["last_key"],
        dead_rows=row["dead_rows"],
        vacuuming=row["vacuuming"],
    )
    view = Underway(
        row["rollout"],
        row["tenant"],
        row["track"],
        row["shard"],
        backfill,
        progress,
        row["size"],
        row["rows_per_second"],
        row["eta_seconds"],
        holds_from(row["holds"]),
        row["started_at"],
        row["updated_at"],
    )
    return Record(view, row["state"], row["reason"], row["finished_at"])


def scope_row(scope: Scope) -> dict[str, str]:
    """The scope as a part of a key, where nothing may be NULL."""
    return {name: storable(value or "") for name, value in asdict(scope).items()}


def order_row(order: Order) -> dict[str, Any]:
    return {
        **scope_row(order.scope),
        "action": order.action,
        "adjustment": None if order.adjustment is None else storable_json(adjustment_json(order.adjustment)),
        "reason": None if order.reason is None else storable(order.reason),
        "by": storable(order.by),
        "at": order.at,
    }


def order_from(row: RowMapping) -> Order:
    scope = Scope(*(row[name] or None for name in ("rollout", "shard", "tenant", "revision")))
    adjustment = None if row["adjustment"] is None else Adjustment(**row["adjustment"])
    return Order(scope, row["action"], row["by"], row["at"], row["reason"], adjustment)


def adjustment_json(adjustment: Adjustment) -> dict[str, Any]:
    """What is other than the registry says.

    >>> adjustment_json(Adjustment(duty=0.5)), adjustment_json(Adjustment(rows_per_second=0, thresholds={"lag": 3.0}))
    ({'duty': 0.5}, {'rows_per_second': 0, 'thresholds': {'lag': 3.0}})
    """
    return {name: value for name, value in asdict(adjustment).items() if value not in (None, {})}
