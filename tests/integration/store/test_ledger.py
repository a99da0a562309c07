"""What every ledger must do, on both databases."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from orchestrator.errors import ConflictError, NotFoundError, StateError, StoreError
from orchestrator.plan.bound import Planned
from orchestrator.registry.model import FailureBudget
from orchestrator.rollout.ports import Ledger
from orchestrator.rollout.state import (
    OUTCOMES,
    Direction,
    Failure,
    Migration,
    MigrationState,
    Override,
    Request,
    Rollout,
    RolloutState,
    Scheduled,
)
from orchestrator.rollout.waves import WaveRun
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import (
    START,
    Published,
    a_rollout,
    as_state,
    changed,
    created,
    finished,
    migrations_of,
    names,
    run_sql,
    started,
)

MANY = 100_000 if os.environ.get("SOAK") else 20_000
AWKWARD = 'O\'Brien "quoted" \\ %s :name $1 {x} — Zürich 東京 🐘\n\tend'


async def create(ledger: Ledger, rollout: Rollout, prefix: str = "tenant") -> list[Migration]:
    frozen = migrations_of(rollout, prefix=prefix)
    await ledger.create(rollout, frozen, created(rollout))
    return frozen


def unset(value: Any) -> list[str]:
    """Fields that a sample leaves at their default: a field added later shows up here until it is stored, too."""
    return [f.name for f in fields(value) if getattr(value, f.name) == f.default]


async def finish(ledger: Ledger, rollout: Rollout, outcome: MigrationState, state: RolloutState) -> Rollout:
    await ledger.save_migrations([as_state(migration, outcome) for migration in migrations_of(rollout)])
    ended = replace(rollout, state=state, finished_at=START)
    await ledger.save_rollout(ended)
    return ended


async def test_the_store_is_a_ledger(store: Store) -> None:
    ledger: Ledger = store.ledger
    assert ledger is store.ledger


async def test_a_rollout_comes_back_as_it_was_written(store: Store) -> None:
    request = Request(
        track=AWKWARD,
        to=AWKWARD,
        select=AWKWARD,
        strategy=AWKWARD,
        direction=Direction.STAMP,
        created_by=AWKWARD,
        idempotency_key=AWKWARD,
        foreground=True,
        max_concurrent=7,
        plan_digest="a" * 40,
        scheduled=Scheduled("nightly", START),
    )
    rollout = Rollout(
        id="20260301-123015-abcd",
        request=request,
        goal=("a1", AWKWARD),
        total=0,
        created_at=START,
        history_digest="sha256:x",
        state=RolloutState.PAUSED,
        reason=AWKWARD,
        aborting=True,
        waves=(
            WaveRun(
                "first",
                FailureBudget(3, 2.5, "rollback", 4, 5),
                6,
                7.5,
                True,
                ("a", "b"),
                2.0,
                9.5,
                8,
                9,
                START,
                START,
                START,
            ),
            WaveRun("last", checked_at=START, approved_at=START, approved_by=AWKWARD, passed_at=START),
        ),
        rolling_back=True,
        approval=True,
        four_eyes=True,
        approved_at=START,
        approved_by=AWKWARD,
        waiting=AWKWARD,
        started_at=START + timedelta(microseconds=1),
        finished_at=START + timedelta(days=400),
        irreversible={"a1": AWKWARD},
        override=Override(AWKWARD, AWKWARD, START),
    )
    assert (unset(rollout), unset(request)) == ([], ["traceparent"]), "which is for who traces the request only"
    await store.ledger.create(rollout, [], created(rollout))
    assert await store.ledger.rollout(rollout.id) == rollout
    assert await store.ledger.rollouts() == [rollout]


async def test_a_plain_rollout_keeps_its_empty_fields(store: Store) -> None:
    rollout = replace(a_rollout(), goal=())
    await create(store.ledger, rollout)
    assert await store.ledger.rollout("r1") == rollout


async def test_times_come_back_in_utc_from_any_zone(store: Store) -> None:
    rollout = replace(a_rollout(), created_at=START.astimezone(ZoneInfo("Asia/Tokyo")))
    await create(store.ledger, rollout)
    read = (await store.ledger.rollout("r1")).created_at
    assert (read, read.utcoffset()) == (START, timedelta(0))


async def test_a_migration_comes_back_as_it_was_written(store: Store) -> None:
    rollout = a_rollout(total=1)
    failure = Failure(AWKWARD, AWKWARD, remedy=AWKWARD, code="42P07", revision="a1", statement=AWKWARD)
    migration = Migration(
        rollout="r1",
        tenant=AWKWARD,
        track=AWKWARD,
        shard=AWKWARD,
        wave=AWKWARD,
        position=12,
        place=AWKWARD,
        state=MigrationState.FAILED,
        attempts=3,
        from_heads=("a1", AWKWARD),
        to_heads=(),
        steps=2,
        execution="fallback",
        planned=Planned(("a1", AWKWARD), 2, "digest"),
        failure=failure,
        started_at=START,
        finished_at=START + timedelta(seconds=1),
        reverting=True,
        doubt=AWKWARD.replace("\0", ""),
        counted={"orders": 3, "gone": None},
    )
    assert unset(migration) == unset(failure) == []
    await store.ledger.create(rollout, [migration], created(rollout))
    assert await store.ledger.migrations("r1") == [migration]
    plain = replace(migration, state=MigrationState.PENDING, from_heads=(), to_heads=None, failure=None, steps=None)
    await store.ledger.save_migration(plain)
    assert await store.ledger.migrations("r1") == [plain]


async def test_events_come_back_in_order_and_are_published_once_durable(store: Store, published: Published) -> None:
    rollout = a_rollout()
    [first, *_] = await create(store.ledger, rollout)
    running = as_state(first, MigrationState.RUNNING)
    await store.ledger.save_migration(running, started(running))
    failed = as_state(first, MigrationState.FAILED, Failure("failed", AWKWARD))
    await store.ledger.save_migrations([failed], [finished(failed)])
    await store.ledger.save_rollout(rollout, changed(rollout))

    stored = await store.ledger.events("r1")
    assert [(event.sequence, event.name) for event in stored] == [
        (1, "RolloutCreated"),
        (2, "MigrationStarted"),
        (3, "MigrationFinished"),
        (4, "RolloutStateChanged"),
    ]
    assert stored[2].data["message"] == AWKWARD
    assert published.sequences == [1, 2, 3, 4]
    assert [event.name for event, _ in published] == [event.name for event in stored]
    assert [event.sequence for event in await store.ledger.events("r1", after=1, limit=2)] == [2, 3]


async def test_text_that_a_database_refuses_is_kept_as_far_as_it_can_be(store: Store) -> None:
    rollout = a_rollout(total=1)
    [migration] = await create(store.ledger, rollout)
    failure = Failure("failed", "a\0b\ud800c" + "x" * 10_000, statement="y" * 10_000)
    failed = as_state(migration, MigrationState.FAILED, failure)
    await store.ledger.save_migration(failed, finished(failed))

    [read] = await store.ledger.migrations("r1")
    assert read.failure is not None
    assert read.failure.message.startswith("a\ufffdb\ufffdcxxx")
    assert len(read.failure.message) == 4_000
    assert len(read.failure.statement or "") == 2_000
    [group] = await store.ledger.failures("r1")
    assert group.signature == failure.signature
    event = (await store.ledger.events("r1"))[-1]
    assert str(event.data["message"]).startswith("a\ufffdb\ufffdc")


async def test_an_unknown_rollout_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no rollout nope"):
        await store.ledger.rollout("nope")
    with pytest.raises(NotFoundError):
        await store.ledger.save_rollout(a_rollout("nope"))
    with pytest.raises(NotFoundError):
        await store.ledger.save_migration(migrations_of(a_rollout("nope"))[0])
    assert await store.ledger.migrations("nope") == []
    with pytest.raises(NotFoundError):
        await store.ledger.reopen(a_rollout("nope"), [])
    await store.ledger.save_migrations([])
    assert await store.ledger.counts("nope") == {}
    assert await store.ledger.events("nope") == []


async def test_a_target_outside_the_frozen_set_is_not_found(store: Store) -> None:
    [first, *_] = await create(store.ledger, a_rollout())
    stranger = replace(first, tenant="stranger")
    with pytest.raises(NotFoundError, match="stranger/app"):
        await store.ledger.save_migration(stranger)
    with pytest.raises(NotFoundError, match="stranger/app"):
        await store.ledger.save_migrations([as_state(first, MigrationState.RUNNING), stranger])
    assert await store.ledger.counts("r1") == {MigrationState.PENDING: 3}


async def test_rollouts_are_paged_newest_first(store: Store) -> None:
    for n in range(5):
        state = RolloutState.RUNNING if n % 2 else RolloutState.PAUSED
        await create(store.ledger, a_rollout(f"r{n}", minutes=n // 2, state=state), prefix=f"t{n}-")
    seen: list[str] = []
    while page := await store.ledger.rollouts(limit=2, before=seen[-1] if seen else None):
        seen += [rollout.id for rollout in page]
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    running = await store.ledger.rollouts(states=[RolloutState.RUNNING])
    assert [rollout.id for rollout in running] == ["r3", "r1"]


async def test_migrations_are_paged_by_position(store: Store) -> None:
    frozen = await create(store.ledger, a_rollout(total=7))
    await store.ledger.save_migrations([as_state(frozen[n], MigrationState.FAILED) for n in (1, 4, 6)])
    first = await store.ledger.migrations("r1", limit=3)
    second = await store.ledger.migrations("r1", limit=10, after=first[-1].position)
    assert names([*first, *second]) == names(frozen)
    failed = await store.ledger.migrations("r1", states=[MigrationState.FAILED], after=1)
    assert names(failed) == ["tenant4", "tenant6"]
    assert await store.ledger.migrations("r1", limit=0) == []


@pytest.mark.soak
async def test_very_many_targets_are_frozen_listed_and_counted(store: Store) -> None:
    rollout = a_rollout(total=MANY)
    frozen = await create(store.ledger, rollout)
    assert await store.ledger.counts("r1") == {MigrationState.PENDING: MANY}
    assert await store.ledger.migrations("r1") == frozen
    with anyio.fail_after(10):
        for migration in frozen[:100]:
            await store.ledger.save_migration(as_state(migration, MigrationState.RUNNING))
    assert (await store.ledger.counts("r1"))[MigrationState.RUNNING] == 100


async def test_a_rollout_whose_targets_do_not_add_up_is_not_created(store: Store) -> None:
    rollout = a_rollout(total=3)
    with pytest.raises(StoreError, match="coverage"):
        await store.ledger.create(rollout, migrations_of(rollout)[:2], created(rollout))
    assert await store.ledger.rollouts() == []


async def test_a_target_of_an_active_rollout_is_refused_to_a_second(store: Store, published: Published) -> None:
    await create(store.ledger, a_rollout("r1", total=30))
    second = a_rollout("r2", total=40)
    with pytest.raises(ConflictError, match=r"rollout r1 is active .* and 10 more") as refused:
        await create(store.ledger, second)
    assert refused.value.rollout == "r1"
    assert refused.value.targets[0] == "tenant0/app"
    assert [rollout.id for rollout in await store.ledger.rollouts()] == ["r1"]
    assert await store.ledger.migrations("r2") == []
    assert published.sequences == [1]
    await create(store.ledger, second, prefix="other")


@pytest.mark.parametrize("state", [RolloutState.SUCCEEDED, RolloutState.ABORTED])
async def test_a_finished_rollout_gives_its_targets_free(store: Store, state: RolloutState) -> None:
    rollout = a_rollout("r1")
    await create(store.ledger, rollout)
    await finish(store.ledger, rollout, MigrationState.SUCCEEDED, state)
    await create(store.ledger, a_rollout("r2"))


async def test_of_two_rollouts_made_at_once_by_two_processes_one_wins(url: str) -> None:
    results: list[str] = []

    async def attempt(store: Store, rollout: Rollout) -> None:
        try:
            await create(store.ledger, rollout)
            results.append("created")
        except ConflictError as exc:
            results.append(exc.rollout)

    async with open_store(url) as one, open_store(url) as other:
        for n in range(10):
            pair = a_rollout(f"{n}-one", total=50), a_rollout(f"{n}-other", total=50)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(attempt, one, pair[0])
                tasks.start_soon(attempt, other, pair[1])
            [winner] = await one.ledger.rollouts(states=[RolloutState.RUNNING])
            assert sorted(results) == sorted(["created", winner.id])
            results.clear()
            await finish(other.ledger, winner, MigrationState.SKIPPED, RolloutState.ABORTED)


async def test_the_same_idempotency_key_gives_the_same_rollout(store: Store, published: Published) -> None:
    first = a_rollout("r1", key="release-7")
    assert await store.ledger.create(first, migrations_of(first), created(first)) == first
    again = a_rollout("r2", total=9, key="release-7")
    assert await store.ledger.create(again, migrations_of(again), created(again)) == first
    assert len(await store.ledger.rollouts()) == 1
    assert len(published) == 1


async def test_an_idempotency_key_is_kept_for_a_day(store: Store) -> None:
    ledger, day = store.ledger, 24 * 60
    first = a_rollout("r1", 0, key="release-7", state=RolloutState.SUCCEEDED)
    await ledger.create(first, [], created(first))
    for name, minutes, kept in (("r2", day - 1, "r1"), ("r3", day, "r3"), ("r4", 2 * day - 1, "r3")):
        asked = a_rollout(name, 0, minutes=minutes, key="release-7", state=RolloutState.SUCCEEDED)
        assert (await ledger.create(asked, [], created(asked))).id == kept
    assert [it.id for it in await ledger.rollouts()] == ["r3", "r1"]
    assert (await ledger.rollout("r1")).request.idempotency_key is None, "it has given the key free"
    assert await ledger.requested("release-7") is None, "all of this was long ago"


async def test_a_name_that_no_database_can_look_up_is_nobodys(store: Store) -> None:
    for name in ("a\0b", "\ud800", "x" * 10_000):
        with pytest.raises(NotFoundError):
            await store.ledger.rollout(name)


async def test_the_same_idempotency_key_at_once_from_two_processes_makes_one_rollout(url: str) -> None:
    made: list[str] = []

    async def attempt(store: Store, rollout_id: str) -> None:
        rollout = a_rollout(rollout_id, key="k")
        made.append((await store.ledger.create(rollout, migrations_of(rollout), created(rollout))).id)

    async with open_store(url) as one, open_store(url) as other, anyio.create_task_group() as tasks:
        tasks.start_soon(attempt, one, "r1")
        tasks.start_soon(attempt, other, "r2")
    assert len(made) == 2
    assert len(set(made)) == 1


@pytest.mark.parametrize("left", [MigrationState.PENDING, MigrationState.RUNNING])
async def test_a_rollout_cannot_finish_before_every_target_has(store: Store, left: MigrationState) -> None:
    rollout = a_rollout()
    frozen = await create(store.ledger, rollout)
    await store.ledger.save_migrations([as_state(frozen[0], MigrationState.SUCCEEDED), as_state(frozen[1], left)])
    with pytest.raises(StoreError, match="coverage"):
        await store.ledger.save_rollout(replace(rollout, state=RolloutState.SUCCEEDED), changed(rollout))
    assert (await store.ledger.rollout("r1")).state is RolloutState.RUNNING
    assert len(await store.ledger.events("r1")) == 1


async def test_a_rollout_that_lost_a_target_cannot_finish(store: Store, url: str) -> None:
    rollout = a_rollout()
    frozen = await create(store.ledger, rollout)
    await store.ledger.save_migrations([as_state(migration, MigrationState.SUCCEEDED) for migration in frozen])
    await run_sql(url, "DELETE FROM holds WHERE tenant = 'tenant1'", "DELETE FROM migrations WHERE tenant = 'tenant1'")
    with pytest.raises(StoreError, match="2 of 3 are recorded"):
        await store.ledger.save_rollout(replace(rollout, state=RolloutState.SUCCEEDED))


async def test_a_finished_rollout_changes_no_more(store: Store) -> None:
    rollout = a_rollout()
    [first, *_] = await create(store.ledger, rollout)
    failed = await finish(store.ledger, rollout, MigrationState.FAILED, RolloutState.FAILED)
    with pytest.raises(StateError, match="has finished"):
        await store.ledger.save_migration(as_state(first, MigrationState.RUNNING), started(first))
    with pytest.raises(StateError, match="has finished"):
        await store.ledger.save_migrations([as_state(first, MigrationState.PENDING)])
    with pytest.raises(StateError, match="cannot become succeeded"):
        await store.ledger.save_rollout(replace(failed, state=RolloutState.SUCCEEDED))
    assert await store.ledger.counts("r1") == {MigrationState.FAILED: 3}
    assert len(await store.ledger.events("r1")) == 1


async def test_a_retry_opens_the_rollout_and_takes_its_targets_back(store: Store) -> None:
    rollout = a_rollout()
    frozen = await create(store.ledger, rollout)
    await finish(store.ledger, rollout, MigrationState.FAILED, RolloutState.FAILED)
    await store.ledger.reopen(rollout, [as_state(frozen[0], MigrationState.PENDING)], [changed(rollout)])
    assert (await store.ledger.rollout("r1")).state is RolloutState.RUNNING
    assert await store.ledger.counts("r1") == {MigrationState.PENDING: 1, MigrationState.FAILED: 2}
    with pytest.raises(ConflictError):
        await create(store.ledger, a_rollout("r2"))


async def test_a_retry_over_targets_that_another_holds_by_now_changes_nothing(store: Store) -> None:
    rollout = a_rollout()
    frozen = await create(store.ledger, rollout)
    await finish(store.ledger, rollout, MigrationState.FAILED, RolloutState.FAILED)
    await create(store.ledger, a_rollout("r2"))
    with pytest.raises(ConflictError, match="rollout r2"):
        await store.ledger.reopen(rollout, [as_state(frozen[0], MigrationState.PENDING)])
    with pytest.raises(StateError, match="has finished"):
        await store.ledger.save_rollout(rollout)
    assert (await store.ledger.rollout("r1")).state is RolloutState.FAILED
    assert await store.ledger.counts("r1") == {MigrationState.FAILED: 3}


async def test_only_a_finished_rollout_is_reopened_and_only_once(store: Store) -> None:
    rollout = a_rollout()
    frozen = await create(store.ledger, rollout)
    with pytest.raises(StateError, match="is active already"):
        await store.ledger.reopen(rollout, [])
    await finish(store.ledger, rollout, MigrationState.FAILED, RolloutState.FAILED)
    await store.ledger.reopen(rollout, [as_state(frozen[0], MigrationState.PENDING)])
    with pytest.raises(StateError, match="is active already"):
        await store.ledger.reopen(rollout, [as_state(frozen[1], MigrationState.PENDING)])
    assert await store.ledger.counts("r1") == {MigrationState.FAILED: 2, MigrationState.PENDING: 1}


async def test_every_outcome_is_kept(store: Store) -> None:
    outcomes = sorted(OUTCOMES)
    rollout = a_rollout(total=len(outcomes))
    frozen = await create(store.ledger, rollout)
    for migration, outcome in zip(frozen, outcomes, strict=True):
        await store.ledger.save_migration(as_state(migration, outcome))
    assert await store.ledger.counts("r1") == dict.fromkeys(outcomes, 1)
    await store.ledger.save_rollout(replace(rollout, state=RolloutState.FAILED))


async def test_failures_are_grouped_by_cause_largest_first(store: Store) -> None:
    frozen = await create(store.ledger, a_rollout(total=20))
    rare = Failure("failed", "one", code="42P07", revision="a1")
    often = [Failure("failed", f"tenant says {n}", code="23505", revision="b2", statement="S") for n in range(20)]
    await store.ledger.save_migrations(
        [as_state(migration, MigrationState.FAILED, often[migration.position]) for migration in frozen[5:]]
        + [as_state(migration, MigrationState.LOCKED, rare) for migration in frozen[:2]]
        + [as_state(frozen[2], MigrationState.RUNNING, rare), as_state(frozen[3], MigrationState.FAILED)]
    )
    largest, smallest = await store.ledger.failures("r1", tenants=4)
    assert (largest.signature, largest.count, largest.example) == (often[5].signature, 15, often[5])
    assert largest.tenants == ("tenant5", "tenant6", "tenant7", "tenant8")
    assert (smallest.signature, smallest.count, smallest.tenants) == (rare.signature, 2, ("tenant0", "tenant1"))
    assert (await store.ledger.failures("r1", tenants=0))[0].tenants == ()


async def test_everything_is_there_when_the_store_is_opened_again(url: str) -> None:
    rollout = a_rollout()
    async with open_store(url) as store:
        frozen = await create(store.ledger, rollout)
        await store.ledger.save_migration(as_state(frozen[1], MigrationState.RUNNING), started(frozen[1]))
    async with open_store(url) as store:
        assert await store.ledger.rollout("r1") == rollout
        assert (await store.ledger.counts("r1"))[MigrationState.RUNNING] == 1
        await store.ledger.save_migration(as_state(frozen[1], MigrationState.SUCCEEDED), finished(frozen[1]))
        assert [event.sequence for event in await store.ledger.events("r1")] == [1, 2, 3]


async def test_a_store_in_memory_serves_many_tasks_at_once() -> None:
    async with open_store("sqlite://") as store:
        frozen = await create(store.ledger, a_rollout(total=100))
        async with anyio.create_task_group() as tasks:
            for migration in frozen:
                tasks.start_soon(store.ledger.save_migration, as_state(migration, MigrationState.RUNNING))
                tasks.start_soon(store.ledger.counts, "r1")
        assert await store.ledger.counts("r1") == {MigrationState.RUNNING: 100}


async def test_an_error_inside_the_block_comes_out_as_it_is(url: str) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_store(url):
            raise LookupError("mine")
