"""What must hold after a migration, asked of real databases: what passes, what fails, and what is shown of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from orchestrator.errors import HistoryError
from orchestrator.events import MigrationRetried, StepApplied
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.registry.precautions import Assertion, RowGuard, Verification
from orchestrator.rollout.state import Direction
from tests import engine, environments, mariadb
from tests.engine import Engine, until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

BETA = 'op.execute("UPDATE orders SET total = 0 WHERE total IS NULL")\nop.execute("DELETE FROM orders WHERE id = 3")'


def _project(folder: Path, beta: str = BETA, verify: str = "") -> Path:
    config = environments.make_project(folder)
    environments.add_revision(
        folder,
        "alpha",
        None,
        "op.create_table('orders', sa.Column('id', sa.Integer, primary_key=True), sa.Column('total', sa.Integer))",
    )
    file = environments.add_revision(folder, "beta", "alpha", beta, "pass")
    file.write_text(f"{file.read_text()}\n\n{verify}\n")
    return config


@dataclass
class Place:
    """A database of some kind, with a target at `alpha` whose table `orders` has three rows."""

    shard: Shard
    folder: Path
    make: Callable[[], Awaitable[str]]
    execute_in: Callable[..., Awaitable[None]]
    database: str = ""

    async def fill(self) -> None:
        self.database = await self.make()
        await self.execute(
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('alpha')",
            "CREATE TABLE orders (id integer PRIMARY KEY, total integer)",
            "INSERT INTO orders VALUES (1, 10), (2, NULL), (3, 30)",
        )

    async def execute(self, *statements: str) -> None:
        await self.execute_in(self.database, *statements)

    def registry(self, *verify: Verification, beta: str = BETA, own: str = "", **track: Any) -> Registry:
        config = _project(self.folder / "project", beta, own)
        made = environments.track_of(config, verify=verify, **track)
        target = Target("acme", "app", self.shard.name, self.database)
        return engine.registry_of([made], [self.shard], [target], folder=self.folder)


@pytest.fixture
def on_postgresql(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Place:
    async def make() -> str:
        return (await make_databases(1))[0]

    return Place(engine.shard_of(pg, "s"), tmp_path, make, partial(engine.execute, pg))


@pytest.fixture
def on_mariadb(mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path) -> Place:
    async def make() -> str:
        return (await make_mysql_databases(1))[0]

    shard = Shard("s", make_url(mysql.url("x")).set(database=None))
    return Place(shard, tmp_path, make, partial(mariadb.execute, mysql))


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Place:
    async def make() -> str:
        return "acme.db"

    async def execute(database: str, *statements: str) -> None:
        with closing(sqlite3.connect(tmp_path / database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return Place(Shard("s", make_url(f"sqlite:///{tmp_path}")), tmp_path, make, execute)


@pytest.fixture(params=["on_postgresql", "on_mariadb", "on_sqlite"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


NO_NULLS = Assertion("SELECT count(*) = 0 FROM orders WHERE total IS NULL", "every order has a total")


async def _one(running: Engine, **fields: Any) -> Any:
    view = await running.rollout(**fields)
    (migration,) = (await running.migrations(view)).values()
    return migration


async def test_what_holds_passes(place: Place) -> None:
    await place.fill()
    registry = place.registry(
        NO_NULLS,
        Assertion("SELECT count(*) FROM orders", expect="2"),
        Assertion("SELECT max(total) FROM orders", expect="10.0", revision="beta"),
        Assertion("SELECT never FROM asked", revision="alpha"),
        RowGuard("orders", within_count=1),
        RowGuard("orders", may="shrink"),
        own='verify = ["SELECT count(*) = 2 FROM orders", {"sql": "SELECT 7", "expect": 7}, '
        '{"rows": "orders", "within": "34%"}]',
    )
    async with engine.running(registry) as running:
        migration = await _one(running)
        assert (migration.state.value, migration.failure) == ("succeeded", None)


async def test_what_does_not_hold_fails_the_migration_and_is_asked_again_by_a_retry(place: Place) -> None:
    await place.fill()
    async with engine.running(place.registry(NO_NULLS, beta="pass")) as running:
        migration = await _one(running)
        assert migration.state.value == "failed"
        assert migration.failure is not None
        assert migration.failure.kind == "verify"
        assert migration.failure.message.startswith("verification failed: 'every order has a total' gave ")
        assert "The revisions stay applied: the target is at beta" in migration.failure.message
        assert (migration.from_heads, migration.to_heads) == (("alpha",), ("beta",))
        assert migration.failure.statement == NO_NULLS.sql
        assert running.of(MigrationRetried) == []
        await place.execute("UPDATE orders SET total = 1 WHERE total IS NULL")
        await running.service.retry(migration.rollout, by="test")
        await running.service.finished(migration.rollout)
        assert (await running.service.rollout(migration.rollout)).counts == {"succeeded": 1}
        assert len(running.of(StepApplied)) == 1, "nothing was run again"


WRONG: dict[str, tuple[Assertion, str]] = {
    "no row": (Assertion("SELECT id FROM orders WHERE id = 99"), "gave no row"),
    "several rows": (Assertion("SELECT id FROM orders"), "gave more than one row"),
    "null": (Assertion("SELECT NULL"), "gave NULL, not true"),
    "a number": (Assertion("SELECT 17"), "gave 17, not true"),
    "another number": (Assertion("SELECT 17", expect="18"), "gave 17, not 18"),
    "text": (Assertion("SELECT lower('ANN@EXAMPLE.ORG')", expect="x"), "gave a text of 15 characters, not x"),
    "no such column": (Assertion("SELECT nothing FROM orders"), "nothing"),
    "no such table": (Assertion("SELECT 1 FROM nowhere"), "nowhere"),
    "no SQL": (Assertion("SELEKT"), "it cannot be asked"),
    "two statements": (Assertion("SELECT 1; SELECT 1"), "it cannot be asked"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_said_of_a_wrong_answer(name: str, place: Place) -> None:
    await place.fill()
    assertion, expected = WRONG[name]
    async with engine.running(place.registry(assertion)) as running:
        migration = await _one(running)
    assert migration.failure is not None
    assert (migration.failure.kind, expected in migration.failure.message) == ("verify", True), migration.failure
    assert "ann@" not in migration.failure.message
    assert migration.to_heads == ("beta",)


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM orders", "DROP TABLE orders", "SELECT 1; DROP TABLE orders", "COMMIT", "UPDATE orders SET total = 5"],
)
async def test_an_assertion_cannot_change_anything(sql: str, place: Place) -> None:
    await place.fill()
    async with engine.running(place.registry(Assertion(sql), beta="pass")) as running:
        migration = await _one(running)
        assert migration.failure is not None
        assert migration.failure.kind == "verify"
        # The session that was asked is as good as before: of the next one it is the guard.
        running.source.current = replace(
            running.source.current,
            tracks={
                "app": replace(
                    running.source.current.tracks["app"], verify=(Assertion("SELECT count(*) FROM orders", expect="3"),)
                )
            },
        )
        await running.service.retry(migration.rollout, by="test")
        await running.service.finished(migration.rollout)
        view = await running.service.rollout(migration.rollout)
        assert view.counts == {"succeeded": 1}, view.failures


async def test_rows_that_are_lost_are_noticed_and_a_retry_still_knows_how_many_there_were(
    place: Place, tmp_path: Path
) -> None:
    await place.fill()
    registry = place.registry(RowGuard("orders"), RowGuard("orders", "may shrink", may="shrink"))
    store = f"sqlite:///{tmp_path}/store.db"
    async with engine.running(registry, store_url=store) as running:
        migration = await _one(running)
        assert migration.failure is not None
        assert "'rows of orders' has 2 rows of 3 before; it may lose 0 at most" in migration.failure.message
        assert "may shrink" not in migration.failure.message
    async with engine.running(registry, store_url=store) as running:  # who has counted has ended
        await running.service.retry(migration.rollout, by="test")
        await running.service.finished(migration.rollout)
        view = await running.service.rollout(migration.rollout)
        assert "has 2 rows of 3 before" in view.failures[0].example.message
        await place.execute("INSERT INTO orders VALUES (4, 40)")
        await running.service.retry(migration.rollout, by="test")
        await running.service.finished(migration.rollout)
        assert (await running.service.rollout(migration.rollout)).counts == {"succeeded": 1}


async def test_a_table_that_is_gone_or_never_was(place: Place) -> None:
    await place.fill()
    beta = 'op.drop_table("orders")'
    async with engine.running(place.registry(RowGuard("orders"), RowGuard("typo"), beta=beta)) as running:
        migration = await _one(running)
    assert migration.failure is not None
    assert "'rows of orders' had 3 rows, and is not there any more" in migration.failure.message
    assert "'rows of typo' is not there" in migration.failure.message


async def test_a_downgrade_is_asked_for_rows_and_for_nothing_else(place: Place) -> None:
    await place.fill()
    async with engine.running(place.registry(NO_NULLS, RowGuard("orders", within_count=1))) as running:
        assert (await _one(running)).state.value == "succeeded"
        await place.execute("UPDATE orders SET total = NULL")
        assert (await _one(running, to="alpha", direction=Direction.DOWNGRADE)).state.value == "succeeded"


async def test_a_count_does_not_pass_by_being_one_where_there_are_truth_values(on_postgresql: Place) -> None:
    place = on_postgresql
    await place.fill()
    async with engine.running(place.registry(Assertion("SELECT count(*) FROM orders WHERE id = 1"))) as running:
        migration = await _one(running)
    assert migration.failure is not None
    assert "gave 1, not true, which no number is here: give `expect`" in migration.failure.message


async def test_what_cannot_be_read_fails_and_leaves_the_session_whole(on_postgresql: Place) -> None:
    place = on_postgresql
    await place.fill()
    unreadable, whole = Assertion("SELECT '0044-03-15 BC'::date"), Assertion("SELECT false", "asked after it")
    async with engine.running(place.registry(unreadable, whole)) as running:
        migration = await _one(running)
    assert migration.failure is not None
    assert "its answer holds a value that cannot be read" in migration.failure.message
    assert "'asked after it' gave false" in migration.failure.message


async def test_what_an_assertion_sets_does_not_stay(on_postgresql: Place) -> None:
    place = on_postgresql
    await place.fill()
    sets = Assertion("SELECT set_config('orchestrator.said', 'here', false) IS NOT NULL")
    left = Assertion("SELECT coalesce(current_setting('orchestrator.said', true), '') = ''")
    async with engine.running(place.registry(sets, left)) as running:
        assert (await _one(running)).failure is None


async def test_an_assertion_writes_no_file(on_sqlite: Place, tmp_path: Path) -> None:
    place = on_sqlite
    await place.fill()
    copy = tmp_path / "copy.db"
    async with engine.running(place.registry(Assertion(f"VACUUM INTO '{copy}'"))) as running:
        migration = await _one(running)
    assert (migration.failure.kind, copy.exists()) == ("verify", False)


async def test_what_takes_too_long_is_ended(on_postgresql: Place) -> None:
    place = on_postgresql
    await place.fill()
    slow = Assertion("SELECT pg_sleep(600) IS NULL", timeout_seconds=0.2)
    async with engine.running(place.registry(slow)) as running:
        migration = await _one(running)
    assert migration.failure is not None
    assert "it took longer than 0.2 s" in migration.failure.message


async def test_a_locked_table_is_asked_again(on_postgresql: Place, pg: Server) -> None:
    place = on_postgresql
    await place.fill()
    await place.execute("CREATE TABLE other ()")
    asked = Assertion("SELECT count(*) = 0 FROM other")
    async with engine.running(place.registry(asked), lock_timeout_seconds=0.05) as running:
        async with engine.locked_table(pg, place.database, "other"):
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: bool(running.of(MigrationRetried)))
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert len(running.of(StepApplied)) == 1


async def test_a_schema_s_own_table_is_asked(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    (name,) = await make_databases(1)
    config = _project(tmp_path / "project", "op.execute('INSERT INTO orders VALUES (1, 1)')")
    track = environments.track_of(config, verify=(Assertion("SELECT count(*) FROM orders", expect="1"),))
    await engine.execute(pg, name, "CREATE TABLE public.orders ()")
    targets = [Target(f"t{number}", "app", "s", name, f"s{number}", create_schema=True) for number in range(3)]
    registry = engine.registry_of([track], [engine.shard_of(pg, "s")], targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 3}, view.failures


async def test_what_was_cut_short_before_it_was_verified_is_verified_by_the_next_start(
    on_postgresql: Place, pg: Server, tmp_path: Path
) -> None:
    place = on_postgresql
    await place.fill()
    store = {"store_url": f"sqlite:///{tmp_path}/store.db"}
    slow = place.registry(Assertion("SELECT pg_sleep(600) IS NULL", timeout_seconds=600))

    async def asking() -> bool:
        found = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep(600)%' AND state = 'active'"
        )
        return bool(await engine.fetch(pg, "postgres", found, place.database))

    async with engine.running(slow, shutdown_grace_seconds=0.1, **store) as running:
        view, _ = await running.service.start_rollout(engine.head())
        await until(asking)
    tracks = {"app": replace(slow.tracks["app"], verify=(Assertion("SELECT false", "never"),))}
    async with engine.running(replace(slow, tracks=tracks), **store) as running:
        await running.service.resume_active()
        await running.service.finished(view.rollout.id)
        (migration,) = (await running.migrations(view)).values()
        assert migration.failure is not None, migration
        assert "'never' gave false" in migration.failure.message


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("verify = 'SELECT 1'", "`verify` must be a list"),
        ("verify = [{'sql': 'SELECT 1', 'rows': 'orders'}]", "give `sql`, or `rows`"),
        ("verify = [{'sqll': 'SELECT 1'}]", "`sqll`"),
        ("verify = [7]", "must be SQL or a mapping"),
    ],
)
async def test_a_wrong_list_in_a_revision_is_told_with_file_and_line(own: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "acme.db").touch()
    config = _project(tmp_path / "project", verify=own)
    shard = Shard("s", make_url(f"sqlite:///{tmp_path}"))
    registry = engine.registry_of(
        [environments.track_of(config)], [shard], [Target("acme", "app", "s", "acme.db")], folder=tmp_path
    )
    async with engine.running(registry) as running:
        with pytest.raises(HistoryError) as told:
            await running.service.start_rollout(engine.head())
    assert said in str(told.value)
    assert "beta.py:" in str(told.value)


async def test_a_function_named_verify_is_the_project_s_own(tmp_path: Path) -> None:
    (tmp_path / "acme.db").touch()
    config = _project(tmp_path / "project", verify="def verify(connection):\n    raise RuntimeError")
    shard = Shard("s", make_url(f"sqlite:///{tmp_path}"))
    registry = engine.registry_of(
        [environments.track_of(config)], [shard], [Target("acme", "app", "s", "acme.db")], folder=tmp_path
    )
    async with engine.running(registry) as running:
        assert (await _one(running)).state.value == "succeeded"
