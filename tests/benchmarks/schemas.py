"""A schema per tenant in one database, against a database per tenant, and against looking at them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.registry.model import Execution, Target, Track
from tests import engine
from tests.servers import drop_databases

IN_FLIGHT = 8
PAIRS = 5


@dataclass(frozen=True)
class Looked:
    """Medians in seconds of a look at all schemas and of a rollout with nothing to do; sessions that a look took."""

    status: float
    noop: float
    sessions: int


async def look(server: EmbeddedServer, folder: Path, config: Path, head: str, schemas: int) -> Looked:
    await create_databases(server, ["schemas_looked"])
    names = [f"Tenant {number}" for number in range(schemas)]
    for start in range(0, schemas, 200):
        made = "; ".join(
            f'CREATE SCHEMA "{name}"; CREATE TABLE "{name}".alembic_version (version_num varchar(32) PRIMARY KEY);'
            f"INSERT INTO \"{name}\".alembic_version VALUES ('{head}')"
            for name in names[start : start + 200]
        )
        await engine.execute(server, "schemas_looked", made)
    registry = engine.registry_of(
        [Track("app", config=config)], [engine.shard_of(server)], _targets("schemas_looked", names)
    )
    looks, rollouts = [], []
    async with engine.running(registry, store_url=f"sqlite:///{folder}/schemas_looked.db") as running:
        await running.service.survey.once()
        before = await _sessions(server, "schemas_looked")
        await running.service.survey.once()
        sessions = await _sessions(server, "schemas_looked") - before
        for _ in range(PAIRS):
            began = time.perf_counter()
            await running.service.survey.once()
            looks.append(time.perf_counter() - began)
            assert {view.state.value for view in running.service.targets()} == {"up_to_date"}
            began = time.perf_counter()
            view = await running.rollout()
            rollouts.append(time.perf_counter() - began)
            assert view.counts == {"up_to_date": schemas}
    await drop_databases(server, ["schemas_looked"])
    return Looked(statistics.median(looks), statistics.median(rollouts), sessions)


@dataclass(frozen=True)
class Rolled:
    """Seconds for all targets: schemas of one database, and databases."""

    schemas: float
    databases: float


async def roll(server: EmbeddedServer, folder: Path, config: Path, targets: int, execution: Execution) -> Rolled:
    """Databases, schemas, databases again: the mean meets a machine that drifts half way."""
    track = Track("app", config=config, execution=execution)
    seconds = []
    for number in range(3):
        names = [f"rolled_{number}_{n:04}" for n in range(targets)]
        databases = names if number != 1 else ["schemas_rolled"]
        await create_databases(server, databases)
        placed = engine.targets_of(names) if number != 1 else _targets("schemas_rolled", names)
        registry = engine.registry_of([track], [engine.shard_of(server, max_concurrent=IN_FLIGHT)], placed)
        async with engine.running(registry, store_url=f"sqlite:///{folder}/{execution}_{number}.db") as running:
            await running.service.survey.once()
            began = time.perf_counter()
            view = await running.rollout()
            seconds.append(time.perf_counter() - began)
        assert view.counts == {"succeeded": targets}, view.failures
        await drop_databases(server, databases)
    return Rolled(seconds[1], (seconds[0] + seconds[2]) / 2)


def _targets(database: str, schemas: Sequence[str]) -> list[Target]:
    return [
        Target(f"t{number:04}", "app", "pg", database, schema=schema, create_schema=True)
        for number, schema in enumerate(schemas)
    ]


async def _sessions(server: EmbeddedServer, database: str) -> int:
    """Sessions there were in a database since it was made; those that have just ended are counted a moment later."""
    question = "SELECT pg_stat_clear_snapshot(), sessions FROM pg_stat_database WHERE datname = $1"
    seen = -1
    while True:
        [(_, sessions)] = await engine.fetch(server, "postgres", question, database)
        if sessions == seen:
            return int(sessions)
        seen = sessions
        await anyio.sleep(1.1)
