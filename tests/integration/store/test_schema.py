"""The store's own migrations make the tables that the code declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from orchestrator.databases import fingerprint
from orchestrator.databases.embedded import Server
from orchestrator.errors import StoreError
from orchestrator.history import tasklocal
from orchestrator.store import schema
from orchestrator.store.connections import Connections
from orchestrator.store.engine import open_store
from orchestrator.store.place import locate
from orchestrator.store.tables import VERSION_TABLE, metadata
from tests import stores
from tests.integration.store.samples import run_sql
from tests.servers import MakeDatabases


@pytest.fixture(autouse=True)
def by_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere new stores are made by what it has sent."""
    monkeypatch.setattr(schema, "_upgrade", stores.by_history)


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


@pytest.fixture(params=["sqlite", "postgresql"])
async def two(request: pytest.FixtureRequest, tmp_path: Path, pg: Server, make_databases: MakeDatabases) -> list[str]:
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{number}.db" for number in range(2)]
    return [pg.url(name) for name in await make_databases(2)]


async def test_what_the_history_has_sent_makes_the_same_tables(two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So most tests may have their stores."""
    monkeypatch.setattr(stores, "_sent", {})
    monkeypatch.setattr(schema, "_upgrade", stores.as_sent)
    found = []
    for url in two:
        async with open_store(url):
            pass
        found.append(await on(url, picture))
        monkeypatch.setattr(stores, "by_history", None)
    assert len(found[0]) > 20
    assert found[0] == found[1]


def picture(connection: Connection) -> list[Any]:
    """Of all that is there, the version too."""
    version = text(f"SELECT 'version', version_num FROM {VERSION_TABLE}")
    if connection.dialect.name == "sqlite":
        made = text("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    else:
        made = text(fingerprint.query(None).replace(":", "\\:"))
    return [*map(tuple, connection.execute(made)), *map(tuple, connection.execute(version))]


async def test_the_history_can_be_walked_down_and_up_again(url: str) -> None:
    async with open_store(url):
        pass
    tasklocal.install()
    await on(url, lambda connection: command.downgrade(schema.config(connection), "base"))
    assert await on(url, schema.stored_revisions) == ()
    async with open_store(url) as store:
        assert await store.ledger.rollouts() == []


async def test_each_step_of_the_history_leaves_an_older_leader_what_it_reads_and_writes(url: str) -> None:
    """While a standby of a newer release starts, and has upgraded the tables, the leader is still of the one before."""
    async with open_store(url):
        pass
    tasklocal.install()
    scripts = ScriptDirectory.from_config(schema.config())
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    await on(url, lambda connection: command.downgrade(schema.config(connection), revisions[0]))
    before = await on(url, _columns)
    for revision in revisions[1:]:
        await on(url, lambda connection, to=revision: command.upgrade(schema.config(connection), to))
        after = await on(url, _columns)
        for (table, name), column in before.items():
            assert (table, name) in after, f"{revision} takes {table}.{name} from a leader that writes it"
            same = {key: column[key] == after[table, name][key] for key in ("nullable", "type")}
            assert all(same.values()), f"{revision} changes {table}.{name}"
        known = {table for table, _ in before}
        needed = [key for key in after.keys() - before.keys() if key[0] in known and not _may_be_left_out(after[key])]
        assert not needed, f"{revision} wants {needed} from a leader that does not know them"
        before = after


def _columns(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    looking = inspect(connection)
    return {
        (table, column["name"]): {**column, "type": str(column["type"])}
        for table in looking.get_table_names()
        for column in looking.get_columns(table)
    }


def _may_be_left_out(column: dict[str, Any]) -> bool:
    return bool(column["nullable"] or column["default"] is not None)


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
