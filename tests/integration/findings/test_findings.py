"""Findings of plans on real databases: of the largest tenant, of the catalog, and of squawk, through the service."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.api.ports import CompiledGroup
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql_sizes import PostgreSQLSizes
from orchestrator.errors import TargetUnreachableError
from orchestrator.execute import linter
from orchestrator.plan.findings import Finding
from orchestrator.plan.tokens import Table
from orchestrator.registry.findings import Findings
from orchestrator.registry.model import Registry, Track
from orchestrator.rollout.state import Request
from tests import engine, environments
from tests.servers import MakeDatabases

ROWS = 3000
TABLES = """
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('first');
    CREATE TABLE users (id int PRIMARY KEY);
    CREATE TABLE orders (id int, a int, name varchar(50), note text);
"""
GROWN = f"INSERT INTO orders SELECT n, n, 'x', repeat('y', 100) FROM generate_series(1, {ROWS}) n; ANALYZE orders"


@dataclass
class Scene:
    """Tenants t000 and t001; the second has a large table `orders`."""

    pg: Server
    folder: Path
    registry: Registry

    @property
    def databases(self) -> list[str]:
        return [target.database for target in self.registry.targets]

    def revision(self, *statements: str, name: str = "next", down: str = "first", alone: bool = False) -> None:
        body = "\n".join(f"op.execute({text!r})" for text in statements)
        if alone:
            inner = body.replace("\n", "\n    ")
            body = f"with op.get_context().autocommit_block():\n    {inner}"
        environments.add_revision(self.folder / "project", name, down, body, "op.execute('SELECT 1')")

    def findings(self, **fields: object) -> None:
        track = self.registry.tracks["app"]
        rules = replace(track.findings, **fields)  # type: ignore[arg-type]
        self.registry = replace(self.registry, tracks={"app": replace(track, findings=rules)})

    async def groups(self) -> Sequence[CompiledGroup]:
        async with engine.running(self.registry) as one:
            return (await one.service.plan(engine.head())).groups

    async def found(self) -> list[Finding]:
        """But for what is told of each revision."""
        [group] = await self.groups()
        return [one for one in group.findings if one.rule not in ("locks", "outside_transaction", "irreversible")]


@pytest.fixture
async def scene(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Scene:
    databases = await make_databases(2)
    for database in databases:
        await engine.execute(pg, database, TABLES)
    await engine.execute(pg, databases[1], GROWN)
    config = environments.make_project(tmp_path / "project")
    environments.use_transaction_per_migration(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "first", None, "op.execute('SELECT 1')")
    track = Track("app", config=config, execution="auto", findings=Findings(large=1000))
    targets = engine.targets_of(databases)
    return Scene(pg, tmp_path, engine.registry_of([track], [engine.shard_of(pg)], targets, folder=tmp_path))


def rules(found: Sequence[Finding]) -> set[tuple[str, str]]:
    return {(one.level, one.rule) for one in found}


ERROR, WARNING = "error", "warning"
BAD: list[tuple[str, set[tuple[str, str]]]] = [
    (
        "ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid() NOT NULL",
        {(ERROR, "table_rewrite"), (WARNING, "squawk/adding-field-with-default")},
    ),
    (
        "CREATE INDEX i ON orders (a)",
        {(ERROR, "blocking_scan"), (WARNING, "squawk/require-concurrent-index-creation")},
    ),
    (
        "ALTER TABLE orders ALTER a SET NOT NULL",
        {(ERROR, "blocking_scan"), (WARNING, "squawk/adding-not-nullable-field")},
    ),
    (
        "ALTER TABLE orders ALTER a TYPE bigint",
        {(ERROR, "table_rewrite"), (WARNING, "squawk/changing-column-type")},
    ),
    (
        "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES users (id)",
        {
            (ERROR, "blocking_scan"),
            (WARNING, "squawk/constraint-missing-not-valid"),
            (WARNING, "squawk/adding-foreign-key-constraint"),
        },
    ),
    ("ALTER TABLE orders DROP COLUMN note", {(WARNING, "squawk/ban-drop-column")}),
    ("ALTER TABLE orders RENAME name TO title", {(WARNING, "squawk/renaming-column")}),
    ("ALTER TABLE users ADD COLUMN age int NOT NULL", {(ERROR, "squawk/adding-required-field")}),
    ("UPDATE orders SET a = 7", {(WARNING, "mass_change")}),
]


@pytest.mark.skipif(linter.found() is None, reason="squawk is not installed: it comes with the extra `lint`")
async def test_unsafe_statements_are_found_each_at_its_revision(scene: Scene) -> None:
    down = "first"
    for number, (sql, _) in enumerate(BAD):
        scene.revision(sql, name=f"r{number}", down=down)
        down = f"r{number}"
    found = await scene.found()
    for number, (sql, expected) in enumerate(BAD):
        mine = [one for one in found if one.revision == f"r{number}"]
        assert rules(mine) == expected, sql
        assert {one.statement for one in mine} == {sql.replace("= 7", "= ?")}
    assert len(found) == sum(len(expected) for _, expected in BAD)
    order = [(one.level != ERROR, one.revision) for one in found]
    assert order == sorted(order, key=lambda pair: (pair[0], pair[1] or ""))
    for one in found:
        if one.rows is not None:
            assert (one.table, one.tenant) == ("orders", "t001")
            assert abs(one.rows - ROWS) < ROWS / 10
            assert one.seconds is not None


@pytest.mark.skipif(linter.found() is None, reason="squawk is not installed: it comes with the extra `lint`")
async def test_the_safe_ways_give_no_findings(scene: Scene) -> None:
    scene.revision("ALTER TABLE orders ADD COLUMN token uuid", "ALTER TABLE orders ADD COLUMN n int DEFAULT 0 NOT NULL")
    scene.revision("CREATE INDEX CONCURRENTLY i ON orders (a)", name="b", down="next", alone=True)
    check = "ALTER TABLE orders ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID"
    key = "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES users (id) NOT VALID"
    scene.revision(check, key, name="c", down="b")
    scene.revision("ALTER TABLE orders VALIDATE CONSTRAINT c", name="d", down="c")
    scene.revision("ALTER TABLE orders VALIDATE CONSTRAINT f", name="e", down="d")
    scene.revision("ALTER TABLE orders ALTER a SET NOT NULL", name="f", down="e")
    scene.revision("CREATE TABLE n (a int)", "CREATE INDEX ni ON n (a)", name="g", down="f")
    scene.revision("ALTER TABLE n ALTER a TYPE bigint", "ALTER TABLE n RENAME a TO b", name="h", down="g")
    assert await scene.found() == []


async def test_the_catalog_knows_what_need_not_be_done(scene: Scene) -> None:
    scene.revision("ALTER TABLE orders ALTER name TYPE varchar(200)", "ALTER TABLE orders ALTER a SET NOT NULL")
    for database in scene.databases:
        await engine.execute(scene.pg, database, "ALTER TABLE orders ADD CHECK (a IS NOT NULL)")
    assert [one for one in await scene.found() if one.level != "info"] == []
    for database in scene.databases:
        await engine.execute(scene.pg, database, "ALTER TABLE orders ALTER name TYPE varchar(300)")
    assert ("error", "table_rewrite") in rules(await scene.found())


async def test_partitions_count_for_their_table_and_schemas_are_told_apart(scene: Scene) -> None:
    large = scene.databases[1]
    made = """
        CREATE TABLE events (id int, day int) PARTITION BY LIST (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
        CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
        CREATE SCHEMA other; CREATE TABLE other.orders (id int);
        INSERT INTO events SELECT n, 1 + n % 2 FROM generate_series(1, 1500) n; ANALYZE events_1, events_2
    """
    await engine.execute(scene.pg, large, made)
    scene.revision("CREATE INDEX i ON events (id)", "CREATE INDEX j ON other.orders (id)")
    [one] = [one for one in await scene.found() if one.level == "error"]
    assert (one.table, one.rows) == ("events", 1500)


async def test_a_table_that_others_keep_locked_is_measured_and_one_never_analysed_too(scene: Scene) -> None:
    large = scene.databases[1]
    await engine.execute(scene.pg, large, "CREATE TABLE raw (id int)")
    await engine.execute(scene.pg, large, "INSERT INTO raw SELECT generate_series(1, 5000)")
    scene.revision("CREATE INDEX i ON orders (a)", "CREATE INDEX j ON raw (id)")

    async def is_counted() -> bool:
        return await engine.fetch(scene.pg, large, "SELECT pg_stat_get_live_tuples('raw'::regclass)") == [(5000,)]

    await engine.until(is_counted)
    holder = await asyncpg.connect(scene.pg.url(large))
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE orders, raw IN ACCESS EXCLUSIVE MODE")
            assert {one.table for one in await scene.found() if one.rule == "blocking_scan"} == {"orders", "raw"}
    finally:
        await holder.close()


async def test_where_nobody_answers_that_is_said_and_nothing_is_alarmed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise TargetUnreachableError("cannot use database 'x' on h: no answer in time")

    monkeypatch.setattr(PostgreSQLSizes, "tables", refuse)
    scene.revision("CREATE INDEX i ON orders (a)")
    found = await scene.found()
    assert ("info", "unmeasured") in rules(found)
    assert "no answer in time" in next(one.message for one in found if one.rule == "unmeasured")
    assert "blocking_scan" not in {one.rule for one in found}


async def test_the_digest_does_not_hang_on_findings(scene: Scene) -> None:
    scene.revision("CREATE INDEX i ON orders (a)")
    async with engine.running(scene.registry) as one:
        before = (await one.service.plan(engine.head())).digest
    scene.findings(large=10**9, squawk="off", rules={"irreversible": "error"})
    async with engine.running(scene.registry) as one:
        assert (await one.service.plan(engine.head())).digest == before
        view = await one.rollout(plan_digest=before)
    assert view.counts == {"succeeded": 2}


async def test_without_squawk_one_line_says_how_to_get_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linter, "found", lambda: None)
    scene.revision("CREATE INDEX i ON orders (a)")
    scene.revision("CREATE INDEX j ON orders (a)", name="more", down="next")
    found = await scene.found()
    [one] = [one for one in found if one.rule == "linter_missing"]
    assert (one.level, one.revision) == ("info", None)
    assert "pip install 'migration-orchestrator[lint]'" in one.message
    assert [one.rule for one in found if one.level == "error"] == ["blocking_scan", "blocking_scan"]
    scene.findings(squawk="required")
    assert ("error", "linter_missing") in rules(await scene.found())
    scene.findings(squawk="off")
    assert "linter_missing" not in {one.rule for one in await scene.found()}


async def test_a_track_that_requires_squawk_is_told_whatever_others_were(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linter, "found", lambda: None)
    scene.revision("CREATE INDEX i ON orders (a)")
    lax = scene.registry.tracks["app"]
    strict = replace(lax, name="strict", findings=Findings(squawk="required"))
    others = [replace(target, track="strict") for target in scene.registry.targets]
    targets = (*scene.registry.targets, *others)
    scene.registry = replace(scene.registry, tracks={"app": lax, "strict": strict}, targets=targets)
    async with engine.running(scene.registry) as one:
        groups = (await one.service.plan(Request("*", "head"))).groups
    told = [(group.track, one.level) for group in groups for one in group.findings if one.rule == "linter_missing"]
    assert sorted(told) == [("app", "info"), ("strict", "error")]


async def test_what_env_py_runs_is_looked_at_where_the_track_says_so(scene: Scene) -> None:
    track = replace(scene.registry.tracks["app"], execution="online")
    scene.registry = replace(scene.registry, tracks={"app": track})
    scene.revision("CREATE INDEX i ON orders (a)")
    body = "op.get_bind().execute(sa.text('SELECT 1')).all()"
    environments.add_revision(scene.folder / "project", "odd", "next", body, "op.execute('SELECT 1')")
    found = await scene.found()
    assert rules(found) == {("info", "online"), ("info", "unread")}
    assert "`findings: {render: true}`" in next(one.message for one in found if one.rule == "unread")
    scene.findings(render=True, rules={"unread": "warning"})
    found = await scene.found()
    assert ("error", "blocking_scan") in rules(found)
    assert [(one.revision, one.level) for one in found if one.rule == "unread"] == [("odd", "warning")]


async def test_one_online_revision_does_not_hide_the_others(scene: Scene) -> None:
    """Also where env.py has one transaction for all, so that all of them run online."""
    env = scene.folder / "project" / "alembic" / "env.py"
    env.write_text(env.read_text().replace(", transaction_per_migration=True", ""))
    scene.revision("CREATE INDEX i ON orders (a)")
    body = "op.get_bind().execute(sa.text('SELECT 1')).all()"
    environments.add_revision(scene.folder / "project", "odd", "next", body, "op.execute('SELECT 1')")
    found = await scene.found()
    assert {one.revision for one in found if one.rule == "online"} == {"next", "odd"}
    assert [one.revision for one in found if one.rule == "blocking_scan"] == ["next"]


async def test_a_fleet_that_has_nothing_yet_is_told_nothing(scene: Scene, make_databases: MakeDatabases) -> None:
    scene.revision("CREATE TABLE orders (a int)", "CREATE INDEX i ON orders (a)", "DROP TABLE old")
    scene.registry = replace(scene.registry, targets=tuple(engine.targets_of(await make_databases(1))))
    assert await scene.found() == []


async def test_a_role_needs_to_connect_and_nothing_more(scene: Scene) -> None:
    database, role = scene.databases[1], f"reader_{secrets.token_hex(4)}"
    await engine.execute(scene.pg, database, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        url = make_url(scene.pg.url(database)).set(username=role, password="x")
        place = Place(scene.registry.targets[1], url, Limits())
        assert (await PostgreSQLSizes().databases(place, scene.databases)).keys() == set(scene.databases)
        wanted = {
            Table("orders"): frozenset({"a", "name"}),
            Table("nowhere"): frozenset(),
            Table("t", "no"): frozenset(),
        }
        sized = await PostgreSQLSizes().tables([place], wanted)
    finally:
        await engine.execute(scene.pg, database, f"DROP ROLE {role}")
    [(table, size)] = sized.tables
    assert (table, size.rows, size.tenant) == (Table("orders"), ROWS, "t001")
    assert size.types == {"a": "integer", "name": "character varying(50)"}
    assert size.bytes > 100 * ROWS


async def test_tenants_of_one_database_are_measured_in_one_session(scene: Scene) -> None:
    database = scene.databases[0]
    targets = []
    for name, rows in (("small", 10), ("Große Firma", ROWS)):
        made = f"""
            CREATE SCHEMA "{name}"; SET search_path = "{name}"; {TABLES}
            INSERT INTO orders SELECT n FROM generate_series(1, {rows}) n; ANALYZE orders
        """
        await engine.execute(scene.pg, database, made)
        targets.append(replace(scene.registry.targets[0], tenant=name, schema=name))
    scene.registry = replace(scene.registry, targets=tuple(targets))
    scene.revision("CREATE INDEX i ON orders (a)")
    [one] = [one for one in await scene.found() if one.level == "error"]
    assert (one.tenant, one.rows) == ("Große Firma", ROWS)
