"""Traces of real rollouts, as a receiver of OTLP gets them over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished
from orchestrator.observe import trace_ids
from orchestrator.registry.model import EVERYONE, Execution, Registry, Shard, Strategy, Target, Wave
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.collector import Collector, Seen, collecting
from tests.engine import Engine
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

# What must never leave: a value of a row, a literal of a statement, what stands in a comment.
DATA, LITERAL, REMARK = "anna.private@example.org", "swordfish-literal", "remark-of-a-person"
TABLES = ["alpha", "beta"]
PEOPLE = f"""
op.execute("INSERT INTO people (email) SELECT '{LITERAL}' || i FROM generate_series(1, 30) AS i /* {REMARK} */")
"""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=sesame-of-headers")
        yield one


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return tmp_path / "project"


def _registry(project: Path, pg: Server, databases: Sequence[str], execution: Execution = "online") -> Registry:
    track = replace(environments.track_of(project / "alembic.ini"), execution=execution)
    return engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))


@asynccontextmanager
async def _traced(registry: Registry, **settings: Any) -> AsyncIterator[Engine]:
    """What is left of the traces is sent as this ends."""
    async with engine.running(registry, traces="otlp", **settings) as running:
        yield running


def _tree(collector: Collector, rollout: str) -> Seen:
    """The rollout's span, once each span was found to be below a span of its own trace, and to lie within it."""
    (top,) = _trees(collector, rollout)
    return top


def _trees(collector: Collector, rollout: str) -> Sequence[Seen]:
    """As `_tree`, for each run of the rollout."""
    by_id = {span.id: span for span in collector.spans}
    assert len(by_id) == len(collector.spans), "no two spans have one id"
    tops = sorted((span for span in collector.spans if span.parent is None), key=lambda one: one.began)
    for span in collector.spans:
        assert span.trace == trace_ids.shown_trace(trace_ids.of_rollout(rollout))
        assert span.service == "migration-orchestrator"
        if span not in tops:
            parent = by_id[span.parent or ""]
            slack = 5_000_000  # two clocks of one process: one of them goes by steps
            assert parent.began - slack <= span.began <= span.ended <= parent.ended + slack, (span, parent)
    return tops


def _nothing_private(collector: Collector, pg: Server, *more: str) -> None:
    sent = b"".join(collector.bodies)
    password = make_url(pg.url("postgres")).password
    for private in (DATA, LITERAL, REMARK, password, "sesame-of-headers", *more):
        assert private, "or nothing is looked for"
        assert private.encode() not in sent, private


