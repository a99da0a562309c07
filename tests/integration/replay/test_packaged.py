"""Histories that others wrote, step by step: where a step is SQL, replay and env.py come to the same."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest

from orchestrator.databases import fingerprint, scripts
from orchestrator.databases.embedded import Server
from orchestrator.databases.quoting import literal, quoted
from orchestrator.events import MigrationFinished, ReplayRefused
from orchestrator.execute import render
from orchestrator.history.jobs import CompileJob
from orchestrator.plan import statements
from orchestrator.plan.compiled import Rendering, agreed
from orchestrator.plan.steps import Plan, Planner
from orchestrator.registry.model import Registry, Target, Track
from tests import engine
from tests.integration.foreign import fleets
from tests.integration.foreign.packaged import HISTORIES, Packaged
from tests.integration.replay import sowing
from tests.servers import MakeDatabases
from tests.workers import SharedWorkers

# Of now(), and of `int(time.time() * 1000)`, which differ.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+|\b1[789]\d{11}\b")
# What env.py runs of each, and why; all else is replayed.
ONLY = (
    CATCHES := "it catches errors",
    TIME := "it reads something outside of its database (`time`",
    INSPECTS := "it asks the connection for an answer: inspect()",
    SESSION := "it asks the connection for an answer: connect",
    NOTHING := "it sends no SQL",
)
ONLINE = {
    "optuna": dict.fromkeys(("v1.3.0.a", "v2.4.0.a", "v3.0.0.a", "v3.0.0.b", "v3.0.0.c", "v3.0.0.d"), CATCHES),
    "mlflow": {
        "90e64c465722": SESSION,
        "c48cb773bb87": NOTHING,
        **dict.fromkeys(("3500859a5d39", "0584bdc529eb"), INSPECTS),
        **dict.fromkeys(("0a8213491aaa", "4465047574b1", "1b5f0d9ad7c1", "75868b020152"), CATCHES),
        **dict.fromkeys(("89d4b8295536", "2b4d017a5e9b", "bf29a5ff90ea", "1bd49d398cd23", "dc11669786a5"), TIME),
    },
}
REPLAYED = {"optuna": "4 of 10", "mlflow": "54 of 67"}
# So many tables have rows before a step goes over them.
SOWN = {"optuna": 9, "mlflow": 40}
# Columns whose text has a form that revisions read.
FORMS = {
    "optuna": {"distribution_json": """'{"name": "UniformDistribution", "attributes": {"low": 0.0, "high": 9.0}}'"""},
    "mlflow": {},
}
# SQL before a step that nobody can run by itself: Alembic makes a type once in a run, and this one is made by v0.9.0.a.
AHEAD = {"v2.4.0.a": "ALTER TYPE studydirection RENAME TO direction_of_studies"}
# A statement of each history's first step, for the test of the test.
LOST = {"optuna": "CREATE UNIQUE INDEX", "mlflow": "ADD CONSTRAINT metric_pk"}


class Walking(SharedWorkers):
    """Workers for who goes along a history: they stay, as importing an application takes far longer than running a
    revision, and what they have rendered is at hand from then on, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self._rendered: dict[tuple[str, str], Rendering] = {}

    def compile(self, job: CompileJob) -> Rendering:
        if len(job.plan.steps) > 1 or (job.tenant, job.plan.steps[0]) not in self._rendered:
            found = super().compile(job)
            self._rendered |= {(job.tenant, step.revision): replace(found, steps=(step,)) for step in found.steps}
            return found
        return self._rendered[job.tenant, job.plan.steps[0]]

    def retire(self, track: str | None = None) -> None:
        pass

    def reason(self, revision: str) -> str | None:
        """Why the step has to run online."""
        one, other = (self._rendered[tenant, revision] for tenant in ("two", "other"))
        return agreed(one, other).steps[0].reason


@dataclass
class Walked:
    """`online`: reasons by revision; `differ`: after which one the databases were unlike."""

    replayed: list[str] = field(default_factory=list)
    online: dict[str, str | None] = field(default_factory=dict)
    rows: set[str] = field(default_factory=set)
    differ: str | None = None


