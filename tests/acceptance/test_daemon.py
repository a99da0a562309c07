"""The daemon end to end, over HTTP, with real databases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.daemon import Daemon, write_registry
from tests.servers import MakeDatabases


async def _samples(daemon: Daemon, name: str, **labels: str) -> list[float]:
    """Values of the metric's series that have these labels."""
    text = (await daemon.call("GET", "/metrics")).text
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


async def test_a_rollout_by_http_moves_the_metrics_and_keeps_a_second_one_off(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project)
    environments.add_tables(project, ["alpha", "beta"], before_each=_waits_in_threes(tmp_path))
    tracks = {"app": {"config": "project/alembic.ini"}}
    config, environ = write_registry(tmp_path, pg, await make_databases(12), tracks, max_concurrent=4)
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon:
        started = await daemon.post_rollout()
        assert started.status_code == 201
        rollout = started.json()["id"]
        second = await daemon.post_rollout(select="tenant=t003")
        assert second.status_code == 409
        assert second.headers["content-type"] == "application/problem+json"
        assert second.json()["rollout"] == rollout
        seen: list[float] = []

        async def came_to(progress: float) -> bool:
            seen.extend(await _samples(daemon, "orchestrator_rollout_progress_ratio", rollout=rollout))
            return seen[-1:] == [progress]

        for number in range(4):
            await engine.until(partial(came_to, number / 4))
            (tmp_path / str(number)).touch()
        after = await daemon.ended(rollout)
        assert seen == sorted(seen)
        assert {0.0, 0.25, 0.5, 0.75} <= set(seen), "progress must be seen to move"
        assert after["state"] == "succeeded"
        assert after["counts"]["succeeded"] == after["total"] == 12
        assert await _samples(daemon, "orchestrator_rollout_progress_ratio") == [], "a finished rollout's series go"
        assert await _samples(daemon, "orchestrator_migrations_total", track="app", outcome="succeeded") == [12]
        assert await _samples(daemon, "orchestrator_targets", shard="pg", state="up_to_date") == [12]
        tenants = (await daemon.call("GET", "/api/v1/tenants", params={"state": "up_to_date"})).json()
        assert len(tenants["items"]) == 12
        assert await daemon.stop() == 0


def _waits_in_threes(folder: Path) -> str:
    """What the targets do: the first three wait for the file 0, the next three for 1, and so on."""
    third = "int(context.get_x_argument(as_dictionary=True)['tenant'].removeprefix('t')) // 3"
    return f"while not os.path.exists(os.path.join({str(folder)!r}, str({third}))):\n    time.sleep(0.02)"


async def test_a_revision_file_added_while_it_runs_is_seen_and_a_broken_one_refused_by_file_and_line(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    for name in ("app", "billing"):
        environments.make_project(tmp_path / name)
        environments.add_tables(tmp_path / name, [f"{name}_one"])
    tracks = {name: {"config": f"{name}/alembic.ini"} for name in ("app", "billing")}
    first, *others = await make_databases(5)
    config, environ = write_registry(tmp_path, pg, others, tracks)
    content = yaml.safe_load(config.read_text())
    content["tenants"].append({"id": "b", "databases": {"billing": {"shard": "pg", "database": first}}})
    config.write_text(yaml.safe_dump(content))
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon:
        before = await daemon.ended((await daemon.post_rollout()).json()["id"])
        assert before["counts"]["succeeded"] == 4
        environments.add_revision(
            tmp_path / "app", "two", "app_one", 'op.create_table("two", sa.Column("id", sa.Integer))'
        )
        added = await daemon.ended((await daemon.post_rollout()).json()["id"])
        assert (added["counts"]["succeeded"], added["goal"]) == (4, ["two"])
        broken = tmp_path / "app" / "alembic" / "versions" / "broken.py"
        broken.write_text('revision = "broken"\ndown_revision = "two"\nimport no_such_module\n')
        refused = await daemon.post_rollout()
        assert refused.status_code == 422
        assert f"{broken}:3" in refused.json()["detail"]
        other = await daemon.post_rollout(track="billing")
        assert other.status_code == 201
        assert (await daemon.ended(other.json()["id"]))["counts"]["succeeded"] == 1


@pytest.mark.alone
async def test_healthz_answers_while_two_hundred_targets_migrate_with_a_revision_that_sleeps(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project, "async")
    environments.add_tables(project, [f"t{number}" for number in range(4)])
    environments.add_revision(project, "sleeps", "t3", "time.sleep(0.5)")
    databases = await make_databases(200)
    config, environ = write_registry(
        tmp_path,
        pg,
        databases,
        {"app": {"config": "project/alembic.ini", "execution": "online"}},
        max_concurrent=16,
    )
    seconds = []
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url) as client:
            rollout = (await daemon.post_rollout()).json()["id"]
            state = "running"
            while state in ("pending", "planning", "running"):
                began = time.perf_counter()
                assert (await client.get("/healthz")).status_code == 200
                seconds.append(time.perf_counter() - began)
                if len(seconds) % 20 == 0:
                    state = (await client.get(f"/api/v1/rollouts/{rollout}")).json()["state"]
                await anyio.sleep(0.01)
        after = await daemon.rollout(rollout)
        assert after["counts"]["succeeded"] == 200, after["failures"]
    assert len(seconds) >= 100, "the rollout must last long enough to be looked at"
    p99 = statistics.quantiles(seconds, n=100)[98]
    assert p99 < 0.1, f"p99 {p99 * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms of {len(seconds)}"


