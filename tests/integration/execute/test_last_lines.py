"""The last lines of targets and rollouts, in the log of real ones: one for each end, as the API counts them."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationRetried
from orchestrator.observe import logs
from orchestrator.registry.model import FailureBudget, Strategy, Target, Track, Wave
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.daemon import Daemon, write_registry
from tests.engine import Engine, until
from tests.servers import MakeDatabases

ODD = 'od"d\n2026-01-01T00:00:00Z [info] rollout_finished outcome=succeeded\x1b[2K'
MANY = FailureBudget(100, same_signature=100)


@dataclass
class Log:
    """What was written at `info` and above, as JSON."""

    stream: io.StringIO

    def lines(self, *names: str, **values: Any) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().removesuffix("\n").split("\n") if line]
        wanted = [line for line in found if not names or line["event"] in names]
        return [line for line in wanted if values.items() <= line.items()]


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure("json", "info", stream=(stream := io.StringIO()))
    yield Log(stream)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def project(tmp_path: Path) -> Track:
    """Revisions `alpha` and `beta`, a table each."""
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    return environments.track_of(config)


async def _break(pg: Server, database: str) -> None:
    await engine.provision(pg, database)
    await engine.execute(pg, database, "CREATE TABLE beta (id int)")


async def _equal(log: Log, running: Engine, rollout: str) -> dict[str, Any]:
    """The rollout's last line, which says what the API says."""
    view = await running.service.rollout(rollout)
    (line,) = log.lines("rollout_finished", rollout=rollout)
    assert line["counts"] == {state.value: n for state, n in view.counts.items() if n}
    assert line["failures"] == {group.signature: group.count for group in view.failures}
    assert (line["total"], line["outcome"]) == (view.rollout.total, view.rollout.state.value)
    return line


async def test_each_target_has_one_last_line_whatever_becomes_of_it(
    pg: Server, make_databases: MakeDatabases, project: Track, log: Log
) -> None:
    databases = await make_databases(9)
    names = ["good", ODD, "broken", "there", "skipped", "vanished", "locked", "late", "later"]
    waves = ["first"] * 4 + ["second"] * 3 + ["third"] * 2
    targets = [
        Target(name, "app", "pg", database, labels={"wave": wave})
        for name, database, wave in zip(names, databases, waves, strict=True)
    ]
    strategy = Strategy(
        "careful",
        4,
        tuple(Wave(w, select=f"wave={w}", approval=w != "third", on_failure=MANY) for w in dict.fromkeys(waves)),
    )
    registry = engine.registry_of([project], [engine.shard_of(pg)], targets, strategies={"careful": strategy})
    await _break(pg, databases[2])
    async with engine.running(registry, lock_wait_seconds=0, lock_retry_seconds=0) as running:
        await running.rollout(strategy="default", select="tenant=there")
        log.stream.truncate(0)
        log.stream.seek(0)
        view, _ = await running.service.start_rollout(engine.head(strategy="careful", created_by="user:anna"))
        rollout = view.rollout.id
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        await running.service.skip(rollout, by="anna", tenant="skipped", track=None, reason="not now")
        running.source.current = replace(registry, targets=tuple(t for t in targets if t.tenant != "vanished"))
        async with engine.held_target(pg, databases[6]):
            await running.service.approve(rollout, by="bert")
            await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, locked=1)
        await running.service.abort(rollout, by="anna")
        await running.service.finished(rollout)
        last = await _equal(log, running, rollout)
    ends = log.lines("migration_finished", rollout=rollout)
    assert Counter(end["tenant"] for end in ends) == Counter(names), "one each, also of those that were never tried"
    assert Counter(end["outcome"] for end in ends) == Counter(last["counts"])
    by_name = {end["tenant"]: end for end in ends}
    assert {name: by_name[name]["outcome"] for name in names} == {
        "good": "succeeded",
        ODD: "succeeded",
        "broken": "failed",
        "there": "up_to_date",
        "skipped": "skipped",
        "vanished": "failed",
        "locked": "locked",
        "late": "cancelled",
        "later": "cancelled",
    }
    for end, database in zip((by_name[name] for name in names), databases, strict=True):
        assert end.get("database") == (None if end["tenant"] == "vanished" else database)
        assert (end["track"], end["shard"]) == ("app", "pg")
    good, broken = by_name["good"], by_name["broken"]
    assert (good["from"], good["to"], good["attempts"], good["steps"]) == ([], ["beta"], 1, 2)
    assert 0 < good["lock_wait_seconds"] < good["seconds"]
    assert (good["retries"], good["backfill_rows"], good["wave"]) == ({}, 0, "first")
    assert (broken["error_revision"], broken["error_code"], broken["level"]) == ("beta", "42P07", "error")
    assert broken["signature"] in last["failures"]
    assert by_name["vanished"]["error"] == "vanished"
    assert [by_name[name]["attempts"] for name in ("skipped", "vanished", "late", "there")] == [0, 0, 0, 0]
    assert (last["strategy"], last["created_by"], last["goal"], last["to"]) == (
        "careful",
        "user:anna",
        "head",
        ["beta"],
    )
    assert (last["outcome"], last["level"]) == ("aborted", "warning")