async def walk(name: str, pg: Server, databases: list[str]) -> Walked:
    """Bring both databases to head step by step, the first by env.py, until they differ."""
    history = HISTORIES[name]
    if history.prepare:
        urls = [fleets.with_driver(pg.url(database), "postgresql+psycopg") for database in databases]
        await fleets.prepare_all(history.prepare, urls)
    known = registry(history, pg, databases)
    workers, walked = Walking(), Walked()
    async with (
        connected(pg, databases[0]) as online,
        connected(pg, databases[1]) as replayed,
        engine.running(known, workers) as running,
    ):
        for revision in await rendered(running, workers, known):
            await sow_both(online, replayed, FORMS[name], walked)
            if ahead := AHEAD.get(revision):
                for connection in (online, replayed):
                    await connection.execute(ahead)
            for track, tenant in (("online", "one"), ("replay", "two")):
                view = await running.rollout(revision, track=track, select=f"tenant={tenant}")
                assert view.counts == {"succeeded": 1}, (revision, [group.example for group in view.failures])
            if running.of(MigrationFinished)[-1].execution == "replay":
                walked.replayed.append(revision)
            else:
                walked.online[revision] = workers.reason(revision)
            if await content(online) != await content(replayed):
                walked.differ = revision
                break
        assert not running.of(ReplayRefused)
    return walked


async def rendered(running: engine.Engine, workers: Walking, known: Registry) -> tuple[str, ...]:
    """Have all steps rendered before the first, in one go, or in the soak each for itself, as it always is; the steps.

    It comes to the same, as no step that is SQL makes a type that another makes: Alembic makes it once in a run.
    """
    history = await running.parts.histories.current(known, known.tracks["replay"])
    whole = Planner(history, history.resolve("head")).plan(None)
    plans = [whole]
    if os.environ.get("SOAK"):
        before = [(), *((step,) for step in whole.steps)]
        plans = [
            Plan(heads, (step,), "upgrade", (step,), provisioned=bool(heads))
            for heads, step in zip(before, whole.steps, strict=False)
        ]
    for plan in plans:
        await render.render_plan(workers, known, known.targets[1], history, plan)
    return whole.steps


def registry(history: Packaged, pg: Server, databases: list[str]) -> Registry:
    """A second tenant of the replayed track, which is never migrated, is there to compile for."""
    tracks = [
        Track("online", script_location=history.folder, execution="online"),
        Track("replay", script_location=history.folder, execution="replay"),
    ]
    adopt = "base" if history.prepare else None
    targets = [
        Target("one", "online", "pg", databases[0], adopt=adopt),
        Target("two", "replay", "pg", databases[1], adopt=adopt),
        Target("other", "replay", "pg", "not there"),
    ]
    return engine.registry_of(tracks, [engine.shard_of(pg)], targets)


@asynccontextmanager
async def connected(pg: Server, database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(pg.url(database), statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def sow_both(
    one: asyncpg.Connection[Any], other: asyncpg.Connection[Any], forms: dict[str, str], walked: Walked
) -> None:
    """Give the same rows to the tables of both that have none."""
    sown = await sowing.sow(one, forms)
    for statement in sown:
        await other.execute(statement)
    walked.rows |= {statement.split()[2] for statement in sown}


async def content(connection: asyncpg.Connection[Any]) -> tuple[Any, ...]:
    """Schema, heads and rows."""
    lines = [row[0] for row in await connection.fetch(fingerprint.query(None))]
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
    )
    queries = [f"SELECT {literal(name)} || t::text FROM {quoted(name)} t" for (name,) in tables]
    rows = sorted(MOMENT.sub("<now>", row[0]) for row in await connection.fetch(" UNION ALL ".join(queries)))
    return fingerprint.normalised(lines, "alembic_version", None), rows


@pytest.mark.soak
@pytest.mark.parametrize("name", HISTORIES)
async def test_each_step_comes_to_the_same(name: str, pg: Server, make_databases: MakeDatabases) -> None:
    walked = await walk(name, pg, await make_databases(2))
    assert walked.differ is None
    assert {revision: told_apart(reason) for revision, reason in walked.online.items()} == ONLINE[name]
    assert f"{len(walked.replayed)} of {len(walked.replayed) + len(walked.online)}" == REPLAYED[name]
    assert len(walked.rows) >= SOWN[name], walked.rows


def told_apart(reason: str | None) -> str | None:
    """The reason of `ONLINE` that this one is."""
    return next((known for known in ONLY if known in (reason or "")), reason)


@pytest.mark.parametrize("name", HISTORIES)
async def test_one_lost_statement_is_noticed(
    name: str,
    pg: Server,
    make_databases: MakeDatabases,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The test of the test: one statement of all is not sent."""
    terminated = statements.terminated
    lost: list[str] = []

    def losing(sql: str) -> str:
        if LOST[name] in sql and not lost:
            lost.append(sql)
            return ";"
        return terminated(sql)

    monkeypatch.setattr(scripts, "terminated", losing)
    scripts.messages.cache_clear()
    request.addfinalizer(scripts.messages.cache_clear)
    walked = await walk(name, pg, await make_databases(2))
    assert lost
    assert walked.replayed == [walked.differ]
