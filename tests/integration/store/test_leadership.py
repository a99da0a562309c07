"""The lead of a PostgreSQL store: who has it, who may take it, and what one who lost it can still do."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import asyncpg
import pytest

from orchestrator.errors import LeadershipLostError, StoreError
from orchestrator.store import lease, process
from orchestrator.store.engine import Store, open_store
from orchestrator.store.fence import Fence
from orchestrator.store.leadership import Candidate, standing
from orchestrator.store.place import locate
from orchestrator.store.process import this_process
from tests.engine import until
from tests.integration.store.samples import a_rollout, created, migrations_of, run_sql
from tests.integration.store.test_lock import another_driver

LEASE = 3.0
END_DRIVER_SESSION = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE 'orchestrator driver %' AND datname = current_database()
"""
HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 0 AND objsubid = 2"


@dataclass
class Losses:
    reasons: list[str] = field(default_factory=list)

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with open_store(url, lease_seconds=LEASE) as opened:
        yield opened


async def seconds_left(url: str) -> float:
    [(left,)] = await run_sql(
        url, "SELECT extract(epoch FROM expires_at - clock_timestamp())::float AS left FROM leadership"
    )
    return float(left)


async def taken_over(url: str) -> None:
    """As another process that takes over would write it."""
    await run_sql(
        url,
        "UPDATE leadership SET epoch = epoch + 1, owner = 'other\\:1\\:ffffffff', pid = 1, machine = 'm', "
        "expires_at = clock_timestamp() + interval '1 hour'",
    )


async def elected(one: Candidate) -> bool:
    return one.elected.is_set()


@asynccontextmanager
async def candidate(
    url: str, lease_seconds: float = LEASE, on_lost: Callable[[str], None] | None = None
) -> AsyncIterator[Candidate]:
    """One that stands for the lead as a process of its own would, but for its process id."""
    name = f"elsewhere:1:{secrets.token_hex(4)}"
    me = replace(this_process(), name=name, machine=f"machine of {name}")
    async with standing(locate(url), me, Fence(), lease_seconds, on_lost or Losses()) as one:
        yield one


async def test_of_many_candidates_one_leads_and_another_follows_when_it_leaves(url: str, store: Store) -> None:
    epochs: list[int] = []
    leading = 0

    async def stand() -> None:
        nonlocal leading
        async with candidate(url) as one:
            await one.elected.wait()
            leading += 1
            assert leading == 1
            epochs.append(one.epoch)
            await anyio.sleep(0.05)
            leading -= 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(stand)
    assert epochs == [1, 2, 3, 4, 5, 6]


async def test_a_lease_is_renewed_and_its_end_is_the_servers_to_tell(url: str, store: Store) -> None:
    async with candidate(url) as one, candidate(url) as other:
        await one.tried.wait()
        await other.tried.wait()
        assert [one.leads, other.leads].count(True) == 1
        leader, standby = (one, other) if one.leads else (other, one)
        await anyio.sleep(2 * LEASE)
        assert leader.leads
        assert not standby.leads
        assert 0 < await seconds_left(url) <= LEASE


async def test_a_lost_session_costs_nothing_while_the_lease_lasts(url: str, store: Store) -> None:
    lost = Losses()
    async with store.driver_lock(lost):
        [(before,)] = await run_sql(url, HOLDERS)
        await run_sql(url, END_DRIVER_SESSION)

        async def locked_again() -> bool:
            held = await run_sql(url, HOLDERS)
            return len(held) == 1 and held != [(before,)]

        await until(locked_again)
        with pytest.raises(StoreError, match="another process drives"):
            async with store.driver_lock(lost):
                pass
    assert lost.reasons == []


async def test_one_that_was_taken_over_can_write_nothing_more_and_is_told(url: str, store: Store) -> None:
    lost = Losses()
    rollout = a_rollout(total=1)
    migrations = migrations_of(rollout)
    async with store.driver_lock(lost):
        await store.ledger.create(rollout, migrations, created(rollout))
        await taken_over(url)
        with pytest.raises(LeadershipLostError, match="epoch 2, ours was 1"):
            await store.ledger.save_rollout(replace(rollout, reason="too late"))
        with pytest.raises(LeadershipLostError):
            await store.ledger.save_migration(replace(migrations[0], attempts=9))
        assert len(lost.reasons) == 1
    assert (await store.ledger.rollout(rollout.id)).reason == rollout.reason
    assert await seconds_left(url) > 3000, "what another one leads is not given back by us"


async def test_the_heartbeat_finds_a_takeover_without_any_write(url: str, store: Store) -> None:
    lost = Losses()
    async with store.driver_lock(lost):
        await taken_over(url)
        await until(lambda: bool(lost.reasons))
    assert lost.reasons == ["process 1 on other has taken over (epoch 2, not 1)"]


async def test_one_that_cannot_renew_stops_before_another_may_begin(url: str, store: Store) -> None:
    left: list[float] = []
    connection = await asyncpg.connect(url)
    told = anyio.Event()
    try:
        async with store.driver_lock(lambda reason: told.set()):
            await connection.execute("BEGIN; LOCK TABLE leadership IN ACCESS EXCLUSIVE MODE")
            with anyio.fail_after(60):
                await told.wait()
            question = "SELECT extract(epoch FROM expires_at - clock_timestamp())::float FROM leadership"
            left.append(await connection.fetchval(question))
            await connection.execute("ROLLBACK")
    finally:
        await connection.close()
    assert left[0] > 0


