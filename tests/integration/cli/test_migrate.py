"""`orchestrator migrate`, as people run it."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from anyio.abc import Process

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.command import ended, run, started
from tests.daemon import write_registry
from tests.engine import until
from tests.integration.cli.conftest import Project
from tests.servers import MakeDatabases


def heads(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]


async def test_all_at_the_goal_is_exit_code_0_and_a_second_time_nothing_is_to_be_done(project: Project) -> None:
    first = await project.run("migrate")
    assert first.code == 0, first.err
    assert "succeeded: 6 of 6 at head in " in first.out
    assert "app to head: 6 of 6 done" in first.err
    assert heads(project.database(5)) == ["beta"]
    again = await project.run("migrate", "--to", "beta")
    assert again.code == 0
    assert "6 of 6 at beta already; nothing had to be done" in again.out


async def test_failures_are_exit_code_3_and_grouped_by_cause_without_a_stack_trace(project: Project) -> None:
    environments.add_revision(
        project.folder / "project", "gamma", "beta", 'op.execute("INSERT INTO nowhere VALUES (1)")'
    )
    project.database(0).unlink()
    done = await project.run("migrate")
    assert done.code == 3
    assert "failed: 0 of 6 at head" in done.out
    assert "2 causes, 6 tenants:" in done.out
    assert "5 targets: t001, t002, t003, t004, t005" in done.out
    assert "revision gamma: no such table: nowhere" in done.out
    assert "1 target: t000" in done.out
    assert done.out.count("try: ") == 2
    assert done.err.count("no such table") == 1, "one example is told at once, not every target"
    assert "Traceback" not in done.out + done.err


async def test_a_dry_run_changes_nothing_and_groups_targets_by_what_they_need(project: Project) -> None:
    await project.run("migrate", "--to", "alpha", "--select", "tenant in (t000,t001)")
    done = await project.run("migrate", "--dry-run")
    assert done.code == 0
    headline, _, unprovisioned, behind = done.out.splitlines()
    assert headline == "dry run, nothing was changed: 6 of 6 targets would be migrated, app to head"
    assert unprovisioned.split()[:4] == ["4", "unprovisioned", "-", "2"]
    assert unprovisioned.endswith("  alpha beta        t002, t003, t004 and 1 more")
    assert behind.split() == ["2", "behind", "alpha", "1", "beta", "t000,", "t001"]
    assert heads(project.database(0)) == ["alpha"]


async def test_json_is_the_rollout_of_the_http_interface_whatever_env_py_prints(project: Project) -> None:
    env = project.folder / "project" / "alembic" / "env.py"
    env.write_text("print('env.py speaks')\n" + env.read_text())
    done = await project.run("migrate", "--json")
    rollout = json.loads(done.out)
    assert (rollout["state"], rollout["counts"]["succeeded"], rollout["total"]) == ("succeeded", 6, 6)
    assert rollout["to"] == "head"
    assert rollout["created_at"].endswith("Z")
    assert "env.py speaks" in done.err
    preview = json.loads((await project.run("migrate", "--dry-run", "--json")).out)
    assert preview["groups"][0]["state"] == "up_to_date"


async def test_for_machines_it_writes_the_lines_of_the_daemon_and_nothing_else(project: Project) -> None:
    project.database(0).unlink()
    done = await project.run("migrate", "--json", "--log-format", "json")
    assert done.code == 3
    rollout, lines = json.loads(done.out), [json.loads(line) for line in done.err.splitlines()]
    ends = [line for line in lines if line["event"] == "migration_finished"]
    assert sorted(end["tenant"] for end in ends) == [f"t{number:03}" for number in range(6)]
    (last,) = [line for line in lines if line["event"] == "rollout_finished"]
    counts = {state: n for state, n in rollout["counts"].items() if n}
    assert last["counts"] == Counter(end["outcome"] for end in ends) == counts
    assert (last["rollout"], last["outcome"], last["created_by"]) == (rollout["id"], "failed", rollout["created_by"])
    assert last["failures"] == {group["signature"]: group["count"] for group in rollout["failures"]}
    assert {end["database"] for end in ends} == {f"t{number:03}.db" for number in range(6)}


async def test_down_is_only_gone_when_asked_for(project: Project) -> None:
    await project.run("migrate")
    refused = await project.run("migrate", "--to", "base")
    assert refused.code == 2
    assert "try: use --direction downgrade" in refused.err
    done = await project.run("migrate", "--to", "alpha", "--direction", "downgrade")
    assert done.code == 0
    assert heads(project.database(0)) == ["alpha"]


async def test_of_several_tracks_one_must_be_named(project: Project) -> None:
    environments.make_project(project.folder / "other")
    project.write_registry(2, other={"config": "other/alembic.ini"})
    done = await project.run("migrate")
    assert done.code == 2
    remedy = "name one with --track: app, other; or all of them with --track '*'"
    assert done.err == f"error: the registry has 2 tracks\n  try: {remedy}\n"
    assert (await project.run("migrate", "--track", "app")).code == 0


async def test_mistakes_are_exit_code_2_with_a_remedy(project: Project) -> None:
    for arguments in (["--to", "nowhere"], ["--select", "tenant=nobody"], ["--strategy", "x"], ["--select", "((("]):
        done = await project.run("migrate", *arguments)
        assert done.code == 2, arguments
        assert done.err.startswith("error: "), arguments
        assert "Traceback" not in done.err
        assert done.out == ""


async def test_a_store_that_cannot_be_reached_is_exit_code_5(project: Project) -> None:
    done = await project.run("migrate", "--store-url", "postgresql://me:hunter2@127.0.0.1:1/control")
    assert done.code == 5
    assert done.err.startswith("error: ")
    assert "hunter2" not in done.err


async def test_the_first_ctrl_c_lets_what_runs_end_and_says_so(project: Project) -> None:
    add_slow_revision(project)
    async with started("migrate", "--max-concurrent", "2", cwd=project.folder) as process:
        await until(lambda: at_work(project) == 2)
        process.send_signal(signal.SIGINT)
        await heard(process, "stopping: 2 running targets may end")
        (project.folder / "go on").touch()
        done = await ended(process)
    assert done.code == 4
    assert "aborted: 2 of 6 at head" in done.out
    assert "  4 cancelled" in done.out
    assert "interrupted from the terminal" in done.out
    assert [heads(project.database(number)) for number in (0, 1)] == [["gamma"], ["gamma"]]
    assert at_work(project) == 2


async def test_the_second_ctrl_c_leaves_at_once(project: Project) -> None:
    add_slow_revision(project)
    async with started("migrate", cwd=project.folder) as process:
        await until(lambda: at_work(project) == 4)
        process.send_signal(signal.SIGINT)
        await heard(process, "Ctrl-C again leaves at once")
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert done.code == 130
    assert "left at once" in done.err
    assert "Traceback" not in done.err


async def heard(process: Process, text: str) -> None:
    """Read standard error until it says `text`."""
    assert process.stderr is not None
    said = b""
    while text.encode() not in said:
        said += await process.stderr.receive()


def add_slow_revision(project: Project) -> None:
    """A last revision, `gamma`, that leaves a file for each target that has begun, and waits for the file `go on`."""
    (project.folder / "begun").mkdir()
    begun = f"open({str(project.folder / 'begun')!r} + f'/{{time.monotonic_ns()}}', 'w').close()"
    waits = f"while not os.path.exists({str(project.folder / 'go on')!r}):\n    time.sleep(0.02)"
    environments.add_revision(project.folder / "project", "gamma", "beta", f"{begun}\n{waits}")


def at_work(project: Project) -> int:
    return len(list((project.folder / "begun").iterdir()))


async def test_postgresql_tenants_are_migrated_and_failures_told_with_their_sqlstate(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    environments.make_project(tmp_path / "project", "async")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    databases = await make_databases(4)
    await engine.provision(pg, databases[2])
    await engine.execute(pg, databases[2], "CREATE TABLE beta (id int)")
    registry, secret = write_registry(tmp_path, pg, databases, {"app": {"config": "project/alembic.ini"}})
    done = await run("migrate", "--config", str(registry), cwd=tmp_path, env=secret)
    assert done.code == 3, done.err
    assert "3 of 4 at head" in done.out
    assert "1 cause, 1 tenant:" in done.out
    assert "beta 42P07" in done.out
    assert "t002" in done.out
    assert secret["PG_PASSWORD"] not in done.out + done.err
    await engine.execute(pg, databases[2], "DROP TABLE beta")
    again = await run("migrate", cwd=tmp_path, env=secret)
    assert again.code == 0
    assert "  3 up to date" in again.out
    assert "  1 succeeded" in again.out
