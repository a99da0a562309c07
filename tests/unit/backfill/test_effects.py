"""What an order comes to for the backfills that are underway."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.backfill.effects import effect
from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.steering import Action, Order, Scope
from orchestrator.backfill.view import Hold, Underway

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
SHARD, TENANT = Scope(shard="pg-1"), Scope(tenant="acme")


def order(action: Action, scope: Scope) -> Order:
    return Order(scope, action, "user:ann", NOON)


def view(tenant: str, *holds: str, shard: str = "pg-1") -> Underway:
    backfill = Backfill("c3", "upgrade", 1, "set", "t", ("id",), 100)
    held = tuple(Hold(reason, "why", NOON) for reason in holds)
    return Underway("r1", tenant, "app", shard, backfill, Progress(), 100, None, None, held, NOON, NOON)


def test_an_order_concerns_what_it_covers() -> None:
    actions: tuple[Action, ...] = ("pause", "abort", "adjust")
    for action in actions:
        came_to = effect([], order(action, TENANT), [view("acme"), view("globex")])
        assert (came_to.count, came_to.taken_back, came_to.paused_by, came_to.holds) == (1, (), (), {})


def resumed(scope: Scope, *paused: Scope, views: Sequence[Underway] = ()) -> Any:
    views = views or [view("acme"), view("globex")]
    came_to = effect([order("pause", one) for one in paused], order("resume", scope), views)
    taken, left = ([one.scope for one in pauses] for pauses in (came_to.taken_back, came_to.paused_by))
    return came_to.count, taken, left, came_to.holds


def test_a_resume_under_a_wider_pause_lets_nothing_go_on() -> None:
    assert resumed(TENANT, SHARD, TENANT) == (0, [TENANT], [SHARD], {"paused": 1})
    assert resumed(TENANT, Scope()) == (0, [], [Scope()], {"paused": 1})


def test_a_resume_takes_back_what_lies_within_it() -> None:
    assert resumed(Scope(), SHARD, TENANT) == (2, [SHARD, TENANT], [], {})
    assert resumed(SHARD, SHARD, TENANT) == (1, [SHARD], [TENANT], {"paused": 1})
    assert resumed(Scope(), TENANT) == (1, [TENANT], [], {}), "the other one was not paused"


def test_what_waits_for_something_else_does_not_go_on() -> None:
    views = [view("acme", "paused", "replication_lag"), view("globex", "paused", "duty")]
    assert resumed(SHARD, SHARD, views=views) == (1, [SHARD], [], {"replication_lag": 1})


def test_pauses_of_others_are_not_told() -> None:
    elsewhere = Scope(shard="pg-2")
    assert resumed(TENANT, TENANT, elsewhere) == (1, [TENANT], [], {})
    paused = [order("pause", TENANT), order("pause", elsewhere)]
    came_to = effect(paused, order("resume", TENANT), [], {("acme", "pg-2")})
    assert [one.scope for one in came_to.paused_by] == [elsewhere], "what begins there will wait"
