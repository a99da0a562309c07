"""Targets that a frozen leader still holds are had by the one that follows it, and by nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.deposed import Owner
from orchestrator.databases.embedded import Server
from orchestrator.databases.mysql import MySQL
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.errors import TargetLockedError, TargetUnreachableError
from orchestrator.registry.model import Target
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

LONG = "tenant-" + "x" * 80


@pytest.mark.parametrize("tenant", ["acme", LONG])
async def test_the_lock_of_a_deposed_process_is_taken_and_its_session_ended(
    tenant: str, pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    url = make_url(pg.url("postgres")).set(database=database)
    place = Place(Target(tenant, "app", "pg", database), url, Limits(lock_wait=60.0))
    before = PostgreSQL(Owner("aaaaaaaa"))
    follower = PostgreSQL(Owner("bbbbbbbb", lambda: {"11111111", "aaaaaaaa"}))
    async with before.guard(place) as frozen, follower.guard(place) as guard:
        assert await guard.heads() is None
        await until(frozen.lost.is_set)


async def test_the_lock_of_anybody_else_is_waited_for_in_vain(pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    url = make_url(pg.url("postgres")).set(database=database)
    place = Place(Target("aaaaaaaa", "app", "pg", database), url, Limits(lock_wait=0.3))
    follower = PostgreSQL(Owner("bbbbbbbb", lambda: {"aaaaaaaa"}))
    for other in (PostgreSQL(Owner("cccccccc")), PostgreSQL()):
        async with other.guard(place) as holder:
            with pytest.raises(TargetLockedError, match="another migration holds the lock"):
                async with follower.guard(place):
                    pass
            assert not holder.lost.is_set()


@pytest.fixture
async def on_mysql(mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases) -> Place:
    (database,) = await make_mysql_databases(1)
    return Place(Target("acme", "app", "maria", database), make_url(mysql.url(database)), Limits(lock_wait=2.0))


async def test_on_mysql_too(on_mysql: Place) -> None:
    before, follower = MySQL(Owner("aaaaaaaa")), MySQL(Owner("bbbbbbbb", lambda: {"11111111", "aaaaaaaa"}))
    async with before.guard(on_mysql) as frozen, follower.guard(on_mysql) as guard:
        assert await guard.heads() is None
        with pytest.raises(TargetUnreachableError):
            await frozen.heads()


async def test_on_mysql_nobody_elses(on_mysql: Place) -> None:
    place = replace(on_mysql, limits=Limits(lock_wait=0.3))
    follower = MySQL(Owner("bbbbbbbb", lambda: {"aaaaaaaa"}))
    for other in (MySQL(Owner("cccccccc")), MySQL()):
        async with other.guard(place) as holder:
            with pytest.raises(TargetLockedError, match="another migration holds the lock"):
                async with follower.guard(place):
                    pass
            assert await holder.heads() is None
