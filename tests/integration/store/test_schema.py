"""The store's own migrations make the tables that the code declares."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from orchestrator.errors import StoreError
from orchestrator.history import tasklocal
from orchestrator.store import schema
from orchestrator.store.connections import Connections
from orchestrator.store.engine import open_store
from orchestrator.store.place import locate
from orchestrator.store.tables import VERSION_TABLE, metadata
from tests.integration.store.samples import run_sql


def differences(connection: Connection) -> list[Any]:
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def newest() -> str | None:
    return ScriptDirectory.from_config(schema.config()).get_current_head()


async def on(url: str, work: Any) -> Any:
    connections = Connections(locate(url))
    try:
        return await connections.write(work)
    finally:
        await connections.dispose()


async def test_the_migrated_schema_is_the_declared_one(url: str) -> None:
    async with open_store(url):
        pass
    assert await on(url, differences) == []


async def test_the_history_can_be_walked_down_and_up_again(url: str) -> None:
    async with open_store(url):
        pass
    tasklocal.install()
    await on(url, lambda connection: command.downgrade(schema.config(connection), "base"))
    assert await on(url, schema.stored_revisions) == ()
    async with open_store(url) as store:
        assert await store.ledger.rollouts() == []


async def test_stores_opened_at_once_make_the_tables_once(url: str) -> None:
    async def use() -> None:
        async with open_store(url) as store:
            assert await store.ledger.rollouts() == []

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(use)
    assert await run_sql(url, f"SELECT version_num FROM {VERSION_TABLE}") == [(newest(),)]


async def test_a_store_of_a_newer_release_is_refused(url: str) -> None:
    async with open_store(url):
        pass
    await run_sql(url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StoreError, match="9999") as refused:
        async with open_store(url):
            pass
    assert refused.value.remedy == "upgrade the orchestrator or point ORCHESTRATOR_STORE_URL elsewhere"


async def test_a_database_of_another_application_is_left_alone(url: str) -> None:
    await run_sql(url, "CREATE TABLE events (id integer)")
    with pytest.raises(StoreError, match="another application") as refused:
        async with open_store(url):
            pass
    assert "a database of its own" in (refused.value.remedy or "")
    assert await on(url, schema.stored_revisions) == ()
    await run_sql(url, "DROP TABLE events")
    async with open_store(url):
        pass
