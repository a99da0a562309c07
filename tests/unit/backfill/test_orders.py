"""What people have ordered, and what of it counts for a backfill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.backfill import orders
from orchestrator.backfill.orders import Who
from orchestrator.backfill.steering import Action, Adjustment, Order, Scope
from orchestrator.registry.backfills import ProbeSignal, Rules, Threshold
from orchestrator.registry.model import Check

BEGAN = datetime(2026, 11, 30, 12, tzinfo=UTC)
WHO = Who("r1", "pg-1", "acme", "4d5e6f")
ALL, SHARD, TENANT = Scope(), Scope(shard="pg-1"), Scope(tenant="acme")
NARROW = Scope(rollout="r1", tenant="acme", revision="4d5e6f")
RULES = Rules(rows_per_second=5000.0, duty=0.5)


def order(action: Action, scope: Scope, minutes: float = 1.0, **adjustment: object) -> Order:
    made = Adjustment(**adjustment) if action == "adjust" else None  # type: ignore[arg-type]
    return Order(scope, action, "ops", BEGAN + timedelta(minutes=minutes), adjustment=made)


def is_paused(*given: Order) -> bool:
    return orders.standing(given, RULES, WHO).paused is not None


def test_a_pause_counts_until_the_same_is_resumed() -> None:
    assert not is_paused()
    assert is_paused(order("pause", SHARD))
    assert not is_paused(order("pause", SHARD), order("resume", SHARD, 2))
    assert is_paused(order("pause", SHARD), order("resume", SHARD, 2), order("pause", SHARD, 3))
    assert is_paused(order("pause", SHARD), order("resume", TENANT, 2)), "of another scope"
    assert is_paused(order("pause", SHARD), order("pause", TENANT), order("resume", SHARD, 2))
    assert not is_paused(order("pause", SHARD), order("pause", TENANT), order("pause", NARROW), order("resume", ALL, 2))
    assert not is_paused(order("pause", NARROW), order("resume", TENANT, 2)), "it lies within"
    assert is_paused(order("pause", TENANT), order("resume", NARROW, 2)), "it holds others, too"
    assert not is_paused(order("pause", SHARD, 2), order("resume", SHARD)), "as they come, not by their time"


@pytest.mark.parametrize("scope", [Scope(shard="pg-2"), Scope(tenant="globex"), Scope(rollout="r1", revision="x")])
def test_what_is_ordered_of_others_does_not_count(scope: Scope) -> None:
    given = [order("pause", scope), order("abort", scope), order("adjust", scope, duty=0.1)]
    assert orders.standing(given, RULES, WHO) == orders.Standing(RULES)


def test_the_first_of_several_pauses_is_told() -> None:
    first = order("pause", TENANT, 1)
    assert orders.standing([first, order("pause", ALL, 0)], RULES, WHO).paused is first


def test_the_narrower_scope_counts_and_of_two_alike_the_later() -> None:
    given = [order("adjust", TENANT, 1, duty=0.3), order("adjust", ALL, 2, duty=0.9, batch_size=7)]
    rules = orders.standing(given, RULES, WHO).rules
    assert (rules.duty, rules.batch_size) == (0.3, 7)
    given.append(order("adjust", SHARD, 3, duty=0.4))
    assert orders.standing(given, RULES, WHO).rules.duty == 0.4
    given.append(order("adjust", NARROW, 0, duty=0.1))
    assert orders.standing(given, RULES, WHO).rules.duty == 0.1


def test_an_adjustment_replaces_the_one_before_and_an_empty_one_takes_it_back() -> None:
    given = [order("adjust", TENANT, 1, duty=0.3), order("adjust", TENANT, 2, batch_size=7)]
    rules = orders.standing(given, RULES, WHO).rules
    assert (rules.duty, rules.batch_size) == (0.5, 7)
    assert orders.standing([*given, order("adjust", TENANT, 3)], RULES, WHO).rules == RULES


def test_a_threshold_keeps_the_hysteresis_of_the_file() -> None:
    probe = ProbeSignal(Check("queue", "sql", "SELECT 1"), Threshold(100.0, 10.0))
    rules = replace(RULES, thresholds={"replication_lag": Threshold(10.0, 2.0)}, probes=(probe,))
    ordered = order("adjust", ALL, thresholds={"replication_lag": 20.0, "probe:queue": 200.0, "wal_waiting": 10.0})
    found = orders.standing([ordered], rules, WHO).rules.thresholds
    assert found == {
        "replication_lag": Threshold(20.0, 4.0),
        "probe:queue": Threshold(200.0, 20.0),
        "wal_waiting": Threshold(10.0, 8.0),
    }


def test_the_budget_is_the_shards_and_no_tenants_order_changes_it() -> None:
    given = [order("adjust", ALL, 2, rows_per_second=900.0), order("adjust", TENANT, 3, rows_per_second=5.0, duty=0.1)]
    assert orders.of_shard(given, RULES, "pg-1").rows_per_second == 900.0
    assert orders.of_shard(given, RULES, "pg-1").duty == 0.5
    given.append(order("adjust", SHARD, 1, rows_per_second=0.0))
    assert orders.of_shard(given, RULES, "pg-1").rows_per_second is None
    assert orders.of_shard(given, RULES, "pg-2").rows_per_second == 900.0
    assert orders.standing(given, RULES, WHO).rules.rows_per_second == 5000.0


def test_what_no_longer_counts_need_not_be_kept() -> None:
    given = [
        order("pause", SHARD, 1),
        order("pause", SHARD, 2),
        order("pause", TENANT, 3),
        order("resume", TENANT, 4),
        order("adjust", ALL, 5, duty=0.2),
        order("adjust", ALL, 6, duty=0.3),
        order("abort", ALL, 7),
    ]
    assert orders.remaining(given) == [given[1], given[5]]
    assert orders.remaining([*given[:3], order("resume", ALL, 8), given[4]]) == [given[4]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (order("adjust", TENANT, rows_per_second=5.0), "shared by all backfills of a shard"),
        (order("adjust", Scope(shard="pg-1", rollout="r1"), rows_per_second=5.0), "shared by all backfills of a shard"),
        (order("adjust", SHARD, rows_per_second=-5.0), "0, for no budget, or more"),
        (order("adjust", SHARD, duty=0.0), "above 0 and at most 1"),
        (order("adjust", SHARD, batch_size=0), "from 1 to 1,000,000 rows"),
        (order("adjust", SHARD, thresholds={"lag": 5.0}), "no signal 'lag'"),
        (order("adjust", SHARD, thresholds={"wal_waiting": float("nan")}), "0 or more"),
        (Order(SHARD, "pause", "ops", BEGAN, adjustment=Adjustment()), "goes with `adjust`"),
        (Order(SHARD, "adjust", "ops", BEGAN), "goes with `adjust`"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Order, message: str) -> None:
    assert message in (orders.refusal(given) or "")


def test_what_can_be_meant_is_not() -> None:
    thresholds = {"wal_waiting": 0.0, "probe:queue": 5.0}
    whole = order("adjust", ALL, rows_per_second=0.0, duty=1.0, batch_size=5, thresholds=thresholds)
    for one in (whole, order("pause", NARROW), order("resume", ALL), order("abort", SHARD), order("adjust", TENANT)):
        assert orders.refusal(one) is None


PROBES = (
    ProbeSignal(Check("reads", "sql", "SELECT 1"), Threshold(20.0, 10.0)),
    ProbeSignal(Check("health", "http", "http://127.0.0.1/"), Threshold(0.5, 0.5), is_number=False),
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("replication_lag", None),
        (
            "threads_running",
            "`threads_running` is told by mariadb and mysql, and what is meant is on postgresql: name one of theirs",
        ),
        ("probe:reads", None),
        ("probe:raeds", "there is no probe 'probe:raeds': did you mean 'probe:reads'?"),
        ("probe:health", "`probe:health` is answered with yes or no, and has no threshold: name another, or pause"),
    ],
)
def test_a_threshold_that_would_hold_nothing(name: str, said: str | None) -> None:
    adjustment = Adjustment(thresholds={name: 5.0})
    assert orders.unheard(adjustment, [("postgresql", Rules(probes=PROBES)), ("postgresql", Rules())]) == said
    assert orders.unheard(adjustment, []) is None, "a shard that the registry has no more"