async def test_a_takeover_waits_for_the_transaction_of_a_leader_that_has_just_asked(url: str, store: Store) -> None:
    """What it does there is fenced off, or done before anybody else begins."""
    connection = await asyncpg.connect(url)
    try:
        async with candidate(url, on_lost=Losses()) as one:
            await one.elected.wait()
            await connection.execute("BEGIN; SELECT epoch FROM leadership FOR KEY SHARE")
            await anyio.sleep(LEASE)
            assert one.leads, "the heartbeat is not held up by it"
        async with candidate(url) as other:
            await other.tried.wait()
            assert not other.elected.is_set()
            await connection.execute("ROLLBACK")
            with anyio.fail_after(60):
                await other.elected.wait()
    finally:
        await connection.close()


@asynccontextmanager
async def frozen_transaction(url: str) -> AsyncIterator[None]:
    """As the leader's that says nothing any more, with statements sent that the server waits for the end of: so no
    timeout of the server's ends it."""
    [(owner,)] = await run_sql(url, "SELECT owner FROM leadership")
    name = f"orchestrator store #{owner.rpartition(':')[2]} and so on"
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        await connection.execute("BEGIN; SELECT epoch FROM leadership FOR KEY SHARE")
        yield
        assert connection.is_closed()
    finally:
        await connection.close()


async def test_a_process_that_is_frozen_between_two_statements_lets_go_within_a_lease(store: Store) -> None:
    [(limit,)] = await store.ledger._connections.read(
        lambda connection: connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").all()
    )
    assert limit == "3s"


async def test_a_frozen_process_is_followed_when_its_lease_ends_and_learns_of_it(url: str, store: Store) -> None:
    """Frozen in the middle of a transaction, too, which is a session of its pool to the server."""
    async with another_driver(url, LEASE) as frozen, frozen_transaction(url):
        frozen.send_signal(signal.SIGSTOP)
        lost = Losses()
        async with candidate(url, on_lost=lost) as one:
            await one.tried.wait()
            assert not one.elected.is_set()
            with anyio.fail_after(60):
                await one.elected.wait()
            frozen.send_signal(signal.SIGCONT)
            assert frozen.stdout is not None
            with anyio.fail_after(60):
                assert b"elsewhere has taken over (epoch 2, not 1)" in await frozen.stdout.receive()
            await anyio.sleep(LEASE)
            assert one.leads
        assert lost.reasons == []


async def test_a_frozen_process_that_nobody_has_followed_goes_on(url: str, store: Store) -> None:
    async with another_driver(url, 2.0) as frozen:
        frozen.send_signal(signal.SIGSTOP)

        async def ended() -> bool:
            return await seconds_left(url) < 0

        async def renewed() -> bool:
            return await seconds_left(url) > 0

        await until(ended)
        frozen.send_signal(signal.SIGCONT)
        await until(renewed)
        assert frozen.returncode is None
    assert await run_sql(url, "SELECT epoch FROM leadership") == [(1,)]


async def test_a_killed_process_of_this_machine_is_followed_at_once(url: str, store: Store) -> None:
    async with another_driver(url, 600) as process:
        process.kill()
        await process.wait()
    with anyio.fail_after(60):
        async with store.driver_lock(Losses()):
            pass


async def test_a_killed_process_of_another_machine_is_followed_when_its_lease_ends(url: str, store: Store) -> None:
    async with another_driver(url, 600) as process:
        await run_sql(url, "UPDATE leadership SET machine = 'another'")
        process.kill()
        await process.wait()
    with pytest.raises(StoreError, match=f"process {process.pid} .* for (5|6)[0-9][0-9] s more if it says nothing"):
        async with store.driver_lock(Losses()):
            pass
    await run_sql(url, "UPDATE leadership SET expires_at = clock_timestamp()")
    async with store.driver_lock(Losses()):
        pass


async def test_a_release_that_knows_no_lease_is_waited_for_by_its_session_lock(url: str, store: Store) -> None:
    connection = await asyncpg.connect(url, server_settings={"application_name": "orchestrator driver old:1"})
    try:
        await connection.execute(f"SELECT pg_advisory_lock({lease.KEYS['first']}, {lease.KEYS['second']})")
        async with candidate(url) as one:
            await one.tried.wait()
            assert not one.elected.is_set()
            assert "orchestrator driver old:1" in (one.holder or "")
            await connection.execute("SELECT pg_advisory_unlock_all()")
            with anyio.fail_after(60):
                await one.elected.wait()
    finally:
        await connection.close()


async def test_who_did_not_give_the_lead_back_is_deposed_and_who_did_is_not(url: str, store: Store) -> None:
    fence = Fence()
    async with candidate(url) as gone:
        await gone.elected.wait()
    await taken_over(url)
    await run_sql(url, "UPDATE leadership SET expires_at = clock_timestamp()")
    async with standing(locate(url), this_process(), fence, LEASE, Losses()) as one:
        await one.elected.wait()
        assert fence.deposed == {"ffffffff"}


async def test_one_that_was_stopped_before_it_was_elected_never_leads(url: str, store: Store) -> None:
    async with candidate(url) as one:
        await one.elected.wait()
        async with candidate(url) as other:
            await other.tried.wait()
            await other.release()
            await one.release()
            await anyio.sleep(LEASE)
            assert not await elected(other)


async def test_a_process_that_lives_is_not_taken_for_dead_and_one_that_ended_is() -> None:
    me = this_process()
    assert me.machine
    assert not process.is_dead(me)
    assert process.is_dead(replace(me, born="1")), "its process id is somebody else's by now"
    assert not process.is_dead(replace(me, machine="another", pid=2**22, born="1"))
    async with await anyio.open_process(["sleep", "60"]) as child:
        born = process.started(child.pid)
        assert born is not None
        other = replace(me, pid=child.pid, born=born)
        assert not process.is_dead(other)
        child.kill()
        await child.wait()
    assert process.is_dead(other)
