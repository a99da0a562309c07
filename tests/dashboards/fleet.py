"""A fleet for pictures: forty-eight tenants on three servers, two histories, and what goes wrong with some."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import yaml

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from tests import engine, environments
from tests.daemon import Daemon

SHARDS = ("eu-1", "eu-2", "us-1")
TENANTS, CANARIES, EARLY = 48, 6, 12
STORE, STANDBY_LEASE = "store", 5.0
ROWS, ROWS_PER_SECOND, BUSY_SESSIONS = 30_000, 5_000, 14
ANALYTICS = range(0, 12)  # tenants that have a second history, which comes to its head
OFFENDING, AHEAD, GONE, LOCKED = (17, 23, 31), 26, 40, (8, 20, 33)
_SLEEPS = """
tenant = int(context.get_x_argument(as_dictionary=True)["tenant"].removeprefix("tenant-"))
op.execute(f"SELECT pg_sleep({0.5 + tenant * 7 % 10 / 4})")
"""


@dataclass(frozen=True)
class Fleet:
    servers: dict[str, EmbeddedServer]
    config: Path
    environ: dict[str, str]

    def daemon(self) -> Daemon:
        return Daemon(self.config, self.servers[SHARDS[0]].url(STORE), self.environ)


def shard_of(tenant: int) -> str:
    return SHARDS[tenant % len(SHARDS)]


def database_of(tenant: int) -> str:
    return f"tenant_{tenant:02}"


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Fleet]:
    """Servers with databases at the first revision, and a registry of them in `folder`."""
    _make_projects(folder)
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(EmbeddedServer(name=name)) for name in SHARDS}
        await create_databases(servers[SHARDS[0]], [STORE], None)
        async with anyio.create_task_group() as tasks:
            for name, server in servers.items():
                tasks.start_soon(_fill, server, [number for number in range(TENANTS) if shard_of(number) == name])
        config = folder / "tenants.yaml"
        config.write_text(yaml.safe_dump(_registry()))
        urls = {_variable(name): server.url("").rstrip("/") for name, server in servers.items()}
        yield Fleet(servers, config, {**urls, **_SETTINGS})


_SETTINGS = {
    "ORCHESTRATOR_METRICS_LAGGARDS": "8",
    "ORCHESTRATOR_LEASE_SECONDS": str(STANDBY_LEASE),
    "ORCHESTRATOR_SURVEY_SECONDS": "5",
    "ORCHESTRATOR_LOCK_TIMEOUT_SECONDS": "1",
}


def _variable(shard: str) -> str:
    return f"{shard.upper().replace('-', '_')}_URL"


def _make_projects(folder: Path) -> None:
    app, analytics = folder / "app", folder / "analytics"
    for project in (app, analytics):
        environments.make_project(project)
        environments.add_revision(project, "first", None, "pass")
    environments.add_revision(
        app,
        "priorities",
        "first",
        f'{_SLEEPS}\nop.add_column("tickets", sa.Column("priority", sa.Integer))\n'
        f"if tenant in {OFFENDING}:\n"
        "    op.execute(\"ALTER TABLE tickets ADD CONSTRAINT known CHECK (status <> 'lost')\")",
    )
    backfill = 'op.backfill("tickets", {"priority": "id % 5"}, batch_size=200)'
    environments.add_revision(app, "filled", "priorities", backfill)
    index = 'op.create_index("by_priority", "tickets", ["priority"])'
    environments.add_revision(app, "indexed", "filled", f"{_SLEEPS}\n{index}")
    table = 'op.create_table("cubes", sa.Column("id", sa.Integer))'
    environments.add_revision(analytics, "cubes", "first", f"{_SLEEPS}\n{table}")


async def _fill(server: EmbeddedServer, tenants: Sequence[int]) -> None:
    await create_databases(server, [database_of(tenant) for tenant in tenants], None)
    for tenant in tenants:
        at = "unheard_of" if tenant == AHEAD else "first"
        status = "lost" if tenant in OFFENDING else "open"
        await engine.execute(
            server,
            database_of(tenant),
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            f"INSERT INTO alembic_version VALUES ('{at}')",
            "CREATE TABLE alembic_version_analytics AS SELECT 'first'::varchar(32) AS version_num",
            f"CREATE TABLE tickets AS SELECT id, '{status}' AS status FROM generate_series(1, {ROWS}) AS id",
            "ALTER TABLE tickets ADD PRIMARY KEY (id)",
            "ANALYZE tickets",
        )


def _registry() -> dict[str, Any]:
    waves = [
        {"name": "canary", "select": "canary=true", "approval": True},
        {"name": "early", "count": EARLY},
        {"name": "everyone"},
    ]
    return {
        "tracks": {
            "app": {"config": "app/alembic.ini"},
            "analytics": {"config": "analytics/alembic.ini", "version_table": "alembic_version_analytics"},
        },
        "shards": {name: {"url": f"${{{_variable(name)}}}", "max_concurrent": 4} for name in SHARDS},
        "backfill": {
            "rows_per_second": ROWS_PER_SECOND,
            "target": "200ms",
            "signals": {"active_sessions": {"above": BUSY_SESSIONS, "below": BUSY_SESSIONS - 4}},
        },
        "tenants": [_tenant(number) for number in range(TENANTS)],
        "strategies": {
            "careful": {
                "max_concurrent": 12,
                "on_failure": {"max": 8, "same_signature": 0, "then": "pause"},
                "waves": waves,
            }
        },
        "schedules": {
            "nightly": {"cron": "0 2 * * *", "track": "app", "select": "tier=free"},
            "weekly": {"cron": "30 3 * * sun", "track": "analytics"},
        },
        "notifications": [{"name": "on-call", "command": ["/bin/true"], "on": ["approval_needed", "rollout_finished"]}],
    }


def _tenant(number: int) -> dict[str, Any]:
    tracks = ["app", "analytics"] if number in ANALYTICS else ["app"]
    return {
        "id": f"tenant-{number:02}",
        "labels": {"canary": str(number < CANARIES).lower(), "tier": "free" if number % 4 else "enterprise"},
        "databases": {track: {"shard": shard_of(number), "database": database_of(number)} for track in tracks},
    }
