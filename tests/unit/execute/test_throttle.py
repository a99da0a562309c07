"""What holds backfills, what lets them go, and what is told of it; the server is one that tells what the test says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator.backfill.model import Go, Progress, Ran, Refused, Stop, Wait
from orchestrator.backfill.signals import LOST
from orchestrator.backfill.steering import Action, Adjustment, Order, Scope
from orchestrator.errors import MigrationFailedError
from orchestrator.events import (
    BackfillFinished,
    BackfillHeld,
    BackfillProgressed,
    BackfillReleased,
    BackfillStarted,
    BackfillStopped,
    now,
)
from orchestrator.execute import sampling, turns
from orchestrator.registry.backfills import Rules, Threshold
from orchestrator.registry.times import Hours, Window
from orchestrator.rollout.interruptions import Interruption
from tests.engine import until
from tests.throttling import LAG, Bench, Loop, Server, only

RULES = only(replication_lag=Threshold(5.0, 4.0))


@pytest.fixture(autouse=True)
def _be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(turns, "LONGEST_SECONDS", 0.05)


@pytest.fixture
def server() -> Server:
    return Server()


def order(bench: Bench, action: Action, scope: Scope | None = None, **fields: Any) -> int:
    return bench.throttle.order(Order(scope or Scope(), action, "user:ann", bench.clocks.moment(), **fields)).count


def reasons(bench: Bench) -> set[str]:
    return {hold.reason for view in bench.throttle.underway() for hold in view.holds}


async def test_a_signal_above_its_threshold_holds_all_of_the_shard_and_is_told_once(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop("acme") as acme, bench.loop("globex") as globex:
        await acme.go()
        await globex.go()
        server.tells[LAG] = 7.0
        await acme.held()
        await globex.held()
        assert reasons(bench) == {LAG}
        text = bench.throttle.underway()[0].holds[0].text
        assert "7 s" in text
        assert "above 5 s" in text
        assert "standby 'a'" in text
        server.tells[LAG] = 4.5  # less, and not yet enough
        looks = server.looks
        await until(lambda: server.looks > looks + 2)
        assert isinstance(await acme.ask(), Wait)
        server.tells[LAG] = 1.0
        await acme.go()
        assert bench.of(BackfillReleased) == []  # the other one has not asked yet
        await globex.go()
        assert reasons(bench) == set()
    (held,), (released,) = bench.of(BackfillHeld), bench.of(BackfillReleased)
    assert (held.shard, held.reason, held.tenant) == ("pg", LAG, None)
    assert released.seconds >= 0
    assert bench.throttle.throttled_seconds()["pg", LAG] > 0


async def test_whatever_holds_at_once_is_all_shown(server: Server) -> None:
    server.tells["active_sessions"] = 0.0
    bench = Bench(only(replication_lag=Threshold(5, 4), active_sessions=Threshold(10, 8)), server)
    async with bench.loop() as loop:
        await loop.go()
        server.tells |= {LAG: 9.0, "active_sessions": 11.0}
        order(bench, "pause", Scope(tenant="acme"), reason="month's end")
        await loop.held()

        async def both() -> bool:
            await loop.held()
            return reasons(bench) == {LAG, "active_sessions", "paused"}

        await until(both)
        assert "user:ann: month's end" in {hold.text.removeprefix("paused by ") for hold in _holds(bench)}
        server.tells |= {LAG: 0.0, "active_sessions": 0.0}
        order(bench, "resume", Scope(tenant="acme"))
        await loop.go()
    paused = next(event for event in bench.of(BackfillHeld) if event.reason == "paused")
    assert (paused.rollout, paused.tenant, paused.track) == ("r1", "acme", "app")


def _holds(bench: Bench) -> list[Any]:
    return [hold for view in bench.throttle.underway() for hold in view.holds]


async def test_nobody_begins_before_the_signals_have_been_read(server: Server) -> None:
    server.hangs = True
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        assert isinstance(await loop.ask(), Wait)
        assert _holds(bench) == []  # that is how each of them begins
        bench.clocks.ahead = 6.0
        assert isinstance(await loop.ask(), Wait)
        (hold,) = _holds(bench)
        assert hold.reason == LOST
        assert "not been read yet" in hold.text
        assert bench.of(BackfillStarted) == []


async def test_what_cannot_be_read_for_want_of_a_right_holds_and_says_what_to_grant(server: Server) -> None:
    server.tells[LAG] = "it cannot be seen: grant pg_monitor to migrator"
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await until(lambda: server.looks > 0)
        assert isinstance(await loop.ask(), Wait)
        assert "grant pg_monitor to migrator" in _holds(bench)[0].text
        bench.clocks.ahead = 16.0
        await loop.held()
        (hold,) = _holds(bench)
        assert hold.reason == LOST
        assert "grant pg_monitor to migrator" in hold.text
        bench.rule(only())  # nobody wants to know any more
        await loop.go()


@pytest.mark.parametrize("how", ["fails", "hangs", "dies"])
async def test_a_signal_that_is_lost_holds_after_fifteen_seconds_and_not_before(server: Server, how: str) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        if how == "fails":
            server.fails = "the server is away"
        elif how == "hangs":
            server.hangs = True
        else:
            bench.throttle._loads["pg"]._sampling.cancel()
        looks = server.looks
        await anyio.lowlevel.checkpoint()
        assert isinstance(await loop.ask(), Go)
        bench.clocks.ahead = 14.0
        assert isinstance(await loop.ask(), Go)
        bench.clocks.ahead = 16.0
        await loop.held()
        (hold,) = _holds(bench)
        assert hold.reason == LOST
        if how == "fails":
            assert "the server is away: look after it" in hold.text
            server.fails = None
            await loop.go()  # the session is opened again
            assert server.looks > looks


async def test_a_hang_of_the_server_is_given_up_and_asked_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.05)
    server.hangs = True
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await until(lambda: len(server.opened) > 1)
        server.hangs = False
        await loop.go()


async def test_another_database_is_asked_where_one_is_missing(server: Server) -> None:
    bench = Bench(RULES, server)
    server.missing = {"db_acme", "db_hooli"}
    async with bench.loop("acme"), bench.loop("hooli"), bench.loop("globex") as globex:
        await globex.go()
    assert set(server.opened) == {"db_globex"}


async def test_an_order_counts_at_once_for_what_it_covers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST_SECONDS", 30.0)  # who waits is woken
    bench = Bench(RULES, server)
    async with bench.loop("acme") as acme, bench.loop("globex") as globex, bench.loop("hooli", rollout="r2") as hooli:
        for loop in (acme, globex, hooli):
            await loop.go()
        assert order(bench, "pause", Scope(rollout="r1")) == 2
        answers: dict[str, object] = {}

        async def ask(name: str, loop: Loop) -> None:
            answers[name] = await loop.ask()

        async with anyio.create_task_group() as tasks:
            for name, loop in (("acme", acme), ("globex", globex), ("hooli", hooli)):
                tasks.start_soon(ask, name, loop)
            await until(lambda: "hooli" in answers)
            assert reasons(bench) == {"paused"}
            assert bench.throttle.resting() == {"r1": 2}
            assert order(bench, "abort", Scope(tenant="globex"), reason="wrong column") == 1
            await until(lambda: "globex" in answers)
            assert order(bench, "resume", Scope(rollout="r1")) == 1
        assert answers["globex"] == Stop("aborted", "aborted by user:ann: wrong column")
        assert isinstance(answers["acme"], Go)
        assert isinstance(answers["hooli"], Go)
    (stopped,) = [event for event in bench.of(BackfillStopped) if event.kind == "aborted"]
    assert stopped.tenant == "globex"


async def test_a_resume_answers_with_those_that_really_go_on(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop("acme") as acme, bench.loop("globex") as globex:
        await acme.go()
        await globex.go()
        order(bench, "pause", Scope(shard="pg"), reason="month-end")
        order(bench, "pause", Scope(tenant="globex"))
        await acme.held()
        await globex.held()
        assert order(bench, "resume", Scope(tenant="acme")) == 0
        assert isinstance(await acme.ask(), Wait)
        assert order(bench, "resume", Scope(shard="pg")) == 1
        await acme.go()
        assert isinstance(await globex.ask(), Wait)
        order(bench, "pause", Scope(shard="pg"))
        server.tells[LAG] = 9.0

        async def lags() -> bool:
            await globex.held()
            return LAG in reasons(bench)

        await until(lags)
        assert order(bench, "resume") == 1, "acme has not asked since, and is not known to lag"
        assert isinstance(await globex.ask(), Wait)
        assert "paused" not in reasons(bench)
        server.tells[LAG] = 0.0
        await acme.go()
        await globex.go()


async def test_an_abort_does_not_concern_what_begins_later(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        order(bench, "abort")
        assert (await loop.stopped()).kind == "aborted"
    bench.clocks.ahead += 1
    async with bench.loop() as loop:
        await loop.go()
        order(bench, "pause", Scope(tenant="nobody"))
        assert [one.action for one in bench.throttle.orders] == ["pause"]


async def test_an_abort_between_two_backfills_of_a_migration_concerns_neither(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        loop.progress = Progress(finished=True)
        await loop.ask()
        assert order(bench, "abort", Scope(tenant="acme")) == 0
        bench.clocks.ahead += 600
        loop.revision, loop.progress = "another", Progress(estimated=1000)
        await loop.go()
        assert order(bench, "abort", Scope(tenant="acme"), reason="x") == 1
        assert await loop.ask() == Stop("aborted", "aborted by user:ann: x")
    assert bench.throttle.orders == ()


@pytest.mark.parametrize("scope", [Scope(tenant="acme"), Scope(revision="4d5e6f")])
async def test_an_abort_in_the_last_batch_ends_the_migration_before_what_comes_next(
    server: Server, scope: Scope
) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        assert order(bench, "abort", scope, reason="x") == 1
        loop.progress = Progress(finished=True)
        for _ in range(2):  # the second time, whoever asked has not heard the answer
            assert await loop.ask() == Stop("aborted", "aborted by user:ann: x")
        assert len(bench.of(BackfillStarted)) == len(bench.of(BackfillFinished)) == 1
        assert bench.of(BackfillStopped) == []
    async with bench.loop() as loop:
        await loop.go()


async def test_a_pause_in_the_last_batch_holds_what_comes_next(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        assert order(bench, "pause", Scope(shard="pg"), reason="x") == 1
        loop.progress = Progress(finished=True)
        assert isinstance(await loop.ask(), Wait)
        assert reasons(bench) == {"paused"}
        assert bench.of(BackfillFinished) == []
        assert order(bench, "resume", Scope(shard="pg")) == 1
        assert isinstance(await loop.ask(), Go)
        assert len(bench.of(BackfillFinished)) == 1


async def test_the_same_backfill_of_another_schema_is_another_one(server: Server) -> None:
    """env.py may lead several schemas of a database through the same revision, one after the other."""
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        for _ in range(2):
            loop.progress = Progress(estimated=1000)
            await loop.go()
            assert order(bench, "pause", Scope(tenant="acme")) == 1
            await loop.held()
            assert order(bench, "resume", Scope(tenant="acme")) == 1
            await loop.go()
            loop.progress = Progress(finished=True)
            assert isinstance(await loop.ask(), Go)
    assert len(bench.of(BackfillStarted)) == len(bench.of(BackfillFinished)) == 2


async def test_thresholds_sizes_and_budgets_change_while_it_runs(server: Server) -> None:
    bench = Bench(RULES, server)
    server.tells[LAG] = 7.0
    async with bench.loop() as loop:
        await loop.held()
        order(bench, "adjust", Scope(shard="pg"), adjustment=Adjustment(thresholds={LAG: 10.0}, batch_size=7))
        assert (await loop.go()).size == 7
        order(bench, "adjust", Scope(shard="pg"), adjustment=Adjustment(thresholds={LAG: 10.0}, rows_per_second=10.0))
        assert (await loop.go()).size <= 10
        order(bench, "adjust", Scope(shard="pg"), adjustment=Adjustment())
        await loop.held()
        assert LAG in reasons(bench)


async def test_whoever_stops_it_is_heard_before_each_batch_and_while_it_waits(server: Server) -> None:
    wanted: list[Interruption] = []
    bench = Bench(RULES, server)
    async with bench.loop(stop=lambda: next(iter(wanted), None)) as loop:
        await loop.go()
        server.tells[LAG] = 100.0
        await loop.held()
        wanted.append(Interruption("held", "the rollout is paused: lunch"))
        await loop.held()
        assert reasons(bench) == {LAG, "rollout_paused"}
        wanted[0] = Interruption("pending", "the daemon drains")
        assert await loop.ask() == Stop("stopped", "the daemon drains")
        assert bench.throttle.underway() == []
    (stopped,) = bench.of(BackfillStopped)
    assert (stopped.kind, stopped.reason) == ("stopped", "the daemon drains")
    assert len(bench.of(BackfillHeld)) == len(bench.of(BackfillReleased)) == 2


async def test_a_hold_for_longer_than_the_deadline_is_told_once_and_a_persons_pause_is_none(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        order(bench, "pause")
        await loop.held()
        bench.clocks.ahead += 4000
        await loop.held()
        assert bench.overdue == []
        server.tells[LAG] = 50.0

        async def lags() -> bool:
            await loop.held()
            return LAG in reasons(bench)

        await until(lags)
        bench.clocks.ahead += 4000
        await loop.held()
        await loop.held()
        ((rollout, reason),) = bench.overdue
        assert rollout == "r1"
        assert "tickets on acme/app was held for more than 3600 s" in reason


async def test_what_the_loop_itself_waits_for_is_shown_and_counts_for_the_deadline(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        loop.waits = "transactions that write to tickets are still open: session 7"
        await loop.held()
        (hold,) = _holds(bench)
        assert (hold.reason, hold.text) == ("writers", loop.waits)
        bench.clocks.ahead += 4000
        await loop.held()
        assert "session 7" in bench.overdue[0][1]
        loop.waits = None
        await loop.go()
        assert _holds(bench) == []


async def test_outside_of_its_hours_a_backfill_waits(server: Server) -> None:
    bench = Bench(RULES, server)
    opens = bench.clocks.moment() + timedelta(hours=2)
    begin = opens.hour * 60 + opens.minute
    window = Window("quiet", "UTC", open=(Hours(tuple(range(7)), begin, begin + 60),))
    bench.rule(Rules(thresholds=RULES.thresholds, hours=(window,)))
    async with bench.loop() as loop:
        await loop.held()
        await until(lambda: server.looks > 0)
        await loop.held()
        (hold,) = [hold for hold in _holds(bench) if hold.reason == "hours"]
        assert "quiet" in hold.text
        bench.clocks.ahead += 2 * 3600 + 60
        await loop.go()


async def test_pauses_between_batches_are_counted_and_not_told(server: Server) -> None:
    bench = Bench(Rules(thresholds=RULES.thresholds, duty=0.5), server)
    async with bench.loop() as loop:
        answer = await loop.go()
        loop.ran(answer.size, seconds=0.3)
        assert isinstance(await loop.ask(), Wait)
        await loop.go()
    seconds = bench.throttle.throttled_seconds()["pg", "duty"]
    assert seconds >= 0.25
    assert bench.of(BackfillHeld) == []


async def test_the_smallest_batch_that_is_refused_again_and_again_ends_it(server: Server) -> None:
    bench = Bench(Rules(thresholds={}, smallest=10), server)
    async with bench.loop(batch_size=40) as loop:
        sizes = []
        answer: object = await loop.go()
        while isinstance(answer, Go):
            sizes.append(answer.size)
            loop.last = Refused(answer.size, "lock_timeout", 0.01)
            bench.clocks.ahead += 60
            answer = await loop.ask()
            while isinstance(answer, Wait):
                bench.clocks.ahead += 60
                assert reasons(bench) == {"refused"}
                assert bench.throttle.resting() == {}, "what the server refuses is no reason to wait"
                answer = await loop.ask()
        assert sizes[:3] == [40, 20, 10]
        assert isinstance(answer, Stop)
        assert answer.kind == "too_slow"


async def test_tables_signals_hold_their_own_backfill_only(server: Server) -> None:
    bench = Bench(only(dead_rows=Threshold(1000, 500)), server)
    async with bench.loop("acme") as acme, bench.loop("globex") as globex:
        acme.progress = Progress(seen=10, estimated=1000, dead_rows=5000)
        await acme.held()
        await globex.go()
        assert [(event.tenant, event.reason) for event in bench.of(BackfillHeld)] == [("acme", "dead_rows")]
        acme.progress = Progress(seen=10, estimated=1000, dead_rows=100)
        await acme.go()


async def test_a_budget_is_shared_and_bounds_each_batch(server: Server) -> None:
    bench = Bench(Rules(thresholds={}, rows_per_second=2000.0), server)
    async with bench.loop("acme", batch_size=10_000) as acme, bench.loop("globex", batch_size=10_000) as globex:
        first, second = await acme.go(), await globex.go()
        assert first.size <= 400
        assert second.size <= 400
        acme.ran(first.size)
        await acme.held()
        assert bench.throttle.underway()[0].holds == ()  # a moment's wait is none
        order(bench, "adjust", Scope(shard="pg"), adjustment=Adjustment(rows_per_second=0))
        acme.last = None
        assert (await acme.go()).size > first.size  # no jump: it grows from what has run


async def test_small_batches_may_follow_one_another_where_no_budget_counts_them(server: Server) -> None:
    bench = Bench(Rules(thresholds={}, batch_size=100), server)
    async with bench.loop() as loop:
        assert (await loop.go()).seconds == 0  # nothing is known of it yet
        loop.ran(100, seconds=0.1)
        assert await loop.go() == Go(100, 0.4)
        loop.unasked = Ran(100, 100, 60, 0.2), Ran(100, 100, 70, 0.3)
        loop.last = Refused(100, "lock_timeout", 0.1)
        assert (await loop.go()).seconds == 0
        order(bench, "adjust", Scope(shard="pg"), adjustment=Adjustment(rows_per_second=100_000.0, batch_size=100))
        loop.ran(100, seconds=0.1)
        assert (await loop.go()).seconds == 0
        loop.progress = replace(loop.progress, finished=True)
        await loop.ask()
    told = [*bench.of(BackfillProgressed), *bench.of(BackfillFinished)]
    assert sum(event.rows for event in told) == 100 + 60 + 70 + 100
    assert [seconds for event in told for seconds in event.batches] == [0.1, 0.2, 0.3, 0.1]


async def test_what_happens_to_a_backfill_is_told(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        loop.progress = Progress(seen=50, changed=40, estimated=1000)
        answer = await loop.go()
        for _ in range(20):
            loop.ran(answer.size, seconds=0.1)
            answer = await loop.go()
        assert bench.of(BackfillProgressed) == []
        bench.clocks.ahead += 1.5
        loop.ran(answer.size, seconds=0.1)
        answer = await loop.go()
        (view,) = bench.throttle.underway()
        assert view.rows_per_second
        assert view.size == answer.size
        loop.ran(answer.size, seconds=0.1)
        total = loop.progress.changed
        loop.progress = Progress(True, loop.progress.seen, total, 1000)
        await loop.ask()
        assert bench.throttle.underway() == []
    (started,), (progressed,), (finished,) = map(bench.of, (BackfillStarted, BackfillProgressed, BackfillFinished))
    assert (started.seen, started.changed, started.size) == (50, 40, 100)
    assert len(progressed.batches) == 21
    assert progressed.rows + finished.rows == total - 40
    assert (finished.revision, finished.tenant, finished.table) == ("4d5e6f", "acme", "tickets")
    assert bench.of(BackfillStopped) == []


async def test_a_migration_that_fails_ends_its_backfill(server: Server) -> None:
    bench = Bench(RULES, server)

    async def breaks() -> None:
        async with bench.loop() as loop:
            await loop.go()
            raise MigrationFailedError("it broke", kind="x")

    with pytest.raises(MigrationFailedError, match="it broke"):
        await breaks()
    (stopped,) = bench.of(BackfillStopped)
    assert (stopped.kind, stopped.reason) == ("failed", "it broke")


async def test_signals_are_read_from_the_first_turn_to_the_last_and_nothing_is_left(server: Server) -> None:
    before = asyncio.all_tasks()
    bench = Bench(RULES, server, ("pg", "other"))
    async with bench.loop("acme") as acme:
        async with bench.loop("globex"), bench.loop("hooli", shard="other") as hooli:
            await acme.go()
            await hooli.go()
            assert server.sessions == 2
        assert server.sessions == 1
    assert server.sessions == 0
    assert asyncio.all_tasks() == before
    with anyio.move_on_after(5) as scope:  # also where its migration is cancelled
        async with bench.loop("acme") as acme:
            await acme.go()
            scope.cancel()
            await anyio.sleep_forever()
    assert server.sessions == 0
    assert asyncio.all_tasks() == before


async def test_a_shard_that_a_reload_takes_away_keeps_its_rules(server: Server) -> None:
    bench = Bench(RULES, server)
    async with bench.loop() as loop:
        await loop.go()
        server.tells[LAG] = 9.0
        bench.registry = type(bench.registry)(bench.registry.source, "other", {}, {}, ())
        await loop.held()
        assert LAG in reasons(bench)


def test_an_order_that_stands_may_be_given_again() -> None:
    bench = Bench(RULES, Server())
    given = Order(Scope(shard="pg"), "pause", "user:ann", now())
    for _ in range(2):
        assert bench.throttle.order(given).count == 0
    assert list(bench.throttle.orders) == [given]
    order(bench, "resume", Scope(shard="pg"))
    assert not bench.throttle.orders
    bench.throttle.restore([given])
    assert list(bench.throttle.orders) == [given]
    bench.throttle.restore([])
    assert not bench.throttle.orders
