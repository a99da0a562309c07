"""What the store knows of schedules: who has disabled them, since when they count, and what their runs came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from orchestrator.access import acts
from orchestrator.rollout.schedules import AHEAD, Run, RunOutcome, Standing
from orchestrator.store import starts
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable
from orchestrator.store.tables import schedule_runs, schedules
from orchestrator.store.writer import Writer


class StoreSchedules:
    """Everything raises StoreError. `definitions`: a text for each schedule of the file, another one when it means
    other times."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def standings(self, now: datetime) -> Mapping[str, Standing]:
        """Of the schedules that were in the file when it was last followed."""
        return await self._connections.read(lambda connection: _standings(connection, now))

    async def follow(self, definitions: Mapping[str, str], now: datetime) -> bool:
        """Take account of the file: one that is new, that means other times, or that comes back, counts from now on.
        True when something was to be changed."""
        rows = await self._connections.read(_rows)
        if all(_is_known(rows, name, text) for name, text in definitions.items()) and not _gone(rows, definitions):
            return False
        await self._writer.alone(lambda connection: _follow(connection, definitions, now))
        return True

    async def switch(self, name: str, definition: str, enabled: bool, by: str, now: datetime, filed: bool) -> None:
        """Enable or disable a schedule, whatever the file says, which is `filed`. What was due while it was disabled
        does not count."""
        values = {"enabled": enabled, "by": storable(by), "at": now}
        await self._writer.alone(lambda connection: _switch(connection, name, definition, values, now, filed))

    async def record(self, run: Run) -> bool:
        """Record what became of a run that started nothing; False when the run is recorded already."""
        acts.tell(run_outcome=str(run.outcome), run_reason=run.reason)
        return await self._writer.alone(lambda connection: _record(connection, run))

    async def runs(self, name: str, limit: int = 20) -> Sequence[Run]:
        """The latest first."""
        wanted = select(schedule_runs).where(schedule_runs.c.schedule == name)
        newest = wanted.order_by(schedule_runs.c.planned_at.desc()).limit(limit)
        rows = await self._connections.read(lambda connection: connection.execute(newest).mappings().all())
        return [_run(row) for row in rows]


def _record(connection: Connection, run: Run) -> Written[bool]:
    fresh = starts.record(connection, run)
    return Written(fresh, unchanged=not fresh)


def _rows(connection: Connection) -> Mapping[str, RowMapping]:
    return {row["name"]: row for row in connection.execute(select(schedules)).mappings()}


def _is_known(rows: Mapping[str, RowMapping], name: str, definition: str) -> bool:
    return name in rows and rows[name]["present"] and rows[name]["definition"] == definition


def _gone(rows: Mapping[str, RowMapping], definitions: Mapping[str, str]) -> list[str]:
    return [name for name, row in rows.items() if row["present"] and name not in definitions]


def _standings(connection: Connection, now: datetime) -> Mapping[str, Standing]:
    rows = connection.execute(_present(now)).mappings()
    return {row["name"]: Standing(row["since"], row["handled"], row["enabled"], row["by"], row["at"]) for row in rows}


def _present(now: datetime) -> Select[Any]:
    """The schedules of the file, each with the latest run that a clock which is right can have recorded, and that no
    person asked for. It is asked each second: from the end of the key, and not over all runs."""
    it = schedule_runs.c
    counts = (it.schedule == schedules.c.name, it.by.is_(None), it.planned_at <= now + AHEAD)
    latest = select(it.planned_at).where(*counts).order_by(it.planned_at.desc()).limit(1)
    handled = latest.correlate(schedules).scalar_subquery().label("handled")
    return select(schedules, handled).where(schedules.c.present)


def _follow(connection: Connection, definitions: Mapping[str, str], now: datetime) -> Written[None]:
    rows = _rows(connection)
    for name, text in definitions.items():
        anew: dict[str, Any] = {"definition": text, "since": now, "present": True}
        if name not in rows:
            connection.execute(insert(schedules).values(name=name, **anew))
        elif not _is_known(rows, name, text):
            connection.execute(update(schedules).where(schedules.c.name == name).values(**anew))
    for name in _gone(rows, definitions):
        connection.execute(update(schedules).where(schedules.c.name == name).values(present=False))
    return Written(None)


def _switch(
    connection: Connection, name: str, definition: str, values: dict[str, Any], now: datetime, filed: bool
) -> Written[None]:
    row = connection.execute(select(schedules).where(schedules.c.name == name).with_for_update()).mappings().first()
    if row is None:
        fresh = {"name": name, "definition": definition, "since": now, "present": True}
        connection.execute(insert(schedules).values(**fresh, **values))
        return Written(None)
    was_enabled = filed if row["enabled"] is None else row["enabled"]
    if values["enabled"] and not was_enabled:
        values = {**values, "since": now}
    connection.execute(update(schedules).where(schedules.c.name == name).values(**values))
    return Written(None)


def _run(row: RowMapping) -> Run:
    return Run(
        row["schedule"],
        row["planned_at"],
        RunOutcome(row["outcome"]),
        row["at"],
        row["rollout"],
        row["reason"],
        row["by"],
    )
