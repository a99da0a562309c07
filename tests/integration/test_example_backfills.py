"""The example's backfills: expand, backfill, contract, and back, with rows and with older releases that still write."""

from __future__ import annotations

import runpy
from typing import Any

import asyncpg
import pytest
from alembic.util import CommandError

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Track
from orchestrator.rollout.state import RolloutState
from tests import engine
from tests.integration.test_example_environment import BEFORE_BACKFILLS, PROJECT, SCRIPTS, Tenant
from tests.integration.test_example_environment import tenant as tenant
from tests.servers import MakeDatabases

TIME_ADDED, TIME_FILLED, TIME_REQUIRED = "6b0f3d9e2a71", "c41d7a58e0b3", "9e25f1c7b604"
STATE_ADDED = "3fa8062bd94e"
NAMES_ADDED, NAMES_SPLIT = "1f7d6b90ce43", "84c2e05fa6d1"

ROWS = (
    """
    INSERT INTO users (email, name) SELECT 'u' || n || '@example.org', 'Ludwig van Beethoven' || n
    FROM generate_series(1, 2500) AS n
    """,
    """
    INSERT INTO tickets (requester_id, subject, status, created_at, updated_at)
    SELECT 1, 'ticket ' || n, (ARRAY['new', 'on_hold', 'solved', 'closed'])[1 + n % 4]::ticket_status,
        '2026-01-01', '2026-01-01'::timestamptz + n * interval '1 second'
    FROM generate_series(1, 5000) AS n
    """,
    """
    INSERT INTO carts (customer_id, shop_ref, status, currency)
    SELECT n, 'r' || n, (ARRAY['open', 'ordered', 'returned', 'cancelled'])[1 + n % 4], 'EUR'
    FROM generate_series(1, 2500) AS n
    """,
)
# Whatever was true of the rows before must be true of them after a way there and back.
BEFORE = """
SELECT (SELECT md5(string_agg(email || name, ',' ORDER BY id)) FROM users),
    (SELECT md5(string_agg(subject || status, ',' ORDER BY id)) FROM tickets),
    (SELECT md5(string_agg(shop_ref || status, ',' ORDER BY shop_ref)) FROM carts)
"""
AFTER = """
SELECT (SELECT count(*) FROM users WHERE given_name = 'Ludwig' AND family_name = 'van Beethoven' || id),
    (SELECT count(*) FROM tickets WHERE resolution_time_seconds = id AND solved_at = created_at + id * interval '1 s'),
    (SELECT count(*) FROM tickets WHERE resolution_time_seconds IS NULL AND status IN ('new', 'on_hold')),
    (SELECT string_agg(state || ' ' || n, ', ') FROM
        (SELECT state, count(*) AS n FROM carts GROUP BY state ORDER BY state) AS states)
"""
FILLED = (2500, 2500, 2500, "basket 625, paid 625, refunded 625, cancelled 625")


@pytest.fixture
async def filled(tenant: Tenant) -> Tenant:
    """At the revision before, with rows."""
    await tenant.upgrade(BEFORE_BACKFILLS)
    for statement in ROWS:
        await tenant.connection.execute(statement)
    return tenant


async def test_there_and_back_with_plain_alembic(filled: Tenant) -> None:
    schema, rows = await filled.schema(), await filled.connection.fetchrow(BEFORE)
    await filled.upgrade("head")
    assert tuple(await filled.connection.fetchrow(AFTER)) == FILLED
    done = await filled.connection.fetch(
        "SELECT table_name, state, rows_changed, applied FROM alembic_version_backfills ORDER BY table_name"
    )
    assert [tuple(row) for row in done] == [
        ("carts", "finished", 2500, True),
        ("tickets", "finished", 2500, True),
        ("users", "finished", 2500, True),
    ]
    await filled.downgrade(BEFORE_BACKFILLS)
    assert await filled.schema() == schema
    assert await filled.connection.fetchrow(BEFORE) == rows
    await filled.upgrade("head")
    assert tuple(await filled.connection.fetchrow(AFTER)) == FILLED


@pytest.mark.parametrize("execution", ["online", "auto"])
async def test_there_and_back_through_the_engine(execution: Any, pg: Server, make_databases: MakeDatabases) -> None:
    databases = await make_databases(3)
    track = Track("app", script_location=PROJECT / "alembic", execution=execution, unprovisioned="migrate")
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))
    async with engine.running(registry) as running:
        first = await running.rollout(BEFORE_BACKFILLS)
        assert first.counts == {"succeeded": 3}, first.failures
        for database in databases:
            await engine.execute(pg, database, *ROWS)
        [rows] = await engine.fetch(pg, databases[0], BEFORE)
        there = await running.rollout()
        assert there.counts == {"succeeded": 3}, there.failures
        for database in databases:
            assert await engine.fetch(pg, database, AFTER) == [FILLED]
        sums = {
            one.revision: (one.states, one.seen)
            for one in await running.service.backfills.sums({"rollout": there.rollout.id})
        }
        assert sums[TIME_FILLED] == ({"finished": 3}, 15_000)
        await running.service.rollback(there.rollout.id, by="somebody")
        await running.reaches(there.rollout.id, RolloutState.ROLLED_BACK, rolled_back=3)
        for database in databases:
            assert await engine.fetch(pg, database, BEFORE) == [rows]


