"""Appends to the audit, in the transaction of what is told.

Who appends holds the row of the last entry until the commit, so entries of two processes follow each other. It is the
last lock that a transaction takes, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from orchestrator.access import chain
from orchestrator.access.acts import Act, Recorded
from orchestrator.access.chain import Anchor
from orchestrator.errors import StoreError
from orchestrator.events import now, timestamp
from orchestrator.store.rows import storable, storable_json
from orchestrator.store.rules import Numbered
from orchestrator.store.tables import audit, audit_head, rollouts


def append(connection: Connection, act: Act, happened: Sequence[Numbered] = ()) -> Recorded:
    """Record an act in the transaction of what it did; `happened` are the events of that.

    The last thing that a transaction does. Raises StoreError.
    """
    if act.rollout is None and happened:
        act = replace(act, rollout=happened[0][0].rollout)
    if act.rollout is not None:
        act = replace(act, rollout=storable(act.rollout))
    head = head_of(connection, lock=True)
    if head is None:
        raise StoreError(
            "the audit has lost its note of the last entry: nothing can be recorded, so nothing is changed",
            remedy="look at it with `orchestrator audit verify`, and at who can write to the store",
        )
    values = {**act.as_json(), **_digests(connection, act.rollout), "at": timestamp(now())}
    row = chain.linked(head, storable_json(values))
    connection.execute(insert(audit), {"sequence": row.sequence, "entry": row.text, "hash": row.hash})
    connection.execute(update(audit_head), {"sequence": row.sequence, "hash": row.hash})
    return Recorded(row.sequence, row.hash, act)


def head_of(connection: Connection, *, lock: bool = False) -> Anchor | None:
    """The store's note of the last entry; None when there is none any more."""
    wanted = select(audit_head.c.sequence, audit_head.c.hash)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return None if row is None else Anchor(row.sequence, row.hash)


def _digests(connection: Connection, rollout: str | None) -> dict[str, Any]:
    """What the rollout carries out: the plan that it is bound to, and the files that it was made from."""
    wanted = select(rollouts.c.plan_digest, rollouts.c.history_digest, rollouts.c.several)
    row = connection.execute(wanted.where(rollouts.c.id == rollout)).first() if rollout is not None else None
    if row is None:
        return {"plan_digest": None, "history_digests": {}}
    several = {track: digest for track, (_, digest) in (row.several or {}).items()}
    return {"plan_digest": row.plan_digest, "history_digests": several or {"": row.history_digest}}
