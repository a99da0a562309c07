"""Since when targets and rollouts are as they are, on both kinds of store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from orchestrator.events import WaveChanged
from orchestrator.registry.model import TargetKey
from orchestrator.rollout.state import MigrationState, RolloutState
from orchestrator.store.engine import Store
from tests.integration.store.samples import START, a_rollout, as_state, changed, created, migrations_of

AFTER = START + timedelta(hours=1)
ACME, BETA, OTHER = TargetKey("acme", "app"), TargetKey("beta", "app"), TargetKey("acme", "billing")


async def test_since_when_targets_are_pending_is_kept_changed_and_forgotten(store: Store) -> None:
    assert await store.pending.listed() == {}
    await store.pending.change({ACME: START, BETA: START, OTHER: START}, ())
    await store.pending.change({ACME: AFTER}, [BETA])
    assert await store.pending.listed() == {ACME: AFTER, OTHER: START}
    await store.pending.change({}, [ACME, OTHER])
    assert await store.pending.listed() == {}


async def test_a_fleet_is_kept_at_once(store: Store) -> None:
    fleet = {TargetKey(f"t{number}", "app"): START for number in range(1_200)}
    await store.pending.change(fleet, ())
    assert await store.pending.listed() == fleet
    await store.pending.change({}, list(fleet))
    assert await store.pending.listed() == {}


async def test_the_stream_tells_since_when_a_rollout_is_in_its_state(store: Store) -> None:
    rollout = a_rollout("r1", 1)
    await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
    assert await store.ledger.state_since("r1", RolloutState.RUNNING) is None

    async def move(state: RolloutState, minutes: int) -> None:
        moved = replace(rollout, state=state)
        await store.ledger.save_rollout(moved, replace(changed(moved), at=START + timedelta(minutes=minutes)))

    await move(RolloutState.RUNNING, 1)
    await move(RolloutState.AWAITING_APPROVAL, 2)
    await move(RolloutState.RUNNING, 5)
    await move(RolloutState.RUNNING, 9)  # a restart tells what it has found
    assert await store.ledger.state_since("r1", RolloutState.RUNNING) == START + timedelta(minutes=5)
    assert await store.ledger.state_since("r1", RolloutState.PAUSED) is None


async def test_the_stream_tells_how_often_a_rollout_has_run_and_which_waves_have_passed_since(store: Store) -> None:
    rollout = a_rollout("r1", 1)
    frozen = migrations_of(rollout)
    await store.ledger.create(rollout, frozen, created(rollout))

    async def move(state: RolloutState, minutes: int) -> None:
        moved, when = replace(rollout, state=state), START + timedelta(minutes=minutes)
        event = replace(changed(moved), at=when)
        if minutes == 9:
            return await store.ledger.reopen(moved, (), [event])
        await store.ledger.save_rollout(moved, event)

    async def passes(wave: str) -> None:
        event = WaveChanged(rollout="r1", track="app", wave=wave, position=0, change="passed")
        await store.ledger.save_rollout(replace(rollout, state=RolloutState.RUNNING), event)

    await move(RolloutState.RUNNING, 1)
    assert await store.ledger.runs("r1") == (1, START + timedelta(minutes=1), {})
    await passes("canary")
    assert await store.ledger.runs("r1") == (1, START + timedelta(minutes=1), {"canary": 1})
    await store.ledger.save_migrations([as_state(one, MigrationState.FAILED) for one in frozen])
    await move(RolloutState.FAILED, 8)
    await move(RolloutState.RUNNING, 9)
    assert await store.ledger.runs("r1") == (2, START + timedelta(minutes=9), {})
    await passes("canary")
    await passes("canary")
    await passes("everyone")
    await move(RolloutState.RUNNING, 11)
    assert await store.ledger.runs("r1") == (2, START + timedelta(minutes=9), {"canary": 2, "everyone": 1})