async def test_a_rollout_with_online_targets_and_one_that_fails_is_a_tree(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    environments.add_revision(
        project,
        "gamma",
        "beta",
        'op.create_table("people", sa.Column("email", sa.Text, unique=True))\n' + PEOPLE,
    )
    databases = await make_databases(3)
    await engine.provision(pg, databases[1])
    await engine.execute(pg, databases[1], "CREATE TABLE people (email text)")
    async with _traced(_registry(project, pg, databases)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 2, "failed": 1}
    top = _tree(collector, view.rollout.id)
    assert (top.name, top.error) == ("rollout", "failed")
    assert top.attributes["orchestrator.targets"] == 3
    assert top.attributes["orchestrator.targets.failed"] == 1
    (wave,) = collector.below(top)
    assert (wave.name, wave.error) == ("wave", "targets_failed")
    migrations = collector.below(wave)
    assert sorted(one.attributes["orchestrator.tenant"] for one in migrations) == ["t000", "t001", "t002"]
    assert {one.name for one in migrations} == {"migration"}

    good = collector.one("migration", tenant="t000")
    assert good.error is None
    assert good.attributes["orchestrator.heads.to"] == ["gamma"]
    assert {name for name, _ in good.happenings} >= {"attempt", "lock_waited", "step_applied"}
    (segment,) = collector.below(good)
    assert (segment.name, segment.error) == ("segment", None)
    assert segment.attributes["orchestrator.execution"] == "online"
    assert segment.attributes["orchestrator.revisions"] == ["alpha", "beta", "gamma"]
    statements = sorted(collector.below(segment), key=lambda one: one.began)
    made = [one.attributes["db.query.text"] for one in statements if one.name == "CREATE TABLE"]
    assert [text.split("(")[0].strip() for text in made if "alembic_version" not in text] == [
        "CREATE TABLE applied",
        "CREATE TABLE alpha",
        "CREATE TABLE beta",
        "CREATE TABLE people",
    ]
    (insert,) = [one for one in statements if "people" in one.attributes["db.query.text"] and one.name == "INSERT"]
    assert insert.attributes["db.query.text"] == (
        "INSERT INTO people (email) SELECT ? || i FROM generate_series(?, ?) AS i"
    )
    assert insert.attributes["db.system.name"] == "postgresql"
    assert insert.attributes["db.namespace"] == databases[0]
    assert insert.attributes["db.operation.name"] == "INSERT"
    assert insert.attributes["orchestrator.revision"] == "gamma"
    assert insert.attributes["server.address"] == make_url(pg.url("x")).host
    assert insert.kind == 3, "a client's"

    bad = collector.one("migration", tenant="t001")
    assert (bad.error, bad.attributes["error.type"]) == ("42P07", "42P07")
    assert bad.attributes["orchestrator.revision"] == "gamma"
    (segment,) = collector.below(bad)
    assert segment.error == "42P07"
    failed = [one for one in collector.below(segment) if one.error]
    assert [(one.name, one.error, one.attributes["db.response.status_code"]) for one in failed] == [
        ("CREATE TABLE", "42P07", "42P07")
    ]
    assert failed[0] is max(collector.below(segment), key=lambda one: one.began)
    _nothing_private(collector, pg)
    assert collector.headers[0]["x-key"] == "sesame-of-headers"


async def test_replayed_targets_have_a_statement_for_each_message(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    body = f"""
op.create_table("people", sa.Column("email", sa.Text, unique=True))
{PEOPLE}
with op.get_context().autocommit_block():
    op.create_index("people_email", "people", ["email"], postgresql_concurrently=True)
"""
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "gamma", "beta", body)
    databases = await make_databases(2)
    registry = _registry(project, pg, databases, "replay")
    other = Target("other", "app", "pg", "not there")
    async with _traced(replace(registry, targets=(*registry.targets, other))) as running:
        view = await running.rollout(select="tenant in (t000,t001)")
        assert view.executions == {"replay": 2}
    _tree(collector, view.rollout.id)
    (segment,) = collector.below(collector.one("migration", tenant="t001"))
    assert segment.attributes["orchestrator.execution"] == "replay"
    sent = sorted(collector.below(segment), key=lambda one: one.began)
    assert [one.name for one in sent] == ["BATCH", "BATCH", "BATCH", "CREATE INDEX"]
    assert [one.attributes.get("db.operation.batch.size") for one in sent] == [3, 2, 2, None]
    assert sent[3].attributes["db.query.text"].startswith("CREATE INDEX CONCURRENTLY people_email")
    assert sent[0].attributes["orchestrator.revision"] == "alpha"
    _nothing_private(collector, pg)


async def test_sql_that_the_server_refuses_shows_both_ways(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    guarded = "current_setting('application_name') LIKE 'orchestrator guard %'"
    environments.add_revision(project, "gamma", "beta", f'op.execute("SELECT 1 / (NOT ({guarded}))::int")')
    (database,) = await make_databases(1)
    registry = _registry(project, pg, [database], "replay")
    other = Target("other", "app", "pg", "not there")
    async with _traced(replace(registry, targets=(*registry.targets, other))) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.executions == {"fallback": 1}
    _tree(collector, view.rollout.id)
    one = collector.one("migration", tenant="t000")
    assert one.error is None
    segments = sorted(collector.below(one), key=lambda span: span.began)
    assert [(span.attributes["orchestrator.execution"], span.error) for span in segments] == [
        ("replay", "22012"),
        ("online", None),
    ]
    assert ("replay_refused", {"db.response.status_code": "22012"}) in one.happenings


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_backfill_has_one_span_below_its_migration(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, collector: Collector, isolation: str
) -> None:
    config = environments.make_project(tmp_path / "project")
    create = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Text))
