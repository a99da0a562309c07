"""Fleets compared with themselves: by the command, and by the daemon's looks."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.databases.quoting import quoted
from orchestrator.errors import ConfigurationError
from orchestrator.events import DriftFound, DriftGone
from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.drifts import Drift
from orchestrator.registry.model import Registry, Strategy, Target, Track, Wave
from orchestrator.rollout.state import RolloutState
from orchestrator.service.drift_watch import DriftWatch
from orchestrator.service.drifting import COMMAND, Compared, Question
from orchestrator.service.steering import COMMANDS
from tests import engine, environments
from tests.engine import Engine, head, registry_of, running, shard_of, targets_of
from tests.servers import MakeDatabases, unique_names

pytestmark = pytest.mark.anyio


def project(folder: Path, **fields: Any) -> Track:
    config = environments.make_project(folder / "project")
    environments.add_revision(
        folder / "project",
        "a1",
        None,
        """
        op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.String(20)))
        op.create_index("ix_note", "orders", ["note"])
        """,
    )
    return environments.track_of(config, **fields)


def standings(compared: Compared) -> dict[str, str]:
    return {verdict.key.tenant: str(verdict.standing) for verdict in compared.verdicts}


async def metric(running: Engine, name: str) -> dict[str, float]:
    families = {family.name: family for family in running.parts.metrics.registry.collect()}
    return {sample.labels["track"]: sample.value for sample in families[name].samples}


async def test_replayed_targets_are_as_those_that_went_online(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    track = project(tmp_path, execution="auto", certify=1)
    databases = await make_databases(4)
    async with running(registry_of([track], [shard_of(pg)], targets_of(databases))) as fleet:
        view = await fleet.rollout()
        assert set(view.executions) == {"online", "replay"}
        assert set(standings(await fleet.service.drifting.compare(Question())).values()) == {"equal"}
        await engine.execute(pg, databases[2], "DROP INDEX ix_note")
        compared = await fleet.service.drifting.compare(Question())
    assert standings(compared) == {"t000": "equal", "t001": "equal", "t002": "drifted", "t003": "equal"}
    [difference] = compared.differences.values()
    assert (difference.total, difference.lines[0].sign) == (1, "-")
    assert "CREATE INDEX ix_note" in difference.lines[0].text


async def test_schemas_version_tables_and_roles_that_are_named_after_tenants_do_not_make_drift(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """One role's name comes before that of a role which all have, another's after it."""
    [database], token = await make_databases(1), unique_names(1, "x")[0].split("_")[1]
    schemas = {f"b{token}": "plain", f"z{token}": 'Odd "name" of \\ it', f"q{token}": "orders"}
    targets = [
        Target(tenant, "app", "pg", database, schema=name, version_table=f"v_{tenant}", create_schema=True)
        for tenant, name in schemas.items()
    ]
    connection = await asyncpg.connect(pg.url(database))
    try:
        async with running(registry_of([project(tmp_path)], [shard_of(pg)], targets)) as fleet:
            await fleet.rollout()
            for tenant, name in schemas.items():
                await connection.execute(f"CREATE ROLE {tenant}_app")
                await connection.execute(f"GRANT SELECT ON {quoted(name)}.orders TO {tenant}_app, pg_monitor")
            equal = await fleet.service.drifting.compare(Question())
            await connection.execute(f"CREATE VIEW {quoted(schemas[f'z{token}'])}.mine AS SELECT 1 AS one")
            drifted = await fleet.service.drifting.compare(Question())
    finally:
        for tenant in schemas:
            await connection.execute(f"DROP OWNED BY {tenant}_app; DROP ROLE {tenant}_app")
        await connection.close()
    assert set(standings(equal).values()) == {"equal"}
    assert standings(drifted)[f"z{token}"] == "drifted"
    [difference] = drifted.differences.values()
    assert "<schema>.mine" in str(difference.lines)


async def test_a_target_that_cannot_be_read_is_told_apart(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(3)
    targets = targets_of([*databases, "there_is_none"])
    async with running(registry_of([project(tmp_path)], [shard_of(pg)], targets)) as fleet:
        await fleet.rollout()
        compared = await fleet.service.drifting.compare(Question())
    assert standings(compared) == {"t000": "equal", "t001": "equal", "t002": "equal", "t003": "unread"}
    assert "there_is_none" in (compared.verdicts[-1].why or "")


async def test_two_at_different_revisions_are_not_told_as_well(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(2)
    async with running(registry_of([project(tmp_path)], [shard_of(pg)], targets_of(databases))) as fleet:
        await fleet.rollout()
        question = Question(tenant="t000", reference="t001")
        assert set(standings(await fleet.service.drifting.compare(question)).values()) == {"equal"}
        await engine.execute(pg, databases[0], "UPDATE alembic_version SET version_num = 'a0'")
        with pytest.raises(ConfigurationError, match=r"t000 is at revision a0 of app .*, t001 is at revision a1"):
            await fleet.service.drifting.compare(question)
        await engine.execute(pg, databases[0], "DELETE FROM alembic_version")
        with pytest.raises(ConfigurationError, match="t000 is at no revision, t001 is at revision a1"):
            await fleet.service.drifting.compare(question)


def watched(pg: Server, folder: Path, databases: list[str], **drift: Any) -> Registry:
    track = replace(project(folder), drift=Drift(**{"every_seconds": 3600.0, **drift}))
    return registry_of([track], [shard_of(pg)], targets_of(databases))


async def looked(fleet: Engine, watch: DriftWatch) -> dict[str, Record]:
    """What is known after a look that somebody has asked for."""
    await fleet.service.drifting.ask_look(by="a test")
    await watch.once()
    return {record.tenant: record for record in await fleet.service.drifting.listed()}


async def test_the_daemon_tells_of_drift_once_keeps_it_over_a_restart_and_tells_when_it_is_gone(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(3)
    registry, store = watched(pg, tmp_path, databases), f"sqlite:///{tmp_path}/store.db"
    async with running(registry, store_url=store) as fleet:
        await fleet.rollout()
        watch = DriftWatch(fleet.parts, fleet.service)
        found = await looked(fleet, watch)
        assert {record.standing for record in found.values()} == {Standing.EQUAL}
        assert await metric(fleet, "orchestrator_drifted_targets") == {"app": 0}
        assert (await metric(fleet, "orchestrator_drift_last_look_timestamp_seconds"))["app"] > 0

        await engine.execute(pg, databases[1], "ALTER TABLE orders ADD COLUMN by_hand text")
        for _ in range(2):
            found = await looked(fleet, watch)
        drifted = found["t001"]
        assert (drifted.standing, drifted.reference, drifted.differing) == (Standing.DRIFTED, "t000", 1)
        assert "by_hand" in drifted.lines[0]
        assert [event.tenant for event in fleet.of(DriftFound)] == ["t001"]
        assert await metric(fleet, "orchestrator_drifted_targets") == {"app": 1}

    async with running(registry, store_url=store) as fleet:
        watch = DriftWatch(fleet.parts, fleet.service)
        await watch.once()  # nothing is due
        assert await metric(fleet, "orchestrator_drifted_targets") == {"app": 1}
        assert fleet.of(DriftFound) == []
        await engine.execute(pg, databases[1], "ALTER TABLE orders DROP COLUMN by_hand")
        assert (await looked(fleet, watch))["t001"].standing is Standing.EQUAL
        assert [event.tenant for event in fleet.of(DriftGone)] == ["t001"]
        assert await metric(fleet, "orchestrator_drifted_targets") == {"app": 0}

        fleet.source.current = replace(registry, digest="other", tracks={}, targets=())
        await watch.once()
        assert await metric(fleet, "orchestrator_drifted_targets") == {}
        assert await metric(fleet, "orchestrator_drift_last_look_timestamp_seconds") == {}
        assert await fleet.service.drifting.listed() == []


async def test_the_first_look_comes_by_itself_and_never_means_never(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(2)
    registry = watched(pg, tmp_path, databases, every_seconds=0.05)
    async with running(registry) as fleet:
        await fleet.rollout()
        watch = DriftWatch(fleet.parts, fleet.service)

        async def has_looked() -> bool:
            await watch.once()
            return bool(await fleet.service.drifting.listed())

        await engine.until(has_looked)
        track = replace(registry.tracks["app"], drift=Drift(every_seconds=0.0))
        fleet.source.current = replace(registry, digest="other", tracks={"app": track})
        assert await looked(fleet, watch) == {}
        assert await metric(fleet, "orchestrator_drifted_targets") == {}
        with pytest.raises(ConfigurationError, match="every: never"):
            await fleet.service.drifting.ask_look(by="a test", track="app")


async def test_a_leader_looks_for_a_standby(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    """The standby's command goes by this name, with these values."""
    registry = watched(pg, tmp_path, await make_databases(1))
    async with running(registry) as fleet:
        await fleet.rollout()
        assert COMMAND in COMMANDS
        await getattr(fleet.service, COMMAND)("", by="a standby", tracks=["app"])
        await DriftWatch(fleet.parts, fleet.service).once()
        [record] = await fleet.service.drifting.listed()
    assert record.standing is Standing.ALONE


