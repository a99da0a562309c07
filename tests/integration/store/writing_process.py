"""A process for `test_crash`: writes through one ledger from many tasks and prints what it was told is durable."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import anyio

from orchestrator.rollout.ports import Ledger
from orchestrator.rollout.state import Migration, MigrationState
from orchestrator.store.engine import open_store
from tests.integration.store.samples import a_rollout, as_state, created, finished, migrations_of, started

TASKS = 20


async def write(ledger: Ledger, migrations: Iterator[Migration]) -> None:
    for migration in migrations:
        running = as_state(migration, MigrationState.RUNNING)
        await ledger.save_migration(running, started(running))
        ended = as_state(migration, MigrationState.SUCCEEDED)
        await ledger.save_migration(ended, finished(ended))
        sys.stdout.write(f"{migration.tenant}\n")
        sys.stdout.flush()


async def main(url: str) -> None:
    rollout = a_rollout(total=20_000)
    async with open_store(url) as store:
        await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
        left = iter(migrations_of(rollout))
        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(write, store.ledger, left)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
