"""Twenty tenants on one server share its rows a second: measured by when the database changed each row."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from orchestrator.backfill.steering import Order, Scope
from orchestrator.databases.embedded import Server
from orchestrator.events import now
from orchestrator.registry.backfills import Rules
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

SOAK = os.environ.get("SOAK")
# In the short form what a busy machine keeps up with, too.
TENANTS, BUDGET = 20, 10_000 if SOAK else 4_000
# Seconds for which all run, and for which every other one goes on alone.
BOTH, REST = (60, 40) if SOAK else (8, 8)
SHORT = BUDGET // TENANTS * BOTH
LONG = SHORT + BUDGET // (TENANTS // 2) * REST
WINDOW, STEP = 5.0, 0.1
# When it begins, and when it ends; seconds.
Span = tuple[float, float]
# Each row says when it was changed; every other tenant has few.
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.DateTime(timezone=True)))
op.execute(
    "INSERT INTO t SELECT i FROM generate_series(1, "
    "CASE right(current_database(), 3)::int % 2 WHEN 0 THEN {SHORT} ELSE {LONG} END) AS i"
)
"""
FILL = f'op.backfill("t", set_={{"at": "clock_timestamp()"}}, batch_size={BUDGET // 50})'


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

    def rows(self, span: Span) -> int:
        return bisect_left(self.moments, span[1]) - bisect_left(self.moments, span[0])


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
    short, long = courses[::2], courses[1::2]
    all_begin = max(course.began for course in courses)
    first_ends, last_ends = (pick(course.ended for course in short) for pick in (min, max))
    long_end = min(course.ended for course in long)
    _never_more_than_the_budget(courses)
    for span in _judged(all_begin, long_end):
        assert _rows(courses, span) >= 0.9 * BUDGET * _seconds(span), "what one leaves behind goes to the others"
    for those, begin, end in ((courses, all_begin, first_ends), (long, last_ends, long_end)):
        for span in _judged(begin, end):
            rows = sorted(course.rows(span) for course in those)
            fair = sum(rows) / len(rows)
            assert 0.8 * fair <= rows[0] <= rows[-1] <= 1.2 * fair, rows


async def _course(pg: Server, database: str) -> Course:
    rows = await engine.fetch(pg, database, "SELECT extract(epoch FROM at)::float8 FROM t ORDER BY 1")
    return Course([moment for (moment,) in rows])


def _never_more_than_the_budget(courses: Sequence[Course]) -> None:
    began, ended = min(course.began for course in courses), max(course.ended for course in courses)
    for span in _windows(began, ended):
        assert _rows(courses, span) <= 1.1 * BUDGET * WINDOW, f"in the 5 s after {span[0] - began:.2f} s"


def _judged(since: float, until: float) -> Sequence[Span]:
    """Whole in the short form: beside other tests, a process may stand still for a second."""
    assert until - since > WINDOW
    return _windows(since, until) if SOAK else [(since, until)]


def _windows(since: float, until: float) -> Sequence[Span]:
    starts = [since + number * STEP for number in range(int((until - WINDOW - since) / STEP) + 1)]
    return [(start, start + WINDOW) for start in starts]


def _rows(courses: Sequence[Course], span: Span) -> int:
    return sum(course.rows(span) for course in courses)


def _seconds(span: Span) -> float:
    return span[1] - span[0]
