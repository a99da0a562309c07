"""Twenty tenants on one server share its rows a second: measured by when the database changed each row."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from orchestrator.backfill.budget import SMOOTH_SECONDS
from orchestrator.backfill.steering import Order, Scope
from orchestrator.databases.embedded import Server
from orchestrator.events import now
from orchestrator.registry.backfills import Rules
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

SOAK = os.environ.get("SOAK")
TENANTS, BUDGET = 20, 10_000
# Seconds for which all run, and for which every other one goes on alone.
BOTH, REST = (60, 40) if SOAK else (8, 8)
SHORT = BUDGET // TENANTS * BOTH
LONG = SHORT + BUDGET // (TENANTS // 2) * REST
WINDOW, STEP = 5.0, 0.1
# Rows of a batch, when half are left.
LARGEST = BUDGET / (TENANTS // 2) * SMOOTH_SECONDS
# Each row says when it was changed; every other tenant has few.
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime(timezone=True)))
op.execute(
    "INSERT INTO t SELECT i FROM generate_series(1, "
    "CASE right(current_database(), 3)::int % 2 WHEN 0 THEN {SHORT} ELSE {LONG} END) AS i"
)
"""
FILL = 'op.backfill("t", set_={"at": "clock_timestamp()"})'


@dataclass(frozen=True)
class Course:
    """When each row of one tenant was changed, in order; seconds."""

    moments: list[float]

    @property
    def began(self) -> float:
        return self.moments[0]

    @property
    def ended(self) -> float:
        return self.moments[-1]

    def rows(self, since: float) -> int:
        """In the `WINDOW` that begins then."""
        return bisect_left(self.moments, since + WINDOW) - bisect_left(self.moments, since)

    def is_there(self, since: float) -> bool:
        """All the while."""
        return self.began <= since and since + WINDOW <= self.ended


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_twenty_tenants_share_the_rows_a_second_of_their_server(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "made", None, CREATE)
    environments.add_revision(tmp_path / "project", "filled", "made", FILL)
    databases = await make_databases(TENANTS)
    rules = Rules(rows_per_second=BUDGET, thresholds={})
    shard = engine.shard_of(pg, max_concurrent=TENANTS, backfill=rules)
    registry = engine.registry_of([environments.track_of(config)], [shard], engine.targets_of(databases))
    async with engine.running(registry, max_concurrent=TENANTS) as running:
        await running.rollout("made")
        throttle = running.parts.throttle
        throttle.order(Order(Scope(shard="pg"), "pause", "user:ann", now()))
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: len(throttle.underway()) == TENANTS)
        throttle.order(Order(Scope(shard="pg"), "resume", "user:ann", now()))
        with anyio.fail_after(BOTH + REST + 120):
            await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": TENANTS}
    courses = [await _course(pg, database) for database in databases]
    assert [len(course.moments) for course in courses] == [SHORT, LONG] * (TENANTS // 2)
    _the_sum_is_the_budget(courses)
    _shares_are_fair(courses)


async def _course(pg: Server, database: str) -> Course:
    rows = await engine.fetch(pg, database, "SELECT extract(epoch FROM at)::float8 FROM t ORDER BY 1")
    return Course([moment for (moment,) in rows])


def _the_sum_is_the_budget(courses: Sequence[Course]) -> None:
    """Never more, from the first row to the last; never less as long as half of them are there to use it."""
    first = min(course.began for course in courses)
    for since in _windows(first, max(course.ended for course in courses)):
        total = sum(course.rows(since) for course in courses)
        assert total <= 1.1 * BUDGET * WINDOW, f"{total} rows in the 5 s after {since - first:.2f} s"
    for since in _busy(courses):
        total = sum(course.rows(since) for course in courses)
        assert total >= 0.9 * BUDGET * WINDOW, f"{total} rows in the 5 s after {since - first:.2f} s"


def _shares_are_fair(courses: Sequence[Course]) -> None:
    """At each moment those that are there have equal parts, so what one leaves behind goes to the others. While they
    become fewer batches become larger, so that a window has one more or less of them."""
    at_once = []
    for since in _busy(courses):
        numbers = [_there(courses, since + moment) for moment in _moments()]
        fair = BUDGET * STEP * sum(1 / number for number in numbers)
        spare = 0.2 * fair + (0 if len(set(numbers)) == 1 else LARGEST)
        rows = sorted(course.rows(since) for course in courses if course.is_there(since))
        assert fair - spare <= rows[0] <= rows[-1] <= fair + spare, f"not {fair:.0f} rows each, but {rows}"
        at_once += [len(rows)] if len(set(numbers)) == 1 else []
    assert {TENANTS, TENANTS // 2} <= set(at_once), "all at once, and those that were left"


def _there(courses: Sequence[Course], moment: float) -> int:
    return sum(course.began <= moment <= course.ended for course in courses)


def _busy(courses: Sequence[Course]) -> Sequence[float]:
    """Windows from when all have begun to when half have ended and the next one does."""
    return _windows(max(course.began for course in courses), sorted(course.ended for course in courses)[TENANTS // 2])


def _windows(since: float, until: float) -> Sequence[float]:
    return [since + number * STEP for number in range(int((until - WINDOW - since) / STEP) + 1)]


def _moments() -> Sequence[float]:
    return [(number + 0.5) * STEP for number in range(int(WINDOW / STEP))]
