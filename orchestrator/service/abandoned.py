"""What a terminal's rollout has left whose process is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import HistoryError
from orchestrator.events import MigrationFinished, now
from orchestrator.rollout import decide, tell
from orchestrator.rollout.ports import Aftermath
from orchestrator.rollout.state import Migration, Rollout
from orchestrator.service.wiring import Parts

Ended = tuple[Migration, MigrationFinished]


async def ended(parts: Parts, rollout: Rollout, rest: Sequence[Migration]) -> Sequence[Ended]:
    """The migrations as they end, since nobody goes on with them, with what is told of each. Of those that were
    running, their targets tell what they have come to. What was noted of them stays in doubt, and no more: who runs
    the command again wants to go on. Raises StoreError."""
    doubts = {one.key: one.doubt for one in rest}
    cut = [replace(one, doubt=doubts[one.key]) for one in decide.interrupted(rest)]
    found = await _aftermath(parts, rollout, cut) if cut else ()
    known = {one.key: decide.known(one, aftermath) for one, aftermath in zip(cut, found, strict=True)}
    rows = {one.key: aftermath.rows or 0 for one, aftermath in zip(cut, found, strict=True)}
    gone = decide.cancelled([known.get(migration.key, migration) for migration in rest], now())
    return [(one, tell.finished(one, tell.Spent(backfill_rows=rows.get(one.key, 0)))) for one in gone]


async def _aftermath(parts: Parts, rollout: Rollout, cut: Sequence[Migration]) -> Sequence[Aftermath]:
    try:
        expedition = await parts.dispatcher.prepare(rollout)
    except HistoryError as exc:
        return [Aftermath(problem=exc.message)] * len(cut)
    return await expedition.aftermath(cut)
