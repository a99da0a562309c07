"""What the store keeps of backfills and of orders, on both kinds of store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.orders import remaining
from orchestrator.backfill.records import Key, Part, Record, standing
from orchestrator.backfill.steering import Action, Adjustment, Order, Scope
from orchestrator.backfill.view import Hold, Underway
from orchestrator.errors import LeadershipLostError, StateError, StoreError
from orchestrator.events import BackfillFinished
from orchestrator.store.engine import Store
from tests.integration.store.samples import START, Published, a_rollout, created, migrations_of, run_sql

LAG = Hold("replication_lag", "standby is 9 s behind, 5 s are allowed", START)


def underway(tenant: str = "acme", rollout: str = "r1", revision: str = "b2", **fields: Any) -> Underway:
    backfill = Backfill(revision, "upgrade", 1, "set", "tickets", ("id",), 1000)
    progress = fields.pop("progress", Progress(seen=500, changed=400, estimated=2000, last_key="[500]"))
    view = Underway(rollout, tenant, "app", "pg-1", backfill, progress, 800, 95.5, 15.7, (), START, START)
    return replace(view, **fields)


def ended(state: Any, tenant: str, rollout: str = "r1", *, seen: int = 100, estimated: int | None = 90) -> Record:
    progress = Progress(finished=state == "finished", seen=seen, changed=seen, estimated=estimated)
    return Record(underway(tenant, rollout, progress=progress), state, "why" if state == "stopped" else None, START)


async def begin(store: Store, rollout_id: str = "r1", **fields: Any) -> None:
    rollout = a_rollout(rollout_id, 1, **fields)
    await store.ledger.create(rollout, migrations_of(rollout, prefix=rollout_id), created(rollout))


def tenants(records: Sequence[Record]) -> list[str]:
    return [record.view.tenant for record in records]


async def test_what_is_written_is_read_again(store: Store) -> None:
    await begin(store)
    first = standing(underway(holds=(LAG,), progress=Progress(False, 2**40, 5, None, 2, '["ü\\u0000"]', 7, True)))
    await store.backfills.records.save([first, ended("finished", "beta")])
    assert await store.backfills.records.listed() == [first, ended("finished", "beta")]
    assert first.state == "held"
    later = standing(underway(size=10, updated_at=START + timedelta(seconds=5)))
    await store.backfills.records.save([later])
    assert await store.backfills.records.unfinished() == [later]


async def test_what_no_database_takes_is_written_otherwise(store: Store) -> None:
    await begin(store)
    odd = underway(progress=Progress(last_key="[\0" + "x" * 9999), holds=(Hold("probe", "said \0\udcff", START),))
    await store.backfills.records.save([Record(odd, "stopped", "\0")])
    [kept] = await store.backfills.records.listed()
    assert len(kept.view.progress.last_key or "") == 500
    assert kept.view.holds[0].text == "said \ufffd\ufffd"
    assert kept.reason == "\ufffd"


async def test_events_stand_in_the_rollouts_stream_with_the_change_and_are_told_after_it(
    store: Store, published: Published
) -> None:
    await begin(store)
    published.clear()
    event = BackfillFinished(
        rollout="r1",
        track="app",
        tenant="acme",
        shard="pg-1",
        revision="b2",
        direction="upgrade",
        ordinal=1,
        table="tickets",
        seen=100,
        changed=90,
        batches=(0.1, 0.2),
        seconds=3.5,
    )
    await store.backfills.records.save([ended("finished", "acme")], [event])
    assert published == [(event, 2)]
    stored = (await store.ledger.events("r1", after=1))[0]
    assert (stored.name, stored.data["changed"], stored.data["batches"]) == ("BackfillFinished", 90, [0.1, 0.2])
    with pytest.raises((StoreError, IntegrityError)):
        await store.backfills.records.save([ended("finished", "acme", "nothing")])


async def test_pages_follow_each_other_newest_rollout_first(store: Store) -> None:
    await begin(store, "r1")
    await begin(store, "r2")
    names = ["Zeta", "acme", "Beta", "ärger", "acme-2", "acme_3"]
    records = [standing(underway(name, rollout)) for rollout in ("r1", "r2") for name in names]
    records += [standing(underway("acme", "r2", "b3"))]
    await store.backfills.records.save(records)
    found: list[Record] = []
    after: Key | None = None
    while page := await store.backfills.records.listed(limit=4, after=after):
        found += page
        after = page[-1].key
    assert found == list(await store.backfills.records.listed(limit=100))
    assert sorted(record.key for record in found) == sorted(record.key for record in records)
    assert [record.view.rollout for record in found] == ["r2"] * 7 + ["r1"] * 6


async def test_what_is_asked_for_is_found(store: Store) -> None:
    await begin(store, "r1")
    await begin(store, "r2")
    held = standing(underway("held", holds=(LAG,)))
    others = [standing(underway("runs", shard="pg-2")), ended("stopped", "stops"), ended("finished", "ends", "r2")]
    listed = store.backfills.records.listed
    await store.backfills.records.save([held, *others])
    assert tenants(await listed(states=["held"])) == ["held"]
    assert tenants(await listed(states=["running", "stopped"])) == ["runs", "stops"]
    assert tenants(await listed(only={"shard": "pg-2"})) == ["runs"]
    assert tenants(await listed(only={"rollout": "r2"})) == ["ends"]
    assert tenants(await listed(only={"tenant": "stops", "track": "app", "revision": "b2"})) == ["stops"]
    assert await listed(only={"tenant": "stops", "revision": "b3"}) == []
    assert tenants(await store.backfills.records.unfinished({"shard": "pg-1"})) == ["held"]


async def test_ended_ones_are_summed_up_over_active_rollouts_or_over_one(url: str, store: Store) -> None:
    await begin(store, "r1")
    await begin(store, "r2")
    await store.backfills.records.save(
        [
            ended("finished", "a"),
            ended("finished", "b", estimated=None),
            ended("stopped", "c", seen=10, estimated=50),
            ended("stopped", "d", "r2", seen=1, estimated=None),
            standing(underway("e")),
        ]
    )
    by_state = {part.state: part for part in await store.backfills.records.ended()}
    assert by_state == {
        "finished": Part("app", "b2", "upgrade", "finished", 2, 200, 200, 200),
        "stopped": Part("app", "b2", "upgrade", "stopped", 2, 11, 11, None),
    }
    only = {part.state: part for part in await store.backfills.records.ended({"rollout": "r1"})}
    assert only["stopped"] == Part("app", "b2", "upgrade", "stopped", 1, 10, 10, 50)
    await run_sql(url, "UPDATE rollouts SET state = 'succeeded' WHERE id = 'r1'")
    assert [part.backfills for part in await store.backfills.records.ended()] == [1]
    assert sum(part.backfills for part in await store.backfills.records.ended({"rollout": "r1"})) == 3


async def test_what_a_process_left_underway_is_stopped(store: Store) -> None:
    await begin(store)
    await store.backfills.records.save([standing(underway("a", holds=(LAG,))), ended("finished", "b")])
    assert await store.backfills.records.abandon("the daemon ended", START) == 1
    assert await store.backfills.records.abandon("the daemon ended", START) == 0
    [left, done] = await store.backfills.records.listed()
    assert (left.state, left.reason, left.view.holds, left.view.rows_per_second) == (
        "stopped",
        "the daemon ended",
        (),
        None,
    )
    assert left.view.progress.seen == 500
    assert done.state == "finished"


# Orders


def order(action: Action, reason: str | None = "why", minutes: int = 0, **scope: Any) -> Order:
    adjustment = scope.pop("adjustment", None)
    return Order(Scope(**scope), action, "user:anna", START + timedelta(minutes=minutes), reason, adjustment)


async def test_a_pause_stands_until_its_scope_or_a_wider_one_is_resumed(store: Store) -> None:
    orders = store.backfills.orders
    await orders.give(order("pause", shard="pg-1"), 3)
    await orders.give(order("pause", minutes=1), 5)
    await orders.give(order("pause", "again", minutes=2, shard="pg-1"), 3)
    assert await orders.standing() == [order("pause", minutes=1), order("pause", "again", minutes=2, shard="pg-1")]
    with pytest.raises(StateError) as refused:
        await orders.give(order("resume", tenant="acme"), 0)
    assert refused.value.remedy is not None
    assert "shard pg-1" in refused.value.remedy
    assert "all backfills" in refused.value.remedy
    assert "orchestrator backfill resume --shard pg-1" in refused.value.remedy
    await orders.give(order("pause", minutes=3, shard="pg-1", tenant="acme"), 1)
    await orders.give(order("pause", minutes=3, shard="pg-2"), 1)
    await orders.give(order("resume", shard="pg-1"), 5)
    assert [kept.scope for kept in await orders.standing()] == [Scope(), Scope(shard="pg-2")]
    with pytest.raises(StateError, match="no pause of shard pg-1"):
        await orders.give(order("resume", shard="pg-1"), 5)
    await orders.give(order("adjust", minutes=4, shard="pg-2", adjustment=Adjustment(duty=0.5)), 1)
    await orders.give(order("resume"), 5)
    assert [kept.action for kept in await orders.standing()] == ["adjust"]
    with pytest.raises(StateError) as refused:
        await orders.give(order("resume"), 5)
    assert "nothing is paused" in str(refused.value.remedy)


async def test_orders_fold_in_the_store_as_they_do_in_memory(store: Store) -> None:
    """So that a restart changes nothing."""
    scopes: list[dict[str, str]] = [{}, {"shard": "pg-1"}, {"tenant": "acme"}, {"shard": "pg-1", "tenant": "acme"}]
    dice, given = Random(7), list[Order]()
    for minute in range(60):
        action: Action = dice.choice(["pause", "pause", "resume", "abort"])
        one = order(action, f"number {minute}", minute, **dice.choice(scopes))
        try:
            await store.backfills.orders.give(one, 0)
        except StateError:
            assert action == "resume"
        given.append(one)
        assert list(await store.backfills.orders.standing()) == list(remaining(given)), minute


async def test_an_adjustment_replaces_that_of_its_scope_and_goes_when_it_says_nothing(store: Store) -> None:
    orders = store.backfills.orders
    first = order("adjust", shard="pg-1", adjustment=Adjustment(rows_per_second=0, thresholds={"lag_seconds": 3.5}))
    await orders.give(first, 1)
    await orders.give(order("pause", shard="pg-1"), 1)
    assert first in await orders.standing()
    second = order("adjust", shard="pg-1", adjustment=Adjustment(duty=0.5, batch_size=10))
    await orders.give(second, 1)
    assert await orders.standing() == [second, order("pause", shard="pg-1")]
    await orders.give(order("adjust", shard="pg-1", adjustment=Adjustment()), 1)
    assert await orders.standing() == [order("pause", shard="pg-1")]


async def test_an_abort_does_not_stand_and_orders_of_ended_rollouts_are_forgotten(store: Store) -> None:
    orders = store.backfills.orders
    await begin(store, "r1")
    await orders.give(order("abort", rollout="r1"), 1)
    assert await orders.standing() == []
    for rollout in ("r1", "gone", None):
        await orders.give(order("pause", rollout=rollout), 0)
    await orders.forget()
    assert {kept.scope.rollout for kept in await orders.standing()} == {"r1", None}


async def test_an_order_is_recorded_in_its_own_transaction(store: Store) -> None:
    with acts.acting(Act("pause_backfills", "user:anna")):
        await store.backfills.orders.give(order("pause", shard="pg-1"), 3)
    with acts.acting(Act("resume_backfills", "user:anna")) as act, pytest.raises(StateError):
        await store.backfills.orders.give(order("resume", shard="pg-2"), 3)
    assert not act.settled
    [entry] = await store.audit.entries()
    assert (entry.values["action"], entry.values["details"]) == ("pause_backfills", {"backfills": 3})


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_who_has_lost_the_lead_writes_nothing(url: str, store: Store) -> None:
    await begin(store)
    async with store.driver_lock(lambda reason: None):
        await store.backfills.records.save([standing(underway())])
        await run_sql(url, "UPDATE leadership SET epoch = epoch + 1, expires_at = clock_timestamp()")
        for write in (
            store.backfills.records.save([standing(underway(size=1))]),
            store.backfills.records.abandon("gone", START),
            store.backfills.orders.give(order("pause"), 1),
        ):
            with pytest.raises(LeadershipLostError):
                await write
    assert [record.view.size for record in await store.backfills.records.listed()] == [800]
    assert await store.backfills.orders.standing() == []
