"""Rollouts in waves over real databases: a canary, gates, budgets, and the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.databases.embedded import Server
from orchestrator.errors import StateError
from orchestrator.events import RolloutStateChanged
from orchestrator.registry.model import Check, FailureBudget, Registry, Strategy, Target, Track, Wave
from orchestrator.rollout.state import Direction, MigrationState, Request, RolloutState
from tests import engine, environments
from tests.engine import Engine, until
from tests.servers import MakeDatabases

ASKED = Request("app", "head", strategy="canary", created_by="anna")


def _budget(count: int, **fields: Any) -> FailureBudget:
    return FailureBudget(count, same_signature=3, **fields)


def _canary(**gate: Any) -> Strategy:
    first = Wave("canary", select="canary=true", on_failure=_budget(0), **gate)
    tenth = Wave("tenth", percent=10, on_failure=_budget(1))
    return Strategy("canary", 8, (first, tenth, Wave("everyone", on_failure=_budget(1))))


@pytest.fixture
def project(tmp_path: Path) -> Track:
    """One table for each of two revisions, which a `broken` table on the tenant's side refuses."""
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    return environments.track_of(config)


def _registry(pg: Server, track: Track, databases: list[str], strategy: Strategy, canaries: int = 3) -> Registry:
    targets = [
        replace(target, labels={"canary": "true"} if number < canaries else {})
        for number, target in enumerate(engine.targets_of(databases))
    ]
    return engine.registry_of([track], [engine.shard_of(pg)], targets, strategies={"canary": strategy})


async def _break(pg: Server, *databases: str) -> None:
    """The second revision fails there."""
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(pg, database, "CREATE TABLE beta (id int)")


async def _heads(pg: Server, database: str) -> list[str]:
    if not await engine.fetch(pg, database, "SELECT 1 FROM pg_class WHERE relname = 'alembic_version'"):
        return []
    return [row[0] for row in await engine.fetch(pg, database, "SELECT version_num FROM alembic_version")]


async def _start(running: Engine, **fields: Any) -> str:
    view, _ = await running.service.start_rollout(replace(ASKED, **fields))
    return view.rollout.id


async def _ends(running: Engine, rollout: str) -> RolloutState:
    with anyio.fail_after(60):
        await running.service.finished(rollout)
    return (await running.service.rollout(rollout)).rollout.state