async def test_what_is_tried_again_ends_once_and_what_a_person_retries_ends_again(
    pg: Server, make_databases: MakeDatabases, project: Track, log: Log
) -> None:
    databases = await make_databases(2)
    registry = engine.registry_of([project], [engine.shard_of(pg)], engine.targets_of(databases))
    await _break(pg, databases[1])
    await engine.execute(pg, databases[1], "DROP TABLE beta", "CREATE TABLE alpha (id int)")
    await engine.provision(pg, databases[0])
    async with engine.running(registry) as running:
        async with engine.locked_table(pg, databases[0], "alembic_version"):
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: bool(running.of(MigrationRetried)))
        with anyio.fail_after(120):
            await running.service.finished(view.rollout.id)
        await _equal(log, running, view.rollout.id)
        (waited,) = log.lines("migration_finished", tenant="t000")
        assert (waited["outcome"], waited["attempts"] > 1) == ("succeeded", True)
        assert waited["retries"] == {"contention": waited["attempts"] - 1}
        assert len(log.lines("migration_retried", level="info")) == waited["attempts"] - 1
        await engine.execute(pg, databases[1], "DROP TABLE alpha")
        await running.service.retry(view.rollout.id, by="anna")
        await running.service.finished(view.rollout.id)
    assert [end["outcome"] for end in log.lines("migration_finished", tenant="t001")] == ["failed", "succeeded"]
    assert len(log.lines("migration_finished", tenant="t000")) == 1
    ends = log.lines("rollout_finished")
    assert [(end["outcome"], end["level"]) for end in ends] == [("failed", "error"), ("succeeded", "info")]
    assert ends[-1]["failures"] == {}


async def test_a_rollout_that_succeeds_says_about_one_thing_of_each_target_and_wants_nobody(
    pg: Server, make_databases: MakeDatabases, project: Track, log: Log
) -> None:
    databases = await make_databases(24)
    track = replace(project, execution="auto")
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.rollout.state is RolloutState.SUCCEEDED
    told = Counter(line["event"] for line in log.lines())
    assert told["migration_finished"] == 24
    assert told.total() - 24 <= 12, told
    assert [line for line in log.lines() if line["level"] not in ("debug", "info")] == []


async def test_a_daemon_that_was_killed_tells_each_end_once(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    databases = await make_databases(5)
    content: dict[str, object] = {"config": "project/alembic.ini"}
    config, environ = write_registry(tmp_path, pg, databases, {"app": content})
    daemon = Daemon(config, f"sqlite:///{tmp_path}/store.db", environ)

    def ends(name: str) -> list[dict[str, Any]]:
        return [line for line in daemon.log if line["event"] == name]

    async with engine.held_target(pg, databases[0]):
        await daemon.start()
        rollout = (await daemon.post_rollout()).json()["id"]
        await until(lambda: len(ends("migration_finished")) == 4)
        daemon.kill()
        await daemon.start()
        assert len(ends("rollout_finished")) == 0
    after = await daemon.ended(rollout)
    await daemon.stop()
    assert Counter(end["tenant"] for end in ends("migration_finished")).total() == len(databases)
    assert len({end["tenant"] for end in ends("migration_finished")}) == len(databases)
    (last,) = ends("rollout_finished")
    assert last["counts"] == {state: n for state, n in after["counts"].items() if n}
    assert last["outcome"] == after["state"] == "succeeded"
