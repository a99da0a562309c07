"""Rows that row level security keeps from the role that migrates."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Project

HUNDREDFOLD = 'op.backfill("accounts", {"balance": "balance * 100"}, batch_size=7)'
SAME = "SELECT min(balance / id), max(balance / id) FROM accounts"


@pytest.fixture
def theirs(postgres: Project) -> Iterator[Project]:
    """As a role that owns `accounts`, and may use `others` beside it."""
    role = f"role_{uuid.uuid4().hex[:8]}"
    postgres.numbers(60)
    postgres.execute(
        "CREATE TABLE others (id bigint PRIMARY KEY, n int NOT NULL)",
        "INSERT INTO others SELECT id, 0 FROM accounts",
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
    )
    try:
        postgres.execute(
            f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
            f"GRANT ALL ON others TO {role}",
            f"ALTER TABLE accounts OWNER TO {role}",
        )
        yield replace(postgres, url=postgres.url.set(username=role, password="x"))
    finally:
        postgres.execute(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


async def test_of_the_table_itself(postgres: Project, theirs: Project) -> None:
    postgres.execute(
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON accounts USING (id < 20)",
        "ALTER TABLE accounts FORCE ROW LEVEL SECURITY",
    )
    theirs.add("filled", None, HUNDREDFOLD)
    with pytest.raises(CommandError, match="row level security hides rows of 'accounts'"):
        await theirs.upgrade()
    postgres.execute("ALTER TABLE accounts NO FORCE ROW LEVEL SECURITY")
    await theirs.upgrade()
    assert postgres.rows(SAME) == [(100, 100)]


IN_OTHERS = "id IN (SELECT id FROM Others)"
NAMING_OTHERS = {
    "where": f'op.backfill("accounts", {{"balance": "balance * 100"}}, where="{IN_OTHERS}")',
    "where in words of SQLAlchemy": """
    others = sa.table("others", sa.column("id"))
    op.backfill("accounts", {"balance": "balance * 100"}, where=sa.column("id").in_(sa.select(others.c.id)))""",
    "set_": 'op.backfill("accounts", {"balance": "balance * (SELECT 100 FROM public.others o WHERE o.id = 1)"})',
    "rows": f"""
    op.backfill_rows("accounts", ["balance"], lambda rows: [{{"balance": r["balance"] * 100}} for r in rows],
        where="{IN_OTHERS}")""",
    "sql": 'op.backfill_sql("UPDATE others SET n = n + 1 WHERE id > :after AND id <= :upto", "accounts")',
    "verify": 'op.verify("SELECT NOT EXISTS (SELECT FROM others WHERE n > 0)", "left")',
}


@pytest.mark.parametrize("body", NAMING_OTHERS)
async def test_of_a_table_that_the_sql_names(postgres: Project, theirs: Project, body: str) -> None:
    postgres.execute(
        "UPDATE others SET n = 1 WHERE id > 20",
        "ALTER TABLE others ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON others USING (id < 20)",
    )
    theirs.add("filled", None, NAMING_OTHERS[body])
    with pytest.raises(CommandError, match=r"row level security hides rows of 'others', which .* names"):
        await theirs.upgrade()
    assert postgres.rows(SAME) == [(1, 1)]
    assert postgres.rows("SELECT sum(n) FROM others WHERE id <= 20") == [(0,)]


async def test_of_a_table_that_is_only_written_about(postgres: Project, theirs: Project) -> None:
    postgres.execute(
        "ALTER TABLE others ENABLE ROW LEVEL SECURITY",
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE elsewhere.balance (id int)",
        "ALTER TABLE elsewhere.balance ENABLE ROW LEVEL SECURITY",
    )
    values = """{"balance": "balance * 100 -- others", "note": "'others'"}"""
    theirs.add("filled", None, f"op.backfill('accounts', {values}, where=sa.literal('others') == 'others')")
    await theirs.upgrade()
    assert postgres.rows(SAME) == [(100, 100)]
