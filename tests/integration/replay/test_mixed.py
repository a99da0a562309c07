"""One track over databases of every kind: a plan, and its proof, for each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, PlanJudged
from orchestrator.registry.model import Shard, Target
from orchestrator.rollout.state import Request
from tests import engine, environments
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases


async def test_each_kind_of_database_has_a_plan_of_its_own(
    project: Path,
    tmp_path: Path,
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
) -> None:
    body = "op.create_table('d', sa.Column('a b', sa.Integer, primary_key=True), sa.Column('c', sa.String(9)))"
    environments.add_revision(project, "delta", "gamma", body)
    files = [f"{number}.db" for number in range(4)]
    for name in files:
        (tmp_path / name).touch()
    shards = [
        engine.shard_of(pg),
        Shard("maria", make_url(mysql.url("x")).set(database=None)),
        Shard("files", make_url(f"sqlite:///{tmp_path}")),
    ]
    places = {"pg": await make_databases(4), "maria": await make_mysql_databases(4), "files": files}
    targets = [
        Target(f"{shard}-{number}", "app", shard, database)
        for shard, databases in places.items()
        for number, database in enumerate(databases)
    ]
    track = environments.track_of(project / "alembic.ini", execution="auto")
    registry = engine.registry_of([track], shards, targets, folder=tmp_path)
    async with engine.running(registry) as running:
        plan = await running.service.plan(Request("app", "head"))
        statements = {"".join(group.tenants)[:2]: " ".join(map(str, group.script)) for group in plan.groups}
        assert {kind: '"a b"' in sql for kind, sql in statements.items()} == {"pg": True, "ma": False, "fi": True}
        assert "`a b` INTEGER NOT NULL AUTO_INCREMENT" in statements["ma"]
        view = await running.rollout()
        assert view.counts == {"succeeded": 12}, view.failures
        assert [(one.execution, one.reason) for one in running.of(PlanJudged)] == [("replay", None)] * 3
        assert len({one.digest for one in running.of(PlanJudged)}) == 3
        done = Counter((one.shard, one.execution) for one in running.of(MigrationFinished))
    assert done == {(shard, way): 2 for shard in places for way in ("online", "replay")}


async def test_tenants_with_a_schema_and_tenants_with_a_database_are_proved_apart(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    shared, *databases = await make_databases(6)
    schemas = [f"s{number}" for number in range(5)]
    await engine.execute(pg, shared, *(f"CREATE SCHEMA {name}" for name in schemas))
    # The first by name is of another kind than the others: with whom a plan is compiled goes by names.
    own = [Target(f"{'az'[number > 0]}{number}", "app", "pg", name) for number, name in enumerate(databases)]
    targets = [*own, *(Target(name, "app", "pg", shared, schema=name) for name in schemas)]
    track = environments.track_of(project / "alembic.ini", execution="auto")
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], targets)) as running:
        plan = await running.service.plan(Request("app", "head"))
        shown = [(group.tenants[0], dict(group.online), '"s0".' in str(group.script)) for group in plan.groups]
        assert shown == [("a0", {}, False), ("s0", {}, True)]
        view = await running.rollout(plan_digest=plan.digest)
        assert view.counts == {"succeeded": 10}, view.failures
        assert [(one.execution, one.reason) for one in running.of(PlanJudged)] == [("replay", None)] * 2
        done = Counter((one.tenant[0] == "s", one.execution) for one in running.of(MigrationFinished))
    assert done == {(False, "online"): 2, (False, "replay"): 3, (True, "online"): 2, (True, "replay"): 3}
