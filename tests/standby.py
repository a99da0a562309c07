"""A primary and a streaming standby of it, both of the test's own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from orchestrator.databases.binaries import NOBODY
from orchestrator.databases.embedded import EmbeddedServer, scratch
from tests.engine import execute, fetch, until

NAME = "sidekick"


@dataclass(frozen=True)
class Pair:
    primary: EmbeddedServer
    standby: EmbeddedServer

    async def pause(self) -> None:
        """The standby receives what comes, and replays nothing of it."""
        await execute(self.standby, "postgres", "SELECT pg_wal_replay_pause()")

        async def paused() -> bool:
            ((state,),) = await fetch(self.standby, "postgres", "SELECT pg_is_wal_replay_paused()")
            return bool(state)

        await until(paused)

    async def resume(self) -> None:
        await execute(self.standby, "postgres", "SELECT pg_wal_replay_resume()")

    async def caught_up(self) -> None:
        """Wait until the standby has replayed all that was written until now."""
        ((written,),) = await fetch(self.primary, "postgres", "SELECT pg_current_wal_lsn()::text")

        async def there() -> bool:
            question = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)"
            ((reached,),) = await fetch(self.standby, "postgres", question, written)
            return bool(reached)

        await until(there)


@asynccontextmanager
async def pair(settings: Mapping[str, str] | None = None) -> AsyncIterator[Pair]:
    """The standby is known to the primary as `NAME`; `settings` are the primary's."""
    home = Path(tempfile.mkdtemp(prefix="standby-", dir=scratch()))
    os.chmod(home, 0o755)
    try:
        async with EmbeddedServer(home / "primary", name="primary", settings=settings) as primary:
            await primary.stop()  # its files are whole now, whatever programs this machine has for backups
            await anyio.to_thread.run_sync(_copy, home / "primary", home / "standby")
            await primary.start()
            secret = urlsplit(primary.url("postgres"))
            source = f"host={primary.host} port={primary.port} user={secret.username} password={secret.password}"
            reports = {
                **(settings or {}),
                "primary_conninfo": f"{source} application_name={NAME}",
                "wal_receiver_status_interval": "1s",
            }
            async with EmbeddedServer(home / "standby", name="standby", settings=reports) as standby:
                pair = Pair(primary, standby)

                async def streams() -> bool:
                    question = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
                    return bool(await fetch(primary, "postgres", question))

                await until(streams)
                yield pair
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(shutil.rmtree, home, True)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("server.log", "postgresql"))
    (target / "data" / "standby.signal").touch()
    (target / "data").chmod(0o700)
    if os.geteuid() == 0:
        for folder, _, files in os.walk(target):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, NOBODY, NOBODY)