async def test_targets_that_a_rollout_holds_are_left_out(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(3)
    registry = watched(pg, tmp_path, databases)
    async with running(registry) as fleet:
        await fleet.rollout()
        environments.add_tables(tmp_path / "project", ["more"], after="a1")
        await engine.execute(pg, databases[0], "CREATE TABLE more (id integer)")
        async with engine.held_target(pg, databases[0]):
            view, _ = await fleet.service.start_rollout(head(select="tenant=t000"))
            await fleet.service.pause(view.rollout.id, by="a test")
            await fleet.reaches(view.rollout.id, RolloutState.PAUSED)
            found = await looked(fleet, DriftWatch(fleet.parts, fleet.service))
            await fleet.service.abort(view.rollout.id, by="a test", force=True)
        await fleet.service.finished(view.rollout.id)
    assert set(found) == {"t001", "t002"}


async def test_what_a_rollout_holds_goes_on_to_say_who_is_right(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The rollout waits over most of the fleet; two that have drifted alike are left, and later a healthy one."""
    databases = await make_databases(6)
    gated = Strategy("gated", waves=(Wave("first", select="tenant=t000", approval=True), Wave("rest")))
    registry = replace(watched(pg, tmp_path, databases), strategies={"gated": gated})
    async with running(registry) as fleet:
        await fleet.rollout()
        watch = DriftWatch(fleet.parts, fleet.service)
        for database in databases[4:]:
            await engine.execute(pg, database, "DROP INDEX ix_note")
        await looked(fleet, watch)
        assert [event.tenant for event in fleet.of(DriftFound)] == ["t004", "t005"]
        environments.add_revision(tmp_path / "project", "b2", "a1", "op.execute('SELECT 1')")
        for select in ("tenant in (t000,t001,t002,t003)", "tenant in (t000,t001,t002)"):
            view, _ = await fleet.service.start_rollout(head(strategy="gated", select=select))
            await fleet.reaches(view.rollout.id, RolloutState.AWAITING_APPROVAL)
            async with engine.held_target(pg, databases[1]), engine.held_target(pg, databases[2]):
                found = await looked(fleet, watch)  # so those count as they were seen last
            assert {tenant: str(one.standing) for tenant, one in found.items() if tenant != "t000"} == {
                "t001": "equal",
                "t002": "equal",
                "t003": "equal",
                "t004": "drifted",
                "t005": "drifted",
            }
            assert await metric(fleet, "orchestrator_drifted_targets") == {"app": 2}
            await fleet.service.abort(view.rollout.id, by="a test")
            await fleet.service.finished(view.rollout.id)
        assert (len(fleet.of(DriftFound)), fleet.of(DriftGone)) == (2, [])


async def test_what_is_ignored_may_differ(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    databases = await make_databases(3)
    registry = watched(pg, tmp_path, databases, ignore=("public.tmp_*",))
    await engine.execute(pg, databases[1], "CREATE TABLE tmp_one (id serial PRIMARY KEY)")
    await engine.provision(pg, databases[1])
    async with running(registry) as fleet:
        await fleet.rollout()
        assert set(standings(await fleet.service.drifting.compare(Question())).values()) == {"equal"}


async def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    """Of SQLite files: nothing else is needed."""
    from tests.integration.cli.conftest import Project

    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    (tmp_path / "dbs").mkdir()
    made = Project(tmp_path)
    made.write_registry(4)
    assert (await made.run("migrate")).code == 0
    same = await made.run("drift")
    assert (same.code, same.out) == (0, "")
    assert "4 targets: 4 equal" in same.err

    with closing(sqlite3.connect(made.database(2))) as connection:
        connection.execute("ALTER TABLE alpha ADD COLUMN by_hand INTEGER")
    found = await made.run("drift", "--diff")
    assert found.code == 3, found.err
    assert "t002" in found.out
    assert "+ column | alpha | by_hand integer" in found.out
    assert "t001" not in found.out.replace("--- t000/app", "")

    one = await made.run("drift", "t002", "--reference", "t003", "--json")
    report = json.loads(one.out)
    assert (one.code, report["counts"]["drifted"], report["targets"][0]["differing"]) == (3, 1, 1)
    assert (await made.run("drift", "t001")).code == 0
    assert (await made.run("drift", "nobody")).code == 2
    assert (await made.run("drift", "--reference", "nobody")).code == 2
    made.database(2).unlink()
    assert (await made.run("drift")).code == 5
