"""What earlier rollouts took, from a store, as it is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.execute.predictions import KEPT, Predictions, Stretch
from orchestrator.rollout.state import Migration, MigrationState, RolloutState
from orchestrator.service import predicting
from orchestrator.store import durations
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import START, a_rollout, changed, created, migrations_of

WAY = Stretch("app", "pg-1", ("a1",), ("b2",))
WINDOWS: Any = SimpleNamespace(windows={"nights": None})


async def ran(store: Store, name: str, total: int, seconds: float, minutes: int, execution: str | None = None) -> None:
    """A rollout whose migrations took so long each, and is over."""
    rollout = a_rollout(name, total, minutes=minutes)
    await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
    done = [replace(_took(one, seconds, minutes), execution=execution) for one in migrations_of(rollout)]
    await store.ledger.save_migrations(done)
    over = replace(rollout, state=RolloutState.SUCCEEDED)
    await store.ledger.save_rollout(over, changed(over))


def _took(migration: Migration, seconds: float, minutes: int) -> Migration:
    begun = START + timedelta(minutes=minutes)
    done = replace(migration, state=MigrationState.SUCCEEDED, attempts=1, from_heads=WAY.begin, to_heads=WAY.end)
    return replace(done, started_at=begun, finished_at=begun + timedelta(seconds=seconds))


async def test_the_newest_of_several_rollouts_count_and_what_was_noted_live_counts_once(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'control.db'}") as store:
        await ran(store, "r3", KEPT, 1.0, minutes=0)  # the ids say nothing of the order
        await ran(store, "r2", KEPT // 2, 20.0, minutes=10)
        await ran(store, "r1", KEPT // 2 - 5, 30.0, minutes=20)
        parts: Any = SimpleNamespace(store=store, predictions=Predictions())
        for _ in range(KEPT // 2 - 5):
            parts.predictions.note(WAY, 30.0)
        await predicting.prime(parts, WINDOWS, ["app"])
    taken = [*parts.predictions._taken[WAY]]
    assert taken == [1.0] * 5 + [20.0] * (KEPT // 2) + [30.0] * (KEPT // 2 - 5)


async def test_only_the_last_rollouts_of_the_track_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "ROLLOUTS", 2, raising=False)
    async with open_store(f"sqlite:///{tmp_path / 'control.db'}") as store:
        for number in range(3):
            await ran(store, f"r{number}", 1, number + 1.0, minutes=10 * number)
        assert [took.seconds for took in await store.durations.latest("app")] == [3.0, 2.0]
        assert await store.durations.latest("other") == []


async def test_what_had_a_backfill_tells_nothing_of_others(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'control.db'}") as store:
        await ran(store, "r1", 1, 3.0, minutes=0)
        await ran(store, "r2", 1, 86_400.0, minutes=10, execution="backfill")
        await ran(store, "r3", 1, 2.0, minutes=20, execution="online")
        assert [took.seconds for took in await store.durations.latest("app")] == [2.0, 3.0]


async def test_a_store_that_gives_no_answer_is_asked_again() -> None:
    async def latest(track: str) -> None:
        raise StoreError("gone")

    store = SimpleNamespace(durations=SimpleNamespace(latest=latest))
    parts: Any = SimpleNamespace(store=store, predictions=Predictions())
    with pytest.raises(StoreError):
        await predicting.prime(parts, WINDOWS, ["app"])
    assert not parts.predictions.primed
