"""The audit: written with the change, in one chain whoever writes, and nothing can be taken out of it unseen."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from orchestrator.access import acts, chain
from orchestrator.access.acts import Act, Pending
from orchestrator.access.chain import Row
from orchestrator.errors import ConflictError, StoreError
from orchestrator.events import Audited
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import Published, a_rollout, created, migrations_of, run_sql

DROP = {
    "sqlite": ("DROP TRIGGER audit_is_not_updated", "DROP TRIGGER audit_is_not_deleted"),
    "postgresql": ("DROP TRIGGER audit_is_append_only ON audit",),
}


def act(action: str = "start_rollout", by: str = "user:ci", **fields: object) -> Act:
    return Act(action, by, **fields)  # type: ignore[arg-type]


async def create(store: Store, rollout_id: str = "r1", key: str | None = None) -> None:
    rollout = a_rollout(rollout_id, key=key)
    await store.ledger.create(rollout, migrations_of(rollout, prefix=rollout_id), created(rollout))


async def entries(store: Store) -> Sequence[Row]:
    return await store.audit.entries()


async def breaks(store: Store) -> list[tuple[int, str]]:
    return [(one.sequence, one.problem.split(":")[0]) for one in (await store.audit.verified()).breaks]


async def test_an_act_is_recorded_with_its_first_change_and_once(store: Store, published: Published) -> None:
    with acts.acting(act(address="10.0.0.9", role="operator", details={"to": "head", "a\0b": "c\udc80"})) as pending:
        await create(store)
        await create(store, "r2")
    assert pending.recorded is not None
    [row] = await entries(store)
    values = row.values
    assert (values["by"], values["rollout"], values["proved"], values["outcome"]) == ("user:ci", "r1", True, "done")
    assert (values["address"], values["role"]) == ("10.0.0.9", "operator")
    assert values["history_digests"] == {"": ""}
    [told] = [event for event, _ in published if isinstance(event, Audited)]
    assert (told.sequence, told.hash, told.rollout) == (1, row.hash, "r1")
    assert await breaks(store) == []


async def test_what_nobody_does_is_not_recorded(store: Store) -> None:
    await create(store)
    with acts.acting(act()):
        pass
    await create(store, "r2")
    assert await entries(store) == []


async def test_a_change_that_is_refused_takes_its_entry_with_it(store: Store) -> None:
    await create(store)
    with acts.acting(act()) as pending:
        rollout = a_rollout("r2")
        with pytest.raises(ConflictError):
            await store.ledger.create(rollout, migrations_of(rollout, prefix="r1"), created(rollout))
        assert await entries(store) == []
        assert not pending.settled
        await store.audit.note(pending.ended("refused", "409"))
    [row] = await entries(store)
    assert (row.values["outcome"], row.values["reason"], row.values["rollout"]) == ("refused", "409", None)


async def test_a_change_that_was_made_before_is_not_made_again(store: Store) -> None:
    await create(store, key="k")
    with acts.acting(act()) as pending:
        await create(store, "r2", key="k")
    assert pending.settled
    assert await entries(store) == []


async def test_a_caller_that_is_cancelled_still_leaves_its_entry(store: Store) -> None:
    rollout = a_rollout()
    with anyio.CancelScope() as scope, acts.acting(act()):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.ledger.create, rollout, migrations_of(rollout), created(rollout))
            await anyio.lowlevel.checkpoint()
            scope.cancel()
    await create(store, "r2")
    assert [(row.values["rollout"]) for row in await entries(store)] == ["r1"]


async def test_what_a_request_has_started_does_not_record_it(store: Store) -> None:
    go = anyio.Event()

    async def later() -> None:
        await go.wait()
        await create(store)

    async with anyio.create_task_group() as tasks:
        with acts.acting(act()):
            tasks.start_soon(later)
        go.set()
    assert await entries(store) == []


async def test_an_act_without_a_change_is_noted_by_itself_and_only_once(store: Store) -> None:
    pending = Pending(lambda: act("reload_registry"))
    await store.audit.note(pending)
    await store.audit.note(pending)
    assert [row.values["action"] for row in await entries(store)] == ["reload_registry"]


async def test_many_writers_in_two_processes_append_to_one_chain(url: str, store: Store) -> None:
    """Two stores with connections of their own, as two daemons have."""

    async def write(into: Store, name: str) -> None:
        for number in range(20):
            with acts.acting(act(by=f"user:{name}", details={"number": number})):
                await create(into, f"{name}-{number}")

    async with open_store(url) as other, anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(write, store, f"a{number}")
            tasks.start_soon(write, other, f"b{number}")
    found = await entries(store)
    assert [row.sequence for row in found] == list(range(1, 121))
    assert {row.values["rollout"] for row in found} == {
        f"{x}{n}-{i}" for x in "ab" for n in range(3) for i in range(20)
    }
    verification = await store.audit.verified()
    assert (verification.breaks, verification.entries) == ([], 120)


async def test_it_is_verified_while_others_write(url: str, store: Store) -> None:
    done = anyio.Event()

    async def write() -> None:
        for number in range(30):
            with acts.acting(act()):
                await create(store, f"r{number}")
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        while not done.is_set():
            assert await breaks(store) == []


async def test_rows_cannot_be_changed_by_a_slip_of_the_hand(url: str, store: Store) -> None:
    await _three(store)
    for statement in ("UPDATE audit SET hash = 'x'", "DELETE FROM audit WHERE sequence = 2"):
        with pytest.raises(StoreError, match="appended"):
            await run_sql(url, statement)
    if url.startswith("postgresql"):
        with pytest.raises(StoreError, match="appended"):
            await run_sql(url, "TRUNCATE audit")
    assert await breaks(store) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE audit SET entry = replace(entry, 'user:ci', 'user:no') WHERE sequence = 2", (2, "edited")),
        ("UPDATE audit SET hash = '0' WHERE sequence = 3", (3, "edited")),
        ("DELETE FROM audit WHERE sequence = 2", (2, "missing")),
        ("DELETE FROM audit WHERE sequence = 1", (1, "missing")),
        ("DELETE FROM audit WHERE sequence = 3", (3, "cut off")),
        ("UPDATE audit SET sequence = 9 WHERE sequence = 3", (9, "moved")),
        ("DELETE FROM audit", (1, "cut off")),
        ("DELETE FROM audit_head", (3, "the store's note of the last entry is gone")),
        ("UPDATE audit_head SET sequence = 2", (3, "put in")),
    ],
)
async def test_who_may_drop_the_triggers_is_found_out(
    url: str, store: Store, change: str, found: tuple[int, str]
) -> None:
    await _three(store)
    await run_sql(url, *DROP[url.split(":")[0]], change)
    assert found in await breaks(store)


async def test_an_end_cut_off_with_the_stores_note_of_it_is_found_by_an_anchor(url: str, store: Store) -> None:
    await _three(store)
    head = await store.audit.head()
    second = (await entries(store))[1]
    cut = ("DELETE FROM audit WHERE sequence = 3", f"UPDATE audit_head SET sequence = 2, hash = '{second.hash}'")
    await run_sql(url, *DROP[url.split(":")[0]], *cut)
    assert await breaks(store) == []
    assert head is not None
    assert [one.problem for one in (await store.audit.verified([head])).breaks] == ["cut off: the anchor is entry 3"]
    assert (await store.audit.verified([chain.Anchor(2, second.hash)])).breaks == []


async def test_without_the_note_nothing_that_is_audited_is_done(url: str, store: Store) -> None:
    await run_sql(url, "DELETE FROM audit_head")
    with acts.acting(act()), pytest.raises(StoreError, match="lost its note"):
        await create(store)
    assert await store.ledger.rollouts() == []


async def _three(store: Store) -> None:
    for number in range(3):
        with acts.acting(act()):
            await create(store, f"r{number}")
