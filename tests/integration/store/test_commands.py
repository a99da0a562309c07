"""What standbys ask of the leader is carried out once, or not at all, and they learn which."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.errors import LeadershipLostError
from orchestrator.store.commands import Answer
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import run_sql

LOST = {"kind": "UnavailableError", "message": "lost"}
ARGUMENTS = {"by": "anna", "max_concurrent": 3}


def nothing(reason: str) -> None:
    pass


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
async def standby(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as opened:
        yield opened


async def test_a_command_is_taken_once_in_order_and_its_answer_comes_back(store: Store, standby: Store) -> None:
    async with store.driver_lock(nothing):
        assert await store.commands.take(LOST) == ()
        first = await standby.commands.ask("r1", "pause", ARGUMENTS, 60)
        second = await standby.commands.ask("r2\0", "resume", {"by": "b\udc80"}, 60)
        assert await standby.commands.answer_of(first) is None
        one, other = await store.commands.take(LOST)
        assert (one.id, one.rollout, one.name, one.arguments) == (first, "r1", "pause", ARGUMENTS)
        assert (other.id, other.rollout) == (second, "r2\ufffd")
        assert await store.commands.take(LOST) == ()
        await store.commands.answer(one, None)
        await store.commands.answer(other, {"kind": "StateError", "message": "no", "remedy": None})
        assert await standby.commands.answer_of(first) == Answer(None)
        answer = await standby.commands.answer_of(second)
        assert answer == Answer({"kind": "StateError", "message": "no", "remedy": None})


async def test_who_does_not_lead_takes_nothing(store: Store, standby: Store) -> None:
    await standby.commands.ask("r1", "pause", ARGUMENTS, 60)
    assert await standby.commands.take(LOST) == ()


async def test_a_command_that_nobody_took_can_be_withdrawn_and_a_taken_one_cannot(store: Store, standby: Store) -> None:
    withdrawn = await standby.commands.ask("r1", "pause", ARGUMENTS, 60)
    assert await standby.commands.withdraw(withdrawn)
    async with store.driver_lock(nothing):
        assert await store.commands.take(LOST) == ()
        taken = await standby.commands.ask("r1", "pause", ARGUMENTS, 60)
        await store.commands.take(LOST)
        assert not await standby.commands.withdraw(taken)


async def test_a_command_whose_asker_is_gone_is_not_carried_out_after_its_time(store: Store, standby: Store) -> None:
    await standby.commands.ask("r1", "abort", ARGUMENTS, 0.001)
    async with store.driver_lock(nothing):
        assert await store.commands.take(LOST) == ()


async def test_a_leader_that_is_lost_between_taking_and_answering_leaves_it_open_and_the_next_one_says_so(
    url: str, store: Store, standby: Store
) -> None:
    async with store.driver_lock(nothing):
        number = await standby.commands.ask("r1", "retry", ARGUMENTS, 60)
        [command] = await store.commands.take(LOST)
        await run_sql(url, "UPDATE leadership SET epoch = epoch + 1, expires_at = clock_timestamp()")
        with pytest.raises(LeadershipLostError):
            await store.commands.answer(command, None)
    async with standby.driver_lock(nothing):
        assert await standby.commands.take(LOST) == []
    assert await standby.commands.answer_of(number) == Answer(LOST)
