"""Applications keep the connections they need on MariaDB, too."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql import MySQL
from orchestrator.events import MigrationFinished, MigrationRetried, ShardThrottled
from orchestrator.execute import rooms
from orchestrator.registry.model import Registry, Shard
from orchestrator.rollout.state import RolloutState
from tests import engine, environments, mariadb
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer

MOST = 27


@pytest.fixture(autouse=True)
def _ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "ASK_EVERY_SECONDS", 0.2)


@pytest.fixture
async def account(mysql: MySQLServer) -> AsyncIterator[tuple[str, str]]:
    """Name and password of a user who has no privilege but on tenants' databases, on a server of few connections."""
    name, password = f"small_{secrets.token_hex(3)}", secrets.token_hex(8)
    await mariadb.execute(
        mysql,
        "",
        f"CREATE USER {name} IDENTIFIED BY '{password}'",
        f"GRANT ALL ON `tenant%`.* TO {name}",
        f"SET GLOBAL max_connections = {MOST}",
    )
    try:
        yield name, password
    finally:
        await mariadb.execute(mysql, "", "SET GLOBAL max_connections = 300", f"DROP USER {name}")


async def _registry(
    mysql: MySQLServer, account: tuple[str, str], databases: list[str], folder: Path, **shard: Any
) -> Registry:
    config = environments.make_project(folder)
    environments.add_tables(folder, ["alpha"], before_each='op.execute("DO SLEEP(0.3)")')
    url = make_url(mysql.url("x")).set(database=None, username=account[0], password=account[1])
    targets = engine.targets_of(databases, shard="maria")
    return engine.registry_of([environments.track_of(config)], [Shard("maria", url, **shard)], targets)


@asynccontextmanager
async def _application(mysql: MySQLServer, connections: int) -> AsyncIterator[Callable[[], Any]]:
    """Holds so many connections until it is told to let go."""
    async with AsyncExitStack() as held:
        for _ in range(connections):
            await held.enter_async_context(mariadb.session(mysql))
        yield held.aclose


@asynccontextmanager
async def _most(mysql: MySQLServer, user: str) -> AsyncIterator[list[int]]:
    """The most sessions that the user had at one moment, over one session that looks all the while."""
    most = [0]
    async with mariadb.session(mysql) as looking, anyio.create_task_group() as tasks:

        async def look() -> None:
            while True:
                async with looking.cursor() as cursor:
                    query = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = %s AND DB IS NOT NULL"
                    await cursor.execute(query, (user,))
                    most[0] = max(most[0], int((await cursor.fetchall())[0][0]))
                await anyio.sleep(0.02)

        tasks.start_soon(look)
        yield most
        tasks.cancel_scope.cancel()


async def test_a_rollout_leaves_applications_their_connections_and_speeds_up_when_they_let_go(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, account: tuple[str, str], tmp_path: Path
) -> None:
    registry = await _registry(mysql, account, await make_mysql_databases(30), tmp_path, max_concurrent=8)
    async with (
        engine.running(registry) as running,
        _most(mysql, account[0]) as most,
        _application(mysql, 12) as let_go,
    ):
        view, _ = await running.service.start_rollout(engine.head())
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=4)
        most[0] = 0  # the survey has ended
        await until(lambda: len(running.of(MigrationFinished)) >= 8)
        assert 0 < most[0] <= 9, "4 migrations of 2 sessions each, and the one that asks"
        (throttled,) = running.of(ShardThrottled)
        assert throttled.reason == "others use 13 of the server's 27 connections, and 5 are left to applications"
        await let_go()
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 30}
        assert 9 < most[0] <= 17, "more than before, and no more than the registry allows"
        assert running.of(MigrationRetried) == []


async def test_a_server_without_a_connection_to_spare_is_waited_for(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, account: tuple[str, str], tmp_path: Path
) -> None:
    registry = await _registry(mysql, account, await make_mysql_databases(4), tmp_path)
    async with engine.running(registry) as running, _application(mysql, MOST) as let_go:
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: any(event.limit == 0 for event in running.of(ShardThrottled)))
        await running.reaches(view.rollout.id, RolloutState.RUNNING, pending=3)
        await let_go()
        with anyio.fail_after(60):
            await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 4}


async def test_the_accounts_own_limit_counts(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, account: tuple[str, str], tmp_path: Path
) -> None:
    databases = await make_mysql_databases(10)
    await mariadb.execute(mysql, "", f"ALTER USER {account[0]} WITH MAX_USER_CONNECTIONS 7")
    registry = await _registry(mysql, account, databases, tmp_path)
    place = Place(registry.targets[0], registry.url_for(registry.targets[0]), Limits())
    occupancy = await MySQL().occupancy(place)
    assert (occupancy.most, occupancy.account_most, occupancy.account_used) == (MOST, 7, 0)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 10}
        (throttled,) = running.of(ShardThrottled)
        assert throttled.limit == 3
        assert "the account may have 7 connections" in throttled.reason
        assert running.of(MigrationRetried) == []