async def test_sigterm_in_the_middle_drains_and_the_next_start_goes_on(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project)
    environments.add_tables(project, ["alpha", "beta"], before_each="time.sleep(0.3)")
    databases = await make_databases(12)
    tracks = {"app": {"config": "project/alembic.ini"}}
    config, environ = write_registry(tmp_path, pg, databases, tracks, max_concurrent=3)
    daemon = Daemon(config, f"sqlite:///{tmp_path}/store.db", environ)
    await daemon.start()
    rollout = (await daemon.post_rollout()).json()["id"]
    await engine.until(lambda: any(line.get("event") == "migration_finished" for line in daemon.log))
    assert await daemon.stop() == 0
    applied = [await _applied(pg, database) for database in databases]
    assert {2} <= set(applied) <= {0, 2}, "what ran was let end; nothing was cut in the middle"
    assert 0 in applied, "it stopped in the middle"
    async with daemon:
        after = await daemon.ended(rollout)
        assert after["state"] == "succeeded"
        assert after["counts"]["succeeded"] == 12
    assert [await _applied(pg, database) for database in databases] == [2] * 12


async def _applied(pg: Server, database: str) -> int:
    exists = await engine.fetch(pg, database, "SELECT to_regclass('applied') IS NOT NULL")
    if not exists[0][0]:
        return 0
    return int((await engine.fetch(pg, database, "SELECT count(*) FROM applied"))[0][0])


async def test_the_registry_is_read_again_on_change_on_sighup_and_by_http_and_a_bad_one_changes_nothing(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    tracks = {"app": {"config": "project/alembic.ini"}}
    config, environ = write_registry(tmp_path, pg, await make_databases(2), tracks)
    good = config.read_text()
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon:

        async def reloads(result: str) -> float:
            return sum(await _samples(daemon, "orchestrator_registry_reloads_total", result=result))

        async def targets() -> int:
            return len((await daemon.call("GET", "/api/v1/tenants")).json()["items"])

        more = yaml.safe_load(good)
        more["tenants"].append({"id": "new", "databases": {"app": {"shard": "pg", "database": "later"}}})
        config.write_text(yaml.safe_dump(more))
        await engine.until(lambda: _equals(targets, 3))
        config.write_text(good.replace("shard: pg", "shard: pq", 1))
        await engine.until(lambda: _equals(lambda: reloads("failed"), 1))
        refused = await daemon.call("POST", "/api/v1/registry/reload")
        assert refused.status_code == 422
        assert "tenants.yaml:" in refused.json()["detail"]
        assert "'pq'" in refused.json()["detail"]
        assert await targets() == 3, "the running registry stays"
        daemon.hang_up()
        await engine.until(lambda: _equals(lambda: reloads("failed"), 3))
        config.write_text(good)
        assert (await daemon.call("POST", "/api/v1/registry/reload")).json()["changed"] is True
        assert await targets() == 2


async def _equals(ask: Callable[[], Awaitable[float]], wanted: float) -> bool:
    return await ask() == wanted


async def test_a_second_daemon_on_the_same_store_is_told_who_holds_it(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    tracks = {"app": {"config": "project/alembic.ini"}}
    config, environ = write_registry(tmp_path, pg, await make_databases(1), tracks)
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as first:
        with pytest.raises(AssertionError, match=f"ended with 5.*{first.pid}.*rollout start"):
            await Daemon(config, f"sqlite:///{tmp_path}/store.db", environ).start()
