"""Notifications that somebody wants sent again: with the record of who it was, and whatever is under way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.errors import StateError, StoreError
from orchestrator.events import now
from orchestrator.notify.notices import Delivery
from orchestrator.store.engine import Store
from tests.integration.store.samples import run_sql

MOMENT = now().replace(microsecond=123457)
RETRY = Act("retry_notification", "user:ann", details={"notification_id": "n1"})


async def claimed(store: Store) -> Delivery:
    """One whose first attempt is under way."""
    await store.outbox.add([Delivery("n1", "ops", "rollout_paused", {"a": 1})], MOMENT)
    delivery = await store.outbox.claim("ops", MOMENT, MOMENT + timedelta(seconds=40))
    assert delivery is not None
    return delivery


async def state(store: Store) -> tuple[str, int, float | None]:
    [kept] = await store.outbox.listed()
    next_at = None if kept.next_at is None else (kept.next_at - MOMENT).total_seconds()
    return kept.state, kept.delivery.attempts, next_at


@pytest.mark.parametrize("again", [timedelta(hours=1), None])
async def test_a_retry_of_one_under_way_is_not_undone_when_that_fails(store: Store, again: timedelta | None) -> None:
    delivery = await claimed(store)
    await store.outbox.retry("n1", MOMENT + timedelta(seconds=5))
    await store.outbox.failed(delivery, "no", MOMENT, None if again is None else MOMENT + again)
    assert await state(store) == ("pending", 1, 5)


async def test_what_fails_without_a_retry_is_put_off_or_dead(store: Store) -> None:
    delivery = await claimed(store)
    await store.outbox.failed(delivery, "no", MOMENT, MOMENT + timedelta(seconds=9))
    assert await state(store) == ("pending", 1, 9)
    later = await store.outbox.claim("ops", MOMENT + timedelta(seconds=9), MOMENT + timedelta(seconds=50))
    assert later is not None
    await store.outbox.failed(later, "no", MOMENT, None)
    assert await state(store) == ("dead", 2, None)


async def test_what_arrives_is_not_sent_again_for_a_retry_meanwhile(store: Store) -> None:
    delivery = await claimed(store)
    await store.outbox.retry("n1", MOMENT)
    await store.outbox.delivered(delivery, MOMENT)
    assert (await state(store))[0] == "delivered"


async def test_a_retry_and_its_record_are_one_change(url: str, store: Store) -> None:
    delivery = await claimed(store)
    await store.outbox.failed(delivery, "no", MOMENT, None)
    with acts.acting(RETRY):
        await store.outbox.retry("n1", MOMENT)
    [row] = await store.audit.entries()
    assert (row.values["action"], row.values["by"]) == ("retry_notification", "user:ann")
    assert await state(store) == ("pending", 0, 0)
    again = await store.outbox.claim("ops", MOMENT, MOMENT + timedelta(seconds=40))
    assert again is not None
    await store.outbox.failed(again, "no", MOMENT, None)
    await run_sql(url, "DELETE FROM audit_head")
    with acts.acting(RETRY), pytest.raises(StoreError, match="lost its note"):
        await store.outbox.retry("n1", MOMENT)
    assert await state(store) == ("dead", 1, None)
    await run_sql(url, "UPDATE notifications SET state = 'delivered'")
    with acts.acting(RETRY), pytest.raises(StateError, match="was delivered"):
        await store.outbox.retry("n1", MOMENT)
