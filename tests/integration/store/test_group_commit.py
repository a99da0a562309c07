"""Hundreds of tasks write at once: one writer, few transactions, nobody's failure or cancellation is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import Engine, event

from orchestrator.errors import NotFoundError, StateError, StoreError
from orchestrator.rollout.state import Migration, MigrationState, RolloutState
from orchestrator.store.connections import Connections
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import (
    Published,
    a_rollout,
    as_state,
    created,
    finished,
    migrations_of,
    run_sql,
    started,
)

WRITERS = 200


@pytest.fixture
def commits() -> Iterator[list[object]]:
    """Every commit of any engine."""
    seen: list[object] = []
    see = seen.append
    event.listen(Engine, "commit", see)
    yield seen
    event.remove(Engine, "commit", see)


@pytest.fixture
async def frozen(store: Store) -> list[Migration]:
    rollout = a_rollout(total=WRITERS)
    migrations = migrations_of(rollout)
    await store.ledger.create(rollout, migrations, created(rollout))
    return migrations


@asynccontextmanager
async def writes_held_up(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[anyio.Event]:
    """No transaction begins in the block before the event is set."""
    gate, write = anyio.Event(), Connections.write

    async def held_up(self: Connections, run: Any) -> Any:
        await gate.wait()
        return await write(self, run)

    with monkeypatch.context() as patch:
        patch.setattr(Connections, "write", held_up)
        yield gate


async def test_two_hundred_writers_share_a_few_transactions(
    store: Store, published: Published, frozen: list[Migration], commits: list[object]
) -> None:
    async def drive(migration: Migration) -> None:
        running = as_state(migration, MigrationState.RUNNING)
        await store.ledger.save_migration(running, started(running))
        ended = as_state(migration, MigrationState.SUCCEEDED)
        await store.ledger.save_migration(ended, finished(ended))

    async with anyio.create_task_group() as tasks:
        for migration in frozen:
            tasks.start_soon(drive, migration)

    assert len(commits) <= 10
    assert await store.ledger.counts("r1") == {MigrationState.SUCCEEDED: WRITERS}
    stored = await store.ledger.events("r1", limit=10_000)
    assert [e.sequence for e in stored] == published.sequences == list(range(1, 2 * WRITERS + 2))
    assert [e.name for e in stored] == [e.name for e, _ in published]


async def test_two_processes_that_write_at_once_share_the_numbers(
    store: Store, url: str, frozen: list[Migration]
) -> None:
    async def drive(through: Store, migrations: list[Migration]) -> None:
        for migration in migrations:
            await through.ledger.save_migration(as_state(migration, MigrationState.RUNNING), started(migration))

    async with open_store(url) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(drive, store, frozen[::2])
        tasks.start_soon(drive, other, frozen[1::2])
    stored = await store.ledger.events("r1", limit=10_000)
    assert [e.sequence for e in stored] == list(range(1, WRITERS + 2))


async def test_a_caller_returns_only_when_its_change_is_committed(
    store: Store, url: str, frozen: list[Migration]
) -> None:
    async def drive(migration: Migration) -> None:
        await store.ledger.save_migration(as_state(migration, MigrationState.SUCCEEDED))
        rows = await run_sql(url, f"SELECT state FROM migrations WHERE tenant = '{migration.tenant}'")
        assert rows == [("succeeded",)]

    async with anyio.create_task_group() as tasks:
        for migration in frozen[:20]:
            tasks.start_soon(drive, migration)


async def test_two_changes_of_one_migration_keep_their_order(
    store: Store, frozen: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [MigrationState.RUNNING, MigrationState.FAILED, MigrationState.PENDING, MigrationState.SUCCEEDED]
    async with writes_held_up(monkeypatch) as gate, anyio.create_task_group() as tasks:
        for state in states:
            change = as_state(frozen[0], state)
            tasks.start_soon(store.ledger.save_migration, change, finished(change))
            await anyio.wait_all_tasks_blocked()
        gate.set()
    [stored] = await store.ledger.migrations("r1", limit=1)
    assert stored.state is MigrationState.SUCCEEDED
    told = [e.data["outcome"] for e in await store.ledger.events("r1", after=1)]
    assert told == [str(state) for state in states]


async def test_a_cancelled_caller_leaves_the_others_and_the_numbers_whole(
    store: Store, published: Published, frozen: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[int] = []

    async def drive(migration: Migration, scope: anyio.CancelScope) -> None:
        with scope:
            await store.ledger.save_migration(as_state(migration, MigrationState.RUNNING), started(migration))
            returned.append(migration.position)

    scopes = [anyio.CancelScope() for _ in frozen]
    async with writes_held_up(monkeypatch) as gate, anyio.create_task_group() as tasks:
        for migration, scope in zip(frozen, scopes, strict=True):
            tasks.start_soon(drive, migration, scope)
        await anyio.wait_all_tasks_blocked()
        for scope in scopes[::2]:
            scope.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.set()

    assert sorted(returned) == list(range(1, WRITERS, 2))
    # What was handed over is written, also when its caller no longer waits.
    assert await store.ledger.counts("r1") == {MigrationState.RUNNING: WRITERS}
    assert published.sequences == list(range(1, WRITERS + 2))


async def test_a_refused_change_does_not_take_others_with_it(
    store: Store, published: Published, frozen: list[Migration]
) -> None:
    over = a_rollout("over", total=1, state=RolloutState.ABORTED)
    [old] = [as_state(migration, MigrationState.SKIPPED) for migration in migrations_of(over)]
    await store.ledger.create(over, [old], created(over))
    stranger = migrations_of(a_rollout("r1", total=1), prefix="stranger")[0]
    refused: list[type[Exception]] = []

    async def drive(migration: Migration) -> None:
        try:
            await store.ledger.save_migration(as_state(migration, MigrationState.RUNNING), started(migration))
        except (NotFoundError, StateError) as exc:
            refused.append(type(exc))

    async with anyio.create_task_group() as tasks:
        for migration in (*frozen[:5], old, stranger, *frozen[5:]):
            tasks.start_soon(drive, migration)

    assert refused == [StateError, NotFoundError]
    assert await store.ledger.counts("r1") == {MigrationState.RUNNING: WRITERS}
    assert [sequence for e, sequence in published if e.name == "MigrationStarted"] == list(range(2, WRITERS + 2))


async def test_a_failed_transaction_fails_all_its_callers_and_nobody_after(
    store: Store, url: str, published: Published, frozen: list[Migration], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[StoreError] = []

    async def drive(migration: Migration) -> None:
        try:
            await store.ledger.save_migration(as_state(migration, MigrationState.RUNNING), started(migration))
        except StoreError as exc:
            failed.append(exc)

    await run_sql(url, "ALTER TABLE events RENAME TO hidden")
    async with writes_held_up(monkeypatch) as gate, anyio.create_task_group() as tasks:
        for migration in frozen:
            tasks.start_soon(drive, migration)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert len(failed) == WRITERS
    assert len({id(exc) for exc in failed}) == WRITERS
    assert published.sequences == [1]

    await run_sql(url, "ALTER TABLE hidden RENAME TO events")
    assert await store.ledger.counts("r1") == {MigrationState.PENDING: WRITERS}
    await drive(frozen[0])
    assert len(failed) == WRITERS
    assert published.sequences == [1, 2]


async def test_what_waits_is_written_when_the_store_closes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = a_rollout(total=20)
    async with writes_held_up(monkeypatch) as gate, anyio.create_task_group() as tasks:
        gate.set()
        async with open_store(url) as store:
            await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
            for migration in migrations_of(rollout):
                tasks.start_soon(store.ledger.save_migration, as_state(migration, MigrationState.RUNNING))
            await anyio.lowlevel.checkpoint()
    async with open_store(url) as store:
        assert await store.ledger.counts("r1") == {MigrationState.RUNNING: 20}


async def test_a_change_can_be_recorded_while_everything_is_being_cancelled(url: str) -> None:
    rollout = a_rollout(total=1)
    [migration] = migrations_of(rollout)
    with anyio.CancelScope() as everything:
        async with open_store(url) as store:
            await store.ledger.create(rollout, [migration], created(rollout))
            everything.cancel()
            with anyio.CancelScope(shield=True):
                await store.ledger.save_migration(as_state(migration, MigrationState.CANCELLED))
    async with open_store(url) as store:
        assert await store.ledger.counts("r1") == {MigrationState.CANCELLED: 1}


async def test_a_store_that_no_longer_answers_fails_its_callers_when_closed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.writer.CLOSE_SECONDS", 0.05)
    failed: list[StoreError] = []
    rollout = a_rollout(total=1)

    async def create(store: Store) -> None:
        try:
            await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
        except StoreError as exc:
            failed.append(exc)

    async with anyio.create_task_group() as tasks, open_store(url) as store, writes_held_up(monkeypatch):
        for _ in range(3):
            tasks.start_soon(create, store)
        await anyio.wait_all_tasks_blocked()
    with pytest.raises(StoreError, match="closed"):
        await store.ledger.create(rollout, [], created(rollout))
    assert [exc.message for exc in failed] == ["the store was closed before the change was written"] * 3


async def test_a_subscriber_that_fails_does_not_fail_the_change(url: str) -> None:
    def publish(_event: object, _sequence: int | None) -> None:
        raise RuntimeError("a bug of the subscriber")

    rollout = a_rollout(total=1)
    async with open_store(url, publish) as store:
        await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
        assert await store.ledger.rollout("r1") == rollout


async def test_a_cancelled_reader_leaves_no_connection_behind(store: Store, frozen: list[Migration]) -> None:
    for seconds in (0.0, 0.0005, 0.001, 0.002):
        with anyio.move_on_after(seconds):
            await store.ledger.migrations("r1")
    assert await store.ledger.migrations("r1") == frozen
