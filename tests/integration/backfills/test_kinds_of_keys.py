"""Keys of every kind: what the database tells apart stays apart in Python, and what cannot be gone by is refused."""

from __future__ import annotations

import pytest

from tests.integration.backfills.conftest import Make


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("last", ["01:30", "05:30", "00:30"])
async def test_the_hour_that_comes_twice(make_project: Make, driver: str, last: str) -> None:
    """In Berlin, 00:30 and 01:30 UTC of that day are both half past two."""
    project = await make_project(driver)
    project.execute(
        f"ALTER DATABASE {project.url.database} SET timezone = 'Europe/Berlin'",
        "CREATE TABLE readings (k timestamptz PRIMARY KEY, n int NOT NULL, m int NOT NULL, o int NOT NULL)",
        f"INSERT INTO readings SELECT timestamptz '2026-10-25 {last}+00' - i * interval '1 hour', 0, 0, 0"
        " FROM generate_series(0, 5) i".replace(":", "\\:"),
    )
    one_more = 'lambda rows: [{"m": row["m"] + 1} for row in rows]'
    project.add(
        "filled",
        None,
        f"""
        op.backfill("readings", {{"n": "n + 1"}}, batch_size=5)
        op.backfill_rows("readings", ["m"], {one_more}, batch_size=1)
        op.backfill_sql("UPDATE readings SET o = o + 1 WHERE k > :after AND k <= :upto", "readings", batch_size=1)
        """,
    )
    await project.upgrade()
    assert project.rows("SELECT DISTINCT n, m, o FROM readings") == [(1, 1, 1)]