async def test_a_bug_that_hits_everybody_stops_within_the_canary(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(20)
    await _break(pg, *databases)
    async with engine.running(_registry(pg, project, databases, _canary())) as running:
        rollout = await _start(running, max_concurrent=1)
        await running.reaches(rollout, RolloutState.PAUSED)
        view = await running.service.rollout(rollout)
        assert view.rollout.reason == "wave canary: 1 of 3 targets failed, more than the 0 that are allowed"
        assert view.counts == {"failed": 1, "pending": 19}
        assert [group.count for group in view.failures] == [1]
        for database in databases:
            await engine.execute(pg, database, "DROP TABLE beta")
        await running.service.retry(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        names = [wave.name for wave in (await running.service.rollout(rollout)).rollout.waves if wave.passed]
        assert names == ["canary", "tenth", "everyone"]


async def test_the_same_failure_three_times_stops_the_wave(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(12)
    await _break(pg, *databases[:6])
    everyone = Wave("everyone", on_failure=FailureBudget(percent=90, same_signature=3))
    strategy = Strategy("canary", waves=(everyone,))
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        rollout = await _start(running, max_concurrent=1)
        await running.reaches(rollout, RolloutState.PAUSED)
        view = await running.service.rollout(rollout)
        assert view.counts[MigrationState.FAILED] == 3
        assert "3 of 12 targets failed in the same way (" in str(view.rollout.reason)


async def test_unreachable_hosts_are_not_the_same_failure(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(3)
    gone = [Target(f"gone{n}", "app", "pg", f"gone_{n}") for n in range(4)]
    strategy = Strategy("canary", waves=(Wave("everyone", on_failure=FailureBudget(percent=90, same_signature=3)),))
    registry = engine.registry_of(
        [project], [engine.shard_of(pg)], [*engine.targets_of(databases), *gone], strategies={"canary": strategy}
    )
    async with engine.running(registry) as running:
        rollout = await _start(running)
        assert await _ends(running, rollout) is RolloutState.FAILED
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 3, "unreachable": 4}


async def test_no_wave_begins_before_the_gate_is_passed(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(12)
    strategy = replace(_canary(soak_seconds=1.0, approval=True), four_eyes=True)
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        rollout = await _start(running)

        async def soaking() -> bool:
            found = (await running.service.rollout(rollout)).rollout.waiting
            return found is not None and found.startswith("waiting for wave canary to soak until ")

        await until(soaking)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, succeeded=3, pending=9)
        waiting = (await running.service.rollout(rollout)).rollout
        assert waiting.waiting == "waiting for approval after wave canary"
        assert waiting.waves[0].ended_at is not None
        with pytest.raises(StateError, match="another pair of eyes"):
            await running.service.approve(rollout, by="anna")
        with pytest.raises(StateError, match="waits after wave 'canary'"):
            await running.service.approve(rollout, by="bert", wave="tenth")
        assert [await _heads(pg, database) for database in databases[3:]] == [[]] * 9
        await running.service.approve(rollout, by="bert", wave="canary")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        approved = (await running.service.rollout(rollout)).rollout.waves[0]
        assert approved.approved_by == "bert"
        assert approved.passed_at is not None
        assert (approved.passed_at - waiting.waves[0].ended_at).total_seconds() >= 1.0
        begun = [event.wave for event in running.events if event.name == "MigrationStarted"]  # type: ignore[attr-defined]
        assert begun == sorted(begun, key=["canary", "tenth", "everyone"].index)


async def test_a_plan_may_want_approval_before_anything_begins(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(4)
    async with engine.running(_registry(pg, project, databases, replace(_canary(), approval=True))) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, pending=4)
        await running.service.abort(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.ABORTED
        assert [await _heads(pg, database) for database in databases] == [[]] * 4
        second = await _start(running)
        await running.reaches(second, RolloutState.AWAITING_APPROVAL)
        await running.service.pause(second, by="anna")
        await running.service.resume(second, by="anna")
        await running.reaches(second, RolloutState.AWAITING_APPROVAL)
        await running.service.approve(second, by="bert")
        assert await _ends(running, second) is RolloutState.SUCCEEDED
        assert (await running.rollout(strategy="canary")).counts == {"up_to_date": 4}  # nothing to approve


async def test_a_check_holds_up_the_next_wave_until_it_passes_or_its_time_is_over(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    *databases, control = await make_databases(7)
    await engine.execute(pg, control, "CREATE TABLE errors (id int)", "INSERT INTO errors VALUES (1)")
    asked = "SELECT count(*) FROM errors"
    check = Check("errors", "sql", asked, "pg", control, most=0.0, every_seconds=0.1, deadline_seconds=1.0)
    async with engine.running(_registry(pg, project, databases, _canary(checks=(check,)))) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.PAUSED, succeeded=3)
        reason = str((await running.service.rollout(rollout)).rollout.reason)
        assert reason.startswith("checks after wave canary: errors: 1")
        assert reason.endswith("(not passed within 1 s)")
        told = [event.as_dict().get("waiting") for event in running.events if event.name == "RolloutStateChanged"]
        assert any(str(waiting).startswith("waiting for checks after wave canary: errors") for waiting in told)
        await engine.execute(pg, control, "DELETE FROM errors")
        await running.service.resume(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED


async def test_what_was_changed_is_taken_back_and_nothing_else(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(14)
    registry = _registry(pg, project, databases, _canary())
    async with engine.running(registry) as running:
        first = await running.rollout(to="alpha", select="tenant in (t000,t004)")
        assert first.counts == {"succeeded": 2}
        ready = await running.rollout(select="tenant in (t001,t005)")
        assert ready.counts == {"succeeded": 2}
        await _break(pg, *databases[8:12])  # two more than the tenth takes, whichever it takes
        rollout = await _start(running, max_concurrent=1)
        await running.reaches(rollout, RolloutState.PAUSED)
        before = {database: await _heads(pg, database) for database in databases}
        migrations = {m.tenant: m for m in await running.service.migrations(rollout, limit=100)}
        changed = {name for name, m in migrations.items() if m.state == "succeeded"}
        assert changed
        assert {"t001", "t005"}.isdisjoint(changed)
        await running.service.rollback(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.ROLLED_BACK
        after = {m.tenant: m for m in await running.service.migrations(rollout, limit=100)}
        assert {name for name, m in after.items() if m.state == "rolled_back"} == changed
        for number, database in enumerate(databases):
            tenant = f"t{number:03}"
            was = migrations[tenant].from_heads
            assert was is not None or tenant not in changed
            expected = list(was or ()) if tenant in changed else before[database]
            assert await _heads(pg, database) == expected, tenant
        assert await _heads(pg, databases[0]) == ["alpha"]
        assert await _heads(pg, databases[1]) == ["beta"]
        with pytest.raises(StateError, match="has been rolled back"):
            await running.service.retry(rollout, by="anna")
        order = [event.wave for event in running.events if event.name == "MigrationStarted"]  # type: ignore[attr-defined]
        back = order[-len(changed) :]
        assert back == sorted(back, key=["everyone", "tenth", "canary"].index)


async def test_a_finished_rollout_is_taken_back_too_and_by_itself_where_the_strategy_says_so(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(8)
    back = _budget(0, then="rollback")
    strategy = Strategy("canary", 2, (Wave("few", count=3, on_failure=back), Wave("everyone", on_failure=back)))
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        done = await running.rollout(strategy="canary")
        assert done.counts == {"succeeded": 8}
        await running.service.rollback(done.rollout.id, by="anna")
        assert await _ends(running, done.rollout.id) is RolloutState.ROLLED_BACK
        assert [await _heads(pg, database) for database in databases] == [[]] * 8
        await engine.execute(pg, databases[7], "CREATE TABLE beta (id int)")
        rollout = await _start(running)
        assert await _ends(running, rollout) is RolloutState.ROLLED_BACK
        assert [await _heads(pg, database) for database in databases] == [[]] * 8
        view = await running.service.rollout(rollout)
        assert "1 of" in str(view.rollout.reason)
        assert view.counts[MigrationState.FAILED] == 1
        with pytest.raises(StateError, match="has changed no target"):
            await running.service.rollback(
                (await running.rollout(to="base", direction=Direction.DOWNGRADE)).rollout.id, by="x"
            )


async def test_somebody_elses_change_is_not_taken_back(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    databases = await make_databases(3)
    async with engine.running(_registry(pg, project, databases, _canary())) as running:
        done = await running.rollout(to="alpha")
        await running.rollout(select="tenant=t001")  # goes on to t2
        await running.service.rollback(done.rollout.id, by="anna")
        assert await _ends(running, done.rollout.id) is RolloutState.FAILED
        assert [await _heads(pg, database) for database in databases] == [[], ["beta"], []]
        moved = {m.tenant: m for m in await running.service.migrations(done.rollout.id)}["t001"]
        assert moved.failure is not None
        assert "somebody else has changed it. Nothing was taken back" in moved.failure.message
        await running.rollout(to="alpha", direction=Direction.DOWNGRADE, select="tenant=t001")
        await running.service.retry(done.rollout.id, by="anna")
        assert await _ends(running, done.rollout.id) is RolloutState.ROLLED_BACK
        assert [await _heads(pg, database) for database in databases] == [[]] * 3


async def test_a_tenant_is_skipped_and_the_limit_changed_while_it_waits(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(10)
    async with engine.running(_registry(pg, project, databases, _canary(approval=True))) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        await running.service.skip(rollout, by="anna", tenant="t009", track=None, reason="they are leaving")
        view = await running.service.limit(rollout, by="anna", max_concurrent=1)
        assert view.rollout.state is RolloutState.AWAITING_APPROVAL
        await running.service.approve(rollout, by="bert")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        left = {m.tenant: m for m in await running.service.migrations(rollout)}["t009"]
        assert left.failure is not None
        assert (left.state, left.failure.message) == ("skipped", "they are leaving (skipped by anna)")
        assert await _heads(pg, databases[9]) == []
        with pytest.raises(StateError, match="can no longer be changed"):
            await running.service.limit(rollout, by="anna", max_concurrent=1)


async def test_an_abort_by_force_ends_what_runs_and_its_transaction(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path / "slow")
    environments.add_tables(tmp_path / "slow", ["alpha"])
    environments.add_revision(
        tmp_path / "slow", "beta", "alpha", 'op.execute("CREATE TABLE b (id int)"); op.execute("SELECT pg_sleep(600)")'
    )
    databases = await make_databases(4)
    registry = _registry(pg, environments.track_of(config), databases, Strategy("canary"))
    async with engine.running(registry) as running:
        rollout = await _start(running, max_concurrent=2)
        sleeping = (
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname = ANY($1) AND state = 'active'"
        )

        async def both_sleep() -> bool:
            return len(await engine.fetch(pg, "postgres", sleeping, databases)) == 2

        await until(both_sleep)
        await running.service.abort(rollout, by="anna")
        with acts.acting(Act("abort_rollout", "user:anna", rollout=rollout)) as act:
            await running.service.abort(rollout, by="anna", force=True)
        assert act.recorded is not None, "it is recorded before it cancels"
        assert await _ends(running, rollout) is RolloutState.ABORTED
        assert (await running.service.rollout(rollout)).counts == {"cancelled": 4}
        assert not await engine.fetch(pg, "postgres", sleeping, databases)
        cut = [m for m in await running.service.migrations(rollout) if m.attempts]
        assert [m.to_heads for m in cut] == [(), ()]
        assert all(m.failure is not None and "by force" in m.failure.message for m in cut)
        for database in databases:
            assert not await engine.fetch(pg, database, "SELECT 1 FROM pg_class WHERE relname IN ('alpha', 'b')")


async def test_the_way_back_may_be_replayed(pg: Server, make_databases: MakeDatabases, project: Track) -> None:
    databases = await make_databases(8)
    track = replace(project, execution="auto")
    async with engine.running(_registry(pg, track, databases, Strategy("canary"))) as running:
        done = await running.rollout(strategy="canary")
        await running.service.rollback(done.rollout.id, by="anna")
        assert await _ends(running, done.rollout.id) is RolloutState.ROLLED_BACK
        view = await running.service.rollout(done.rollout.id)
        assert view.executions == {"online": 2, "replay": 6}
        assert [await _heads(pg, database) for database in databases] == [[]] * 8


async def test_a_stamp_is_taken_back(pg: Server, make_databases: MakeDatabases, project: Track) -> None:
    databases = await make_databases(2)
    async with engine.running(_registry(pg, project, databases, Strategy("canary"))) as running:
        await running.rollout(to="alpha", select="tenant=t000")
        done = await running.rollout(to="beta", direction=Direction.STAMP)
        assert [await _heads(pg, database) for database in databases] == [["beta"], ["beta"]]
        await running.service.rollback(done.rollout.id, by="anna")
        assert await _ends(running, done.rollout.id) is RolloutState.ROLLED_BACK
        assert [await _heads(pg, database) for database in databases] == [["alpha"], []]


async def test_what_cannot_be_taken_back_is_told_before_and_refused_as_a_whole(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    environments.add_revision(tmp_path / "project", "gamma", "beta", "op.execute('CREATE TABLE gamma (id int)')")
    databases = await make_databases(6)
    await _break(pg, databases[5])
    back = FailureBudget(0, then="rollback")
    waves = (Wave("few", select="tenant=t000"), Wave("everyone", on_failure=back))
    strategy = Strategy("canary", 1, waves, approval=True)
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        await running.rollout(select="tenant=t000")
        await running.service.survey.once()
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        waiting = (await running.service.rollout(rollout)).rollout
        assert waiting.irreversible == {"gamma": "its downgrade is empty"}
        assert [wave.irreversible for wave in waiting.waves] == [(), ("gamma",)]
        await running.service.approve(rollout, by="bert")
        await running.reaches(rollout, RolloutState.PAUSED)
        paused = str((await running.service.rollout(rollout)).rollout.reason)
        assert "what was changed cannot be taken back: " in paused
        assert "have run gamma (its downgrade is empty)" in paused
        before = [await _heads(pg, database) for database in databases]
        with pytest.raises(StateError, match="cannot be rolled back"):
            await running.service.rollback(rollout, by="anna")
        await running.service.abort(rollout, by="anna")
        await _ends(running, rollout)
        with pytest.raises(StateError, match="cannot be rolled back"):
            await running.service.rollback(rollout, by="anna")
        assert [await _heads(pg, database) for database in databases] == before


def _half(folder: Path) -> Path:
    """Each revision commits by itself."""
    environments.use_transaction_per_migration(folder)
    return folder


async def test_a_tenant_that_is_skipped_while_heads_are_read_stays_skipped(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(2)
    await engine.provision(pg, databases[0])
    strategy = Strategy("canary")
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        async with engine.locked_table(pg, databases[0], "alembic_version"):
            rollout = await _start(running)
            await running.reaches(rollout, RolloutState.PLANNING)
            await running.service.skip(rollout, by="anna", tenant="t000", track=None, reason="later")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        assert (await running.service.rollout(rollout)).counts == {"skipped": 1, "succeeded": 1}
        assert await _heads(pg, databases[0]) == []


async def test_no_way_back_begins_while_a_target_may_just_run_what_cannot_be_taken_back(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    body = "op.create_table('gamma', sa.Column('id', sa.Integer))"
    environments.add_revision(tmp_path / "project", "gamma", "beta", body, "raise NotImplementedError")
    databases = await make_databases(1)
    async with engine.running(_registry(pg, project, databases, Strategy("canary"))) as running:
        async with engine.held_target(pg, databases[0]):
            rollout = await _start(running)

            async def waits_for_the_lock() -> bool:
                found = await running.migrations(await running.service.rollout(rollout))
                return found["t000"].attempts == 1

            await until(waits_for_the_lock)
            with pytest.raises(StateError, match="have just been begun and may run gamma"):
                await running.service.rollback(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        assert await _heads(pg, databases[0]) == ["gamma"]


async def test_what_was_skipped_after_a_part_of_it_was_done_is_taken_back(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    _half(tmp_path / "project")
    databases = await make_databases(2)
    await _break(pg, databases[0])
    strategy = Strategy("canary", 1, (Wave("everyone", on_failure=_budget(0)),))
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.PAUSED, failed=1)
        assert await _heads(pg, databases[0]) == ["alpha"]
        await running.service.skip(rollout, by="anna", tenant="t000", track=None, reason="later")
        await running.service.rollback(rollout, by="anna")
        with pytest.raises(StateError, match="can no longer be skipped"):
            await running.service.skip(rollout, by="anna", tenant="t000", track=None, reason="no, leave it")
        assert await _ends(running, rollout) is RolloutState.ROLLED_BACK
        assert await _heads(pg, databases[0]) == []


async def test_a_gate_is_not_passed_by_an_abort_and_a_retry(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(6)
    await _break(pg, databases[0])
    first = Wave("canary", select="canary=true", on_failure=_budget(1), approval=True)
    strategy = Strategy("canary", 8, (first, Wave("everyone")), four_eyes=True)
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        await running.service.abort(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.ABORTED
        (group,) = (await running.service.rollout(rollout)).failures
        await running.service.retry(rollout, by="anna", signature=group.signature)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        await running.service.retry(rollout, by="anna")
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, pending=3)
        assert [await _heads(pg, database) for database in databases[3:]] == [[]] * 3
        with pytest.raises(StateError, match="failed with 'nothing'"):
            await running.service.retry(rollout, by="anna", signature="nothing")
        view = await running.service.rollout(rollout)
        assert view.rollout.waiting == "waiting for approval after wave canary"
        await running.service.abort(rollout, by="anna")
        await _ends(running, rollout)


async def test_what_a_retry_leaves_failed_stops_the_next_wave(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(6)
    await _break(pg, databases[0])
    await engine.provision(pg, databases[1])
    await engine.execute(pg, databases[1], "CREATE TABLE alpha (id int)")
    first = Wave("canary", select="canary=true", on_failure=FailureBudget(0))
    async with engine.running(
        _registry(pg, project, databases, Strategy("canary", 8, (first, Wave("rest"))))
    ) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.PAUSED, failed=2)
        causes = {group.tenants[0]: group.signature for group in (await running.service.rollout(rollout)).failures}
        await engine.execute(pg, databases[1], "DROP TABLE alpha")
        await running.service.retry(rollout, by="anna", signature=causes["t001"])
        await running.reaches(rollout, RolloutState.PAUSED, failed=1, succeeded=2)
        assert [await _heads(pg, database) for database in databases[3:]] == [[]] * 3
        await running.service.abort(rollout, by="anna")
        await _ends(running, rollout)


async def test_a_retry_runs_the_corrected_revision(
    pg: Server, make_databases: MakeDatabases, project: Track, tmp_path: Path
) -> None:
    databases = await make_databases(4)
    folder = tmp_path / "project"
    environments.add_revision(folder, "beta", "alpha", "op.execute('SELECT 1/0')", "pass")
    async with engine.running(_registry(pg, project, databases, _canary())) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.PAUSED, failed=3)
        environments.add_revision(folder, "beta", "alpha", "op.execute('CREATE TABLE good (id int)')", "pass")
        await running.service.retry(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        for database in databases:
            assert await engine.fetch(pg, database, "SELECT 1 FROM pg_class WHERE relname = 'good'")


async def test_a_pause_is_not_overruled_by_what_fails_meanwhile(
    pg: Server, make_databases: MakeDatabases, project: Track
) -> None:
    databases = await make_databases(2)
    await engine.provision(pg, databases[0])
    await _break(pg, databases[1])
    everyone = Wave("everyone", on_failure=FailureBudget(0, then="rollback"))
    async with engine.running(_registry(pg, project, databases, Strategy("canary", 2, (everyone,)))) as running:
        async with engine.locked_table(pg, databases[1], "beta"):
            rollout = await _start(running, select="tenant=t001")
            await running.reaches(rollout, RolloutState.RUNNING, running=1)
            await running.service.pause(rollout, by="anna")
        await running.reaches(rollout, RolloutState.PAUSED, failed=1)
        assert (await running.service.rollout(rollout)).rollout.reason == "paused by anna"
        paused = [one for one in running.of(RolloutStateChanged) if one.state == "paused"]
        assert paused[0].by == "anna"
        await running.service.abort(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.ABORTED


async def test_what_a_person_did_at_a_gate_is_theirs(pg: Server, make_databases: MakeDatabases, project: Track) -> None:
    databases = await make_databases(5)
    strategy = Strategy("canary", 8, (Wave("few", select="canary=true", approval=True), Wave("everyone")))
    async with engine.running(_registry(pg, project, databases, strategy)) as running:
        rollout = await _start(running)
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        create = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
        tables = (
            "CREATE TABLE applied (revision varchar(40))",
            "CREATE TABLE alpha (id int)",
            "CREATE TABLE beta (id int)",
        )
        await engine.execute(pg, databases[4], create, "INSERT INTO alembic_version VALUES ('beta')", *tables)
        await running.service.approve(rollout, by="bert")
        assert await _ends(running, rollout) is RolloutState.SUCCEEDED
        found = {m.tenant: m for m in await running.service.migrations(rollout)}
        assert (found["t004"].state, found["t004"].changed) == ("up_to_date", False)
        await running.service.rollback(rollout, by="anna")
        assert await _ends(running, rollout) is RolloutState.ROLLED_BACK
        assert [await _heads(pg, database) for database in databases] == [[], [], [], [], ["beta"]]
