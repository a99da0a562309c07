"""Tenants that come and go while the daemon runs, with real databases."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.command import run
from tests.daemon import Daemon, write_registry
from tests.servers import MakeDatabases

SLOW = "op.execute('SELECT pg_sleep(0.3)')"


def project(folder: Path, **options: Any) -> dict[str, Any]:
    """A track of two revisions."""
    environments.make_project(folder / "project")
    environments.add_tables(folder / "project", ["alpha", "beta"], **options)
    return {"app": {"config": "project/alembic.ini"}}


def daemon_of(folder: Path, pg: Server, tracks: dict[str, Any], *discover: dict[str, Any], limit: int = 2) -> Daemon:
    config, environ = write_registry(folder, pg, [], tracks, max_concurrent=limit)
    content = yaml.safe_load(config.read_text())
    content["discover"] = [{"shard": "pg", "refresh": "1s", **entry} for entry in discover]
    config.write_text(yaml.safe_dump(content))
    return Daemon(config, f"sqlite:///{folder}/store.db", environ)


async def gauge(daemon: Daemon, name: str, **labels: str) -> float | None:
    text = (await daemon.call("GET", "/metrics")).text
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"orchestrator_registry_{name}" and labels.items() <= sample.labels.items()
    ]
    return found[0] if found else None


async def targets(daemon: Daemon) -> dict[str, dict[str, Any]]:
    items = (await daemon.call("GET", "/api/v1/tenants")).json()["items"]
    return {item["tenant"]: item["targets"][0] for item in items}


async def becomes(daemon: Daemon, name: str, value: float, **labels: str) -> None:
    async def there() -> bool:
        return await gauge(daemon, name, **labels) == value

    await engine.until(there)


async def test_a_tenant_that_appears_during_a_rollout_is_seen_and_is_the_next_ones(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    prefix = f"appears{secrets.token_hex(3)}"
    early = await make_databases(4, prefix)
    entry = {"databases": f"{prefix}_(?P<tenant>.+)", "name": "found"}
    async with daemon_of(tmp_path, pg, project(tmp_path, before_each=SLOW), entry) as daemon:
        assert len(await targets(daemon)) == 4, "they were found before it listened"
        rollout = (await daemon.post_rollout()).json()
        [late] = await make_databases(1, prefix)
        tenant = late.removeprefix(f"{prefix}_")

        async def seen() -> bool:
            return (await targets(daemon)).get(tenant, {}).get("state") == "unprovisioned"

        await engine.until(seen)
        assert await gauge(daemon, "targets", source="found") == 5
        ended = await daemon.ended(rollout["id"])
        assert (ended["state"], ended["total"], ended["counts"]["succeeded"]) == ("succeeded", 4, 4)
        assert await engine.fetch(pg, late, "SELECT to_regclass('alembic_version') IS NULL") == [(True,)], "untouched"
        for database in early:
            assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("beta",)]
        after = await daemon.ended((await daemon.post_rollout()).json()["id"])
        assert (after["state"], after["total"]) == ("succeeded", 5)
        assert (after["counts"]["succeeded"], after["counts"]["up_to_date"]) == (1, 4)
        assert await engine.fetch(pg, late, "SELECT version_num FROM alembic_version") == [("beta",)]


async def test_a_source_that_breaks_is_visible_keeps_its_tenants_and_recovers(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    control, *databases = await make_databases(7)
    rows = ", ".join(f"('t{number}', '{name}', 'free')" for number, name in enumerate(databases))
    await engine.execute(pg, control, "CREATE TABLE tenants (id text, db text, tier text)")
    await engine.execute(pg, control, f"INSERT INTO tenants VALUES {rows}")
    query = "SELECT id AS tenant, db AS database, tier FROM tenants ORDER BY 1"
    entry = {"database": control, "query": query, "name": "saas"}
    async with daemon_of(tmp_path, pg, project(tmp_path, before_each=SLOW), entry, limit=1) as daemon:
        assert {name: one["labels"] for name, one in (await targets(daemon)).items()} == {
            f"t{number}": {"tier": "free"} for number in range(6)
        }
        rollout = (await daemon.post_rollout(select="tier=free")).json()

        await engine.execute(pg, control, "ALTER TABLE tenants RENAME TO moved")
        await becomes(daemon, "source_stale", 1, source="saas")
        assert (await daemon.rollout(rollout["id"]))["state"] == "running", "the source broke while it ran"
        assert await gauge(daemon, "targets", source="saas") == 6
        shown = await run("tenants", "--server", daemon.url, cwd=tmp_path)
        assert "source saas is stale since 20" in shown.err
        assert "6 targets of its last answer, 20" in shown.err
        assert 'relation "tenants" does not exist' in shown.err
        assert len(await daemon.tells("source_stale")) == 1
        ended = await daemon.ended(rollout["id"])
        assert (ended["state"], ended["counts"]["succeeded"]) == ("succeeded", 6), "a stale source's tenants go on"

        await engine.execute(pg, control, "ALTER TABLE moved RENAME TO tenants")
        await becomes(daemon, "source_stale", 0, source="saas")
        assert len(await daemon.tells("source_recovered")) == 1
        [source] = (await daemon.call("GET", "/api/v1/registry")).json()["sources"]
        assert (source["name"], source["stale"], source["reason"], source["targets"]) == ("saas", False, None, 6)

        await engine.execute(pg, control, "DELETE FROM tenants WHERE id <> 't0'")
        await becomes(daemon, "source_stale", 1, source="saas")
        assert len(await targets(daemon)) == 6, "most of them gone at once is not believed"
        reloaded = (await daemon.call("POST", "/api/v1/registry/reload")).json()
        assert reloaded == {"changed": True, "targets": 1, "appeared": 0, "vanished": 5, "stale": []}
        assert (await daemon.tells("targets_vanished"))[0]["count"] == 5
        assert list(await targets(daemon)) == ["t0"]
        assert await daemon.stop() == 0


async def test_a_tenant_that_vanishes_from_its_source_is_accounted_for_in_the_rollout_that_holds_it(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    prefix = f"vanish{secrets.token_hex(3)}"
    [database] = await make_databases(1)
    schemas = [f"{prefix}_t{number}" for number in range(4)]
    await engine.execute(pg, database, *(f"CREATE SCHEMA {schema}" for schema in schemas))
    entry = {"database": database, "schemas": f"{prefix}_(?P<tenant>.+)", "name": "found"}
    tracks = project(tmp_path, before_each="op.execute('SELECT pg_sleep(0.8)')")
    tracks["app"]["version_table"] = "version_{tenant}"
    async with daemon_of(tmp_path, pg, tracks, entry, limit=1) as daemon:
        assert [one["schema"] for one in (await targets(daemon)).values()] == schemas
        rollout = (await daemon.post_rollout()).json()["id"]
        await engine.execute(pg, database, f"DROP SCHEMA {schemas[-1]}")
        await becomes(daemon, "targets", 3, source="found")
        assert (await daemon.tells("targets_vanished"))[0]["examples"] == ["t3/app"]
        ended = await daemon.ended(rollout)
        assert ended["total"] == 4
        [group] = [group for group in ended["failures"] if group["example"]["kind"] == "vanished"]
        assert group["tenants"] == ["t3"]


async def test_a_rollout_that_is_resumed_before_its_source_answers_waits_for_it(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    control, *databases = await make_databases(4)
    rows = ", ".join(f"('t{number}', '{name}')" for number, name in enumerate(databases))
    await engine.execute(pg, control, "CREATE TABLE tenants (tenant text, database text)")
    await engine.execute(pg, control, f"INSERT INTO tenants VALUES {rows}")
    entry = {"database": control, "query": "SELECT * FROM tenants ORDER BY 1", "name": "saas"}
    async with daemon_of(tmp_path, pg, project(tmp_path, before_each=SLOW), entry, limit=1) as daemon:
        rollout = (await daemon.post_rollout()).json()["id"]
        await engine.execute(pg, control, "ALTER TABLE tenants RENAME TO moved")
        daemon.kill()
        await daemon.start()
        assert await gauge(daemon, "targets", source="saas") == 0
        [retried, *_] = await daemon.tells("migration_retried")
        await engine.execute(pg, control, "ALTER TABLE moved RENAME TO tenants")
        ended = await daemon.ended(rollout)
        assert (ended["state"], ended["total"]) == ("succeeded", 3), ended
        assert "saas gave no good answer since the start" in retried["message"]


async def test_a_daemon_starts_without_a_source_and_says_so(pg: Server, tmp_path: Path) -> None:
    entry = {"database": "no_such_database", "query": "SELECT 1 AS tenant", "name": "saas"}
    async with daemon_of(tmp_path, pg, project(tmp_path), entry) as daemon:
        assert await gauge(daemon, "source_stale", source="saas") == 1
        assert await gauge(daemon, "targets", source="saas") == 0
        assert await gauge(daemon, "source_refreshed_timestamp_seconds", source="saas") is None
        [line] = await daemon.tells("source_stale")
        assert (line["level"], line["source"]) == ("warning", "saas")
        assert "create the database, or correct `database:` of the entry" in line["reason"]
        assert (await daemon.call("GET", "/readyz")).status_code == 200
        refused = await daemon.call("POST", "/api/v1/rollouts", json={"track": "app", "to": "head"})
        assert refused.status_code == 503
        assert "source 'saas' of the registry does not tell its tenants" in refused.text
