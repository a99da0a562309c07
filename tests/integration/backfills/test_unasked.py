"""Batches that follow one another without a question, as the answer to the last one lets them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from orchestrator.backfill.model import Answer, Go, Ran, Refused, Report
from orchestrator.history import pacing
from tests.integration.backfills.conftest import Project

MULTIPLY = 'op.backfill("accounts", set_={"balance": "balance * 100"}, batch_size=7)'


@dataclass
class Lenient:
    """Lets batches of seven rows follow one another for an hour."""

    seconds: float = 3600.0
    on_ask: Callable[[Report], None] = lambda report: None
    reports: list[Report] = field(default_factory=list)

    def ask(self, report: Report) -> Answer:
        self.reports.append(report)
        self.on_ask(report)
        return Go(7, self.seconds)


async def test_they_are_told_of_together_and_end_with_the_last_row(project: Project) -> None:
    project.numbers(500)
    project.add("filled", None, MULTIPLY)
    pacer = Lenient()
    with pacing.applied(pacer):
        await project.upgrade()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(500, 0)]
    first, *_, last = pacer.reports
    assert (first.last, first.unasked) == (None, ())
    assert last.progress.finished
    assert last.progress.changed == 500
    told = [ran for report in pacer.reports for ran in (*report.unasked, report.last) if isinstance(ran, Ran)]
    assert [ran.seen for ran in told] == [7] * 71 + [3]
    assert len(pacer.reports) < 5


async def test_none_follows_once_the_time_is_over(postgres: Project) -> None:
    postgres.numbers(30)
    postgres.add("filled", None, MULTIPLY)
    pacer = Lenient(seconds=0.0)
    with pacing.applied(pacer):
        await postgres.upgrade()
    assert all(report.unasked == () for report in pacer.reports)
    assert len([report for report in pacer.reports if report.last is not None]) == 5


async def test_none_follows_one_that_was_refused(postgres: Project) -> None:
    """Rows in the middle are held by somebody: the loop asks, and what it has done until then is told."""
    postgres.numbers(70)
    postgres.add("filled", None, MULTIPLY)
    [(held,)] = postgres.rows("SELECT id FROM accounts ORDER BY id LIMIT 1 OFFSET 35")
    refused: list[Report] = []
    with postgres.connected() as other:
        other.execute(sa.text("SELECT 1 FROM accounts WHERE id = :id FOR UPDATE"), {"id": held})
        postgres.url = postgres.url.update_query_dict({"options": "-c lock_timeout=100ms"})

        def let_go(report: Report) -> None:
            if isinstance(report.last, Refused):
                refused.append(report)
                other.rollback()

        with pacing.applied(Lenient(on_ask=let_go)):
            await postgres.upgrade()
    (report,) = refused
    assert [ran.seen for ran in report.unasked] == [7] * 5
    assert report.progress.changed == 35
    assert postgres.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(70, 0)]


ASKING_OTHERS = """
def transform(rows):
    MEANWHILE(rows)
    return [dict(balance=row["balance"] * 100) for row in rows]
op.backfill_rows("accounts", ["balance"], transform, batch_size=7)
"""


async def _meanwhile(project: Project, monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Upgrade; `act` is called within each batch that follows without a question, with its first key."""
    project.add("filled", None, ASKING_OTHERS)
    seen: list[int] = []

    def between(rows: Sequence[sa.RowMapping]) -> None:
        seen.append(rows[0]["id"])
        act(len(seen))

    monkeypatch.setattr(builtins, "MEANWHILE", between, raising=False)
    with pacing.applied(Lenient()):
        await project.upgrade()


async def test_rows_that_come_and_go_between_two_of_them(postgres: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next batch ends is known by then: its last row goes, and others come before that."""
    postgres.numbers(70)
    ends = [end for (end,) in postgres.rows("SELECT id FROM accounts ORDER BY id")][6::7]

    def act(batch: int) -> None:
        if batch == 4:
            postgres.execute(
                f"DELETE FROM accounts WHERE id = {ends[4]}",
                f"INSERT INTO accounts (id, balance) VALUES ({ends[4] - 2}, {ends[4] - 2}) ON CONFLICT DO NOTHING",
                f"INSERT INTO accounts (id, balance) SELECT i, i FROM generate_series({ends[4]}, {ends[5]}) AS i"
                " ON CONFLICT DO NOTHING",
            )

    await _meanwhile(postgres, monkeypatch, act)
    assert postgres.rows("SELECT count(*) FROM accounts WHERE balance <> id * 100") == [(0,)]


async def test_whoever_takes_it_over_ends_them(postgres: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.numbers(70)

    def act(batch: int) -> None:
        if batch == 4:
            postgres.execute("UPDATE alembic_version_backfills SET owner = 'another'")

    with pytest.raises(CommandError, match="somebody else has taken the backfill of 'accounts' over"):
        await _meanwhile(postgres, monkeypatch, act)
    assert [one["rows_changed"] for one in postgres.checkpoints()] == [21]
    assert postgres.rows("SELECT count(*) FROM accounts WHERE balance = id * 100") == [(21,)]


async def test_they_go_by_several_columns_whatever_their_names(postgres: Project) -> None:
    postgres.execute(
        'CREATE TABLE accounts (changed uuid, "new_sweep" text COLLATE "C", found int, balance bigint,'
        ' PRIMARY KEY (changed, "new_sweep", found))',
        "INSERT INTO accounts SELECT CAST(lpad(CAST(i % 3 AS text), 32, '0') AS uuid), chr(65 + i % 7), i, i"
        " FROM generate_series(1, 500) AS i",
    )
    postgres.add("filled", None, MULTIPLY)
    pacer = Lenient()
    with pacing.applied(pacer):
        await postgres.upgrade()
    assert postgres.rows("SELECT count(*), sum(balance) - 100 * sum(found) FROM accounts") == [(500, 0)]
    assert len(pacer.reports) < 5
