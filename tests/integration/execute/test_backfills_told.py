"""What the store says of backfills agrees with the targets, however the process that ran them has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from orchestrator.backfill.records import Record
from orchestrator.databases.embedded import Server
from orchestrator.events import BackfillFinished, MigrationFinished
from orchestrator.registry.backfills import Rules
from orchestrator.registry.model import Registry
from orchestrator.registry.source import RegistrySource
from orchestrator.service.daemon import working
from orchestrator.service.leading import standing
from orchestrator.service.wiring import Parts, assembled
from orchestrator.settings import load as load_settings
from orchestrator.store.backfills import StoreBackfills
from orchestrator.store.engine import open_store
from tests import engine, environments
from tests.engine import FixedSource, until
from tests.servers import MakeDatabases
from tests.workers import SharedWorkers

ROWS = 1_000
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i")
"""
FILL = 'op.backfill("t", set_={"n": "n + 1"}, batch_size=100)'
SLOWLY = Rules(rows_per_second=200.0, batch_size=20)
CHECKPOINT = "SELECT rows_seen, rows_changed, state FROM alembic_version_backfills"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    config = environments.make_project(folder)
    environments.use_transaction_per_migration(folder)
    environments.add_revision(folder, "alpha", None, CREATE)
    environments.add_revision(folder, "delta", "alpha", FILL)
    return config


def _registry(config: Path, pg: Server, databases: Sequence[str], rules: Rules | None = None) -> Registry:
    shard = engine.shard_of(pg) if rules is None else engine.shard_of(pg, backfill=rules)
    return engine.registry_of([environments.track_of(config)], [shard], engine.targets_of(databases))


@asynccontextmanager
async def _leading(registry: Registry, store: str) -> AsyncIterator[engine.Engine]:
    """A leader that is asked to stop when the block ends, as a daemon is."""
    source, chosen = FixedSource(registry), load_settings(store_url=store)
    async with (
        assembled(chosen, cast(RegistrySource, source), SharedWorkers()) as parts,
        standing(parts) as candidate,
    ):
        assert candidate is not None
        await candidate.elected.wait()
        async with working(parts, chosen) as service:
            yield engine.Engine(service, parts, source)
        await candidate.release()


async def _kept(store: str) -> Sequence[Record]:
    async with open_store(store) as opened:
        return await opened.backfills.records.listed()


async def test_a_leader_that_stops_writes_how_its_backfills_have_ended_before_it_gives_the_lead_back(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    databases, [store] = await make_databases(1), await make_databases(1, "store")
    async with _leading(_registry(project, pg, databases, SLOWLY), pg.url(store)) as running:
        await running.service.start_rollout(engine.head())
        throttle = running.parts.throttle
        await until(lambda: any(one.progress.seen for one in throttle.underway()))
        await running.parts.keeper.flush()
    [kept] = await _kept(pg.url(store))
    [(seen, changed, _)] = await engine.fetch(pg, databases[0], CHECKPOINT)
    assert 0 < seen < ROWS
    assert (kept.state, kept.view.progress.seen, kept.view.progress.changed) == ("stopped", seen, changed)


def _killed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From now on nothing of backfills is written, as of a process that is killed; returns what undoes it."""
    save = StoreBackfills.save

    async def lost(*_: Any) -> None:
        pass

    monkeypatch.setattr(StoreBackfills, "save", lost)
    return lambda: monkeypatch.setattr(StoreBackfills, "save", save)


async def _at(pg: Server, database: str, revision: str) -> bool:
    return await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [(revision,)]


async def _cut_short(
    pg: Server,
    database: str,
    project: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    foreground: bool = False,
) -> tuple[Registry, str]:
    """A rollout whose process is killed in the revision after a backfill, of whose end it had not told."""
    environments.add_revision(project.parent, "zeta", "delta", 'op.execute("SELECT * FROM held")')
    await engine.execute(pg, database, "CREATE TABLE held (id int)")
    await engine.provision(pg, database)
    registry = _registry(project, pg, [database])
    async with engine.locked_table(pg, database, "held"):
        async with engine.running(registry, store_url=store, shutdown_grace_seconds=0) as running:
            monkeypatch.setattr(running.parts.throttle._around, "kept", anyio.lowlevel.checkpoint)
            view, _ = await running.service.start_rollout(engine.head(foreground=foreground))
            await until(lambda: bool(running.parts.throttle.underway()))
            await running.parts.keeper.flush()
            survive = _killed(monkeypatch)
            await until(lambda: _at(pg, database, "delta"))
        survive()
    return registry, view.rollout.id


async def test_a_backfill_whose_end_was_not_written_is_known_as_finished_after_the_restart(
    pg: Server,
    make_databases: MakeDatabases,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its revision is in the version table when the next process looks, so that nothing runs it again."""
    [database], store = await make_databases(1), f"sqlite:///{tmp_path}/store.db"
    registry, rollout = await _cut_short(pg, database, project, store, monkeypatch)
    async with engine.running(registry, store_url=store) as running:
        await running.service.resume_active()
        with anyio.fail_after(90):
            await running.service.finished(rollout)
        [kept] = await running.service.backfills.listed()
        assert (kept.state, kept.view.progress.seen, kept.view.progress.changed) == ("finished", ROWS, ROWS)
        [sums] = await running.service.backfills.sums({"rollout": rollout})
        assert (sums.states, sums.changed, sums.ratio) == ({"finished": 1}, ROWS, 1.0)
        [told] = running.of(BackfillFinished)
        assert 0 < told.rows <= ROWS, "rows that nobody was told of count now"
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.execution) == ("succeeded", "backfill")
        stored = await running.service.events(rollout)
        names = [event.name for event in stored]
        assert names.index("BackfillFinished") < names.index("MigrationFinished")
        assert running.parts.keeper._left == {}, "the rollout has ended"