async def test_older_releases_write_on_while_tickets_are_filled(filled: Tenant) -> None:
    await filled.upgrade(TIME_ADDED)
    write = filled.connection.execute
    await write("UPDATE tickets SET subject = 'renamed' WHERE id = 2")  # solved, and not filled yet
    await write("UPDATE tickets SET status = 'solved' WHERE id = 4")
    await write("UPDATE tickets SET status = 'open' WHERE id = 3")
    await write("INSERT INTO tickets (requester_id, subject, status) VALUES (1, 'at once', 'closed')")
    found = await filled.connection.fetch(
        "SELECT id, resolution_time_seconds > 3600 FROM tickets WHERE id IN (2, 3, 4, 5001) ORDER BY id"
    )
    assert [tuple(row) for row in found] == [(2, False), (3, None), (4, True), (5001, False)]
    await filled.upgrade(TIME_REQUIRED)
    odd = "SELECT count(*) FROM tickets WHERE (status IN ('solved', 'closed')) <> (solved_at IS NOT NULL)"
    assert await filled.connection.fetchval(odd) == 0
    with pytest.raises(asyncpg.CheckViolationError):
        await write("ALTER TABLE tickets DISABLE TRIGGER tickets_resolve; UPDATE tickets SET status = 'solved'")


async def test_both_words_for_a_carts_state_are_kept_alike(filled: Tenant) -> None:
    await filled.upgrade(STATE_ADDED)
    write = filled.connection.execute
    await write("UPDATE carts SET status = 'returned' WHERE shop_ref = 'r1'")  # by the old copier
    await write("UPDATE carts SET state = 'cancelled' WHERE shop_ref = 'r2'")  # and by the new one
    await write("INSERT INTO carts (customer_id, shop_ref, state, currency) VALUES (1, 'new', 'paid', 'EUR')")
    await filled.upgrade("50e8a4d2c917")
    found = await filled.connection.fetch(
        "SELECT shop_ref, state::text FROM carts WHERE shop_ref IN ('r1', 'r2', 'new') ORDER BY 1"
    )
    assert [tuple(row) for row in found] == [("new", "paid"), ("r1", "refunded"), ("r2", "cancelled")]


async def test_a_user_whom_an_older_release_wrote_after_the_backfill_keeps_the_name_from_being_dropped(
    filled: Tenant,
) -> None:
    await filled.upgrade(NAMES_SPLIT)
    await filled.connection.execute("INSERT INTO users (email, name) VALUES ('late@example.org', 'Chinua Achebe')")
    with pytest.raises(CommandError, match="an older release still writes users without a given name: stop it"):
        await filled.upgrade("head")
    assert await filled.connection.fetchval("SELECT count(*) FROM users WHERE name IS NULL") == 0
    await filled.downgrade(NAMES_ADDED)
    await filled.upgrade("head")
    late = "SELECT given_name, family_name FROM users WHERE email = 'late@example.org'"
    assert tuple(await filled.connection.fetchrow(late)) == ("Chinua", "Achebe")


async def test_a_backfill_that_is_not_finished_keeps_its_contract_from_running(filled: Tenant) -> None:
    await filled.upgrade(TIME_FILLED)
    await filled.connection.execute("UPDATE alembic_version_backfills SET state = 'running', rows_changed = 7")
    with pytest.raises(CommandError, match="the backfills of revision c41d7a58e0b3: that of 'tickets' is"):
        await filled.upgrade("head")
    assert await filled.revision() == TIME_FILLED


@pytest.mark.parametrize(
    ("name", "given", "family"),
    [
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("Madonna", "Madonna", None),
        ("Ludwig van Beethoven", "Ludwig", "van Beethoven"),
        ("Gabriela de la Cruz", "Gabriela", "de la Cruz"),
        ("Mary Ann Evans", "Mary Ann", "Evans"),
        ("Okonkwo, Ngozi", "Ngozi", "Okonkwo"),
        ("van Gogh", "van", "Gogh"),
        ("  Ada   Lovelace ", "Ada", "Lovelace"),
        ("", "", None),
        ("Smith,", "Smith,", None),
    ],
)
def test_how_a_name_is_split(name: str, given: str, family: str | None) -> None:
    script = SCRIPTS.get_revision(NAMES_SPLIT)
    assert script is not None
    assert runpy.run_path(script.path)["split"](name) == {"given_name": given, "family_name": family}