op.execute("INSERT INTO t SELECT i, '{DATA}' FROM generate_series(1, 100) AS i")
"""
    environments.add_revision(tmp_path / "project", "alpha", None, create)
    fill = f"""op.backfill("t", set_={{"n": "n || '{LITERAL}'"}}, batch_size=10)"""
    environments.add_revision(tmp_path / "project", "delta", "alpha", fill)
    (database,) = await make_databases(1)
    track = environments.track_of(config, isolation=isolation)
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
    async with _traced(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}
    _tree(collector, view.rollout.id)
    one = collector.one("migration", tenant="t000")
    backfill = collector.one("backfill")
    assert backfill.parent == one.id
    assert backfill.attributes["orchestrator.backfill.table"] == "t"
    assert backfill.attributes["orchestrator.backfill.rows"] == 100
    assert backfill.attributes["orchestrator.backfill.batches"] >= 1
    assert backfill.error is None
    assert not [span for span in collector.spans if span.name == "UPDATE" and '"t"' in span.attributes["db.query.text"]]
    assert len(collector.spans) < 40, "no span for each batch"
    _nothing_private(collector, pg)


async def test_what_a_server_says_of_a_tenants_rows_is_not_told(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    environments.add_revision(
        project,
        "gamma",
        "beta",
        'op.execute("CREATE UNIQUE INDEX one ON people (email)")\nop.execute("SELECT 1")',
    )
    (database,) = await make_databases(1)
    await engine.provision(pg, database)
    await engine.execute(
        pg, database, "CREATE TABLE people (email text)", *[f"INSERT INTO people VALUES ('{DATA}')"] * 2
    )
    async with _traced(_registry(project, pg, [database])) as running:
        view = await running.rollout()
        (told,) = running.of(MigrationFinished)
    assert told.code == "23505"
    _tree(collector, view.rollout.id)
    assert collector.one("migration", tenant="t000").error == "23505"
    _nothing_private(collector, pg)


async def test_details_are_sent_of_few_targets_and_of_all_that_failed(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    databases = await make_databases(5)
    await engine.provision(pg, databases[4])
    await engine.execute(pg, databases[4], "CREATE TABLE beta (id int)")
    async with _traced(_registry(project, pg, databases), traces_detailed=2, max_concurrent=1) as running:
        view = await running.rollout()
    _tree(collector, view.rollout.id)
    assert len(collector.named("migration")) == 5
    assert len(collector.named("migration", detailed=True)) == 3
    assert len(collector.named("segment")) == 3
    assert collector.below(collector.one("migration", tenant="t004"))


async def test_a_wave_after_the_other_and_the_way_back_in_one_trace(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    canary = Strategy("canary", waves=(Wave("canary", count=1, approval=True), EVERYONE))
    databases = await make_databases(3)
    registry = replace(_registry(project, pg, databases), strategies={"canary": canary})
    async with _traced(registry) as running:
        view, _ = await running.service.start_rollout(engine.head(strategy="canary"))
        rollout = view.rollout.id
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        with acts.acting(Act("approve_rollout", "anna", rollout=rollout)):
            await running.service.approve(rollout, by="anna")
        await running.service.finished(rollout)
    top = _tree(collector, rollout)
    assert {"awaiting_approval", "succeeded"} <= {name for name, _ in top.happenings}
    first, second = sorted(collector.below(top), key=lambda one: one.began)
    assert [first.attributes["orchestrator.wave"], second.attributes["orchestrator.wave"]] == ["canary", "everyone"]
    assert [name for name, _ in first.happenings] == ["started", "ended", "approved", "passed"]
    assert (len(collector.below(first)), len(collector.below(second))) == (1, 2)
    assert first.error is second.error is None


async def test_a_rollout_that_is_retried_after_a_restart_is_a_further_tree_in_the_same_trace(
    project: Path, pg: Server, make_databases: MakeDatabases, collector: Collector, tmp_path: Path
) -> None:
    databases = await make_databases(2)
    await engine.provision(pg, databases[1])
    await engine.execute(pg, databases[1], "CREATE TABLE beta (id int)")
    registry, store = _registry(project, pg, databases), f"sqlite:///{tmp_path}/store.db"
    async with _traced(registry, store_url=store) as running:
        rollout = (await running.rollout()).rollout.id
        await running.service.retry(rollout, by="anna")  # in vain
        await running.service.finished(rollout)
    await engine.execute(pg, databases[1], "DROP TABLE beta")
    async with _traced(registry, store_url=store) as running:
        await running.service.retry(rollout, by="anna")
        await running.service.finished(rollout)
    tops = _trees(collector, rollout)
    assert [one.attributes["orchestrator.attempt"] for one in tops] == [1, 2, 3]
    assert [one.error for one in tops] == ["failed", "failed", None]
    waves = [collector.below(top) for top in tops]
    assert [[len(collector.below(wave)) for wave in below] for below in waves] == [[2], [1], [1]]


async def test_mariadbs_statements_are_there_and_its_error_is_a_number(
    project: Path,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    collector: Collector,
) -> None:
    environments.add_revision(
        project,
        "gamma",
        "beta",
        f"""
op.execute('INSERT INTO applied VALUES ("{LITERAL}")')
op.execute("INSERT INTO missing VALUES ('{LITERAL}')")
""",
    )
    (database,) = await make_mysql_databases(1)
    track = environments.track_of(project / "alembic.ini")
    shard = Shard("my", make_url(mysql.url("x")).set(database=None))
    registry = engine.registry_of([track], [shard], engine.targets_of([database], shard="my"))
    async with _traced(registry) as running:
        view = await running.rollout()
    assert view.counts == {"failed": 1}
    _tree(collector, view.rollout.id)
    one = collector.one("migration", tenant="t000")
    assert one.error == "1146"
    (segment,) = collector.below(one)
    *looked, failed = sorted([span for span in collector.below(segment) if span.error], key=lambda span: span.began)
    assert {span.name for span in looked} <= {"DESCRIBE"}, (
        "SQLAlchemy asks so whether there is a version table, and goes on"
    )
    assert failed.attributes["db.query.text"] == "INSERT INTO missing VALUES (?)"
    assert failed.attributes["db.response.status_code"] == "1146"
    assert failed.attributes["db.system.name"] in ("mysql", "mariadb")
    assert LITERAL.encode() not in b"".join(collector.bodies)