@pytest.mark.parametrize("foreground", [False, True], ids=["aborted at once", "its terminal is gone"])
async def test_what_is_not_tried_again_is_told_as_its_target_has_it(
    pg: Server,
    make_databases: MakeDatabases,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    foreground: bool,
) -> None:
    [database], store = await make_databases(1), f"sqlite:///{tmp_path}/store.db"
    registry, rollout = await _cut_short(pg, database, project, store, monkeypatch, foreground=foreground)
    async with engine.running(registry, store_url=store) as running:
        await running.service.resume_active()
        if not foreground:
            await running.service.abort(rollout, by="test")
            with anyio.fail_after(90):
                await running.service.finished(rollout)
        [kept] = await running.service.backfills.listed()
        assert (kept.state, kept.view.progress.seen, kept.view.progress.changed) == ("finished", ROWS, ROWS)
        [sums] = await running.service.backfills.sums({"rollout": rollout})
        assert (sums.states, sums.changed, sums.ratio) == ({"finished": 1}, ROWS, 1.0)
        [done] = await running.service.migrations(rollout)
        assert (done.state, done.to_heads, done.execution) == ("cancelled", ("delta",), "backfill")
        assert done.failure is not None
        assert "its version table holds delta" in done.failure.message
        [told] = running.of(MigrationFinished)
        assert (told.to_heads, told.backfill_rows) == (("delta",), ROWS)
        names = [event.name for event in await running.service.events(rollout)]
        assert names.index("BackfillFinished") < names.index("MigrationFinished")

        await running.service.retry(rollout, by="test")
        with anyio.fail_after(90):
            await running.service.finished(rollout)
        [done] = await running.service.migrations(rollout)
        assert (done.state, done.to_heads) == ("succeeded", ("zeta",))
        assert [(one.state, one.view.progress.changed) for one in await running.service.backfills.listed()] == [
            ("finished", ROWS)
        ]
        assert len(running.of(BackfillFinished)) == 1


async def test_what_cannot_be_read_is_told_as_not_known(
    pg: Server, make_databases: MakeDatabases, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [database], store = await make_databases(1), f"sqlite:///{tmp_path}/store.db"
    registry, rollout = await _cut_short(pg, database, project, store, monkeypatch)
    monkeypatch.setattr("orchestrator.execute.lookback.SECONDS", 3.0)
    settings: dict[str, Any] = {"store_url": store, "lock_wait_seconds": 0.1}
    async with engine.held_target(pg, database), engine.running(registry, **settings) as running:
        await running.service.resume_active()
        await running.service.abort(rollout, by="test")
        with anyio.fail_after(90):
            await running.service.finished(rollout)
        [done] = await running.service.migrations(rollout)
        assert (done.state, done.to_heads) == ("cancelled", None)
        assert done.failure is not None
        assert "what it has come to is not known: " in done.failure.message
        assert "somebody else" in done.failure.message


async def test_who_finds_a_migration_at_its_end_finds_its_backfills_so(
    pg: Server, make_databases: MakeDatabases, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the process a moment later."""
    [database], store = await make_databases(1), f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setattr("orchestrator.service.keeping.GATHER_SECONDS", 3600.0)
    async with engine.running(_registry(project, pg, [database]), store_url=store) as running:
        parts: Parts = running.parts
        view, _ = await running.service.start_rollout(engine.head())

        async def done() -> bool:
            return (await parts.store.ledger.counts(view.rollout.id)).get("succeeded") == 1  # type: ignore[call-overload, no-any-return]

        await until(done)
        [kept] = await parts.store.backfills.records.listed()
        assert (kept.state, kept.view.progress.changed) == ("finished", ROWS)
