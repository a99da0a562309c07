from __future__ import annotations

import pytest

from orchestrator import events
from orchestrator.observe.backfill_metrics import MAX_REASONS
from orchestrator.observe.backfills import Backfills
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.metrics import Metrics
from orchestrator.observe.running_totals import RunningTotals
from orchestrator.observe.shard_labels import Shards
from tests.unit.observe import samples
from tests.unit.observe.samples import at


def folded(*told: events.Event) -> Backfills:
    backfills = Backfills()
    for event in told:
        backfills.apply(event)
    return backfills


def scraped(*told: events.Event, seconds: float = 100.0) -> list[str]:
    metrics = Metrics(Fleet(), clock=lambda: at(seconds))
    for event in told:
        metrics.apply(event)
    text = metrics.render()[0].decode()
    return [line for line in text.splitlines() if line.startswith("orchestrator_backfill")]


def test_the_metrics_of_the_contract() -> None:
    told = scraped(
        samples.backfill_started(estimated=1000, size=800),
        samples.backfill_progressed(seen=250, changed=200, rows=200, batches=(0.2, 0.6), estimated=1000, size=900),
        samples.held("lag", at=at(40)),
    )
    assert {
        'orchestrator_backfill_rows_total{revision="b2",shard="pg-1",track="app"} 200.0',
        'orchestrator_backfill_progress_ratio{revision="b2",track="app"} 0.25',
        'orchestrator_backfill_batch_duration_seconds_count{shard="pg-1"} 2.0',
        'orchestrator_backfill_batch_duration_seconds_bucket{le="0.25",shard="pg-1"} 1.0',
        'orchestrator_backfill_batch_size{shard="pg-1"} 900.0',
        'orchestrator_backfill_throttled_seconds_total{reason="lag",shard="pg-1"} 60.0',
    } <= set(told)


def test_the_ratio_goes_with_the_rollout_and_the_rows_stay() -> None:
    told = scraped(
        samples.backfill_started(estimated=100, size=10),
        samples.backfill_finished(seen=120, rows=120),
        samples.changed("succeeded"),
    )
    assert not [line for line in told if "{" in line and ("_ratio" in line or "batch_size" in line)]
    assert 'orchestrator_backfill_rows_total{revision="b2",shard="pg-1",track="app"} 120.0' in told


def test_a_revision_is_as_far_as_its_rows_of_all_targets() -> None:
    begun = [
        samples.backfill_started(estimated=100),
        samples.backfill_started(tenant="beta", estimated=300),
        samples.backfill_started(tenant="gamma", estimated=None),
        samples.backfill_started(tenant="delta", revision="b3", estimated=50, seen=10),
    ]
    assert folded(*begun).progress_ratios() == {("app", "b2"): 0.0, ("app", "b3"): 0.2}
    more = [samples.backfill_progressed(seen=50, estimated=100), samples.backfill_finished(tenant="beta", seen=250)]
    assert folded(*begun, *more).progress_ratios()["app", "b2"] == pytest.approx(300 / 350)
    late = samples.backfill_progressed(seen=500, estimated=100)  # more than anybody thought
    assert folded(*begun, *more, late).progress_ratios()["app", "b2"] == 1.0


def test_one_rollout_of_two_takes_only_its_own_with_it() -> None:
    told = folded(
        samples.backfill_started(estimated=100, seen=100),
        samples.backfill_started(rollout="r2", tenant="beta", estimated=100, seen=50),
        samples.changed("failed"),
    )
    assert told.progress_ratios() == {("app", "b2"): 0.5}


def test_what_is_told_after_its_rollout_has_ended_brings_no_series_back() -> None:
    told = folded(samples.backfill_started(estimated=9), samples.changed("aborted"), samples.backfill_stopped())
    assert told.progress_ratios() == {}
    assert told.batch_sizes() == {}


def test_a_shard_waits_as_long_as_anybody_does() -> None:
    own = {"rollout": "r1", "tenant": "acme", "track": "app"}
    backfills = folded(
        samples.backfill_started(),
        samples.backfill_started(tenant="beta"),
        samples.held("paused", at=at(0), **own),
        samples.held("paused", at=at(10), **own | {"tenant": "beta"}),
        samples.held("lag", at=at(5)),
        samples.released("paused", at=at(20), **own),
        samples.released("lag", at=at(9)),
        samples.released("lag", at=at(30)),
    )
    assert backfills.throttled_seconds(at(25)) == {("pg-1", "paused"): 25.0, ("pg-1", "lag"): 4.0}
    backfills.apply(samples.released("paused", at=at(30), **own | {"tenant": "beta"}))
    assert backfills.throttled_seconds(at(99))["pg-1", "paused"] == 30.0
    backfills.apply(samples.held("paused", at=at(100), **own))
    assert backfills.throttled_seconds(at(101))["pg-1", "paused"] == 31.0


@pytest.mark.parametrize(
    "end",
    [
        samples.backfill_stopped(at=at(10)),
        samples.changed("failed", at=at(10)),
        events.LeaderLost(reason="x", at=at(10)),
    ],
)
def test_nothing_is_held_where_nothing_is_underway(end: events.Event) -> None:
    own = {"rollout": "r1", "tenant": "acme", "track": "app"}
    backfills = folded(
        samples.backfill_started(size=10), samples.held("lag", at=at(0)), samples.held("paused", at=at(5), **own), end
    )
    assert backfills.throttled_seconds(at(99)) == {("pg-1", "lag"): 10.0, ("pg-1", "paused"): 5.0}
    assert backfills.batch_sizes() == {}


def test_a_target_that_ends_lets_go_of_its_own_holds_only() -> None:
    own = {"rollout": "r1", "tenant": "acme", "track": "app"}
    backfills = folded(
        samples.backfill_started(),
        samples.backfill_started(tenant="beta", size=30),
        samples.held("lag", at=at(0)),
        samples.held("paused", at=at(0), **own),
        samples.backfill_finished(at=at(10)),
    )
    assert backfills.throttled_seconds(at(20)) == {("pg-1", "lag"): 20.0, ("pg-1", "paused"): 10.0}
    assert backfills.batch_sizes() == {"pg-1": 30.0}


def test_reasons_are_bounded_on_each_shard() -> None:
    many = {("pg-1", f"probe {n}"): 1.0 for n in range(MAX_REASONS + 5)} | {("pg-2", "lag"): 2.0}
    totals = RunningTotals(Shards(), MAX_REASONS)
    shown = totals.follow(many)
    assert len(shown) == MAX_REASONS + 2
    assert shown["pg-1", "other"] == 5.0
    assert shown["pg-2", "lag"] == 2.0
    assert totals.follow(many) == shown
    assert totals.follow({pair: n + 1 for pair, n in many.items()})["pg-1", "other"] == 10.0


def test_the_time_of_waiting_never_falls_while_shards_get_and_lose_names() -> None:
    metrics = Metrics(Fleet(), clock=lambda: at(100), shards=1)
    waited = {("pg-1", "lag"): 1.0, ("pg-2", "lag"): 100.0, ("pg-3", "lag"): 50.0}
    metrics.backfills.throttled = lambda: waited

    def shown(*shards: str) -> dict[str, float]:
        metrics.describe_registry(limits=dict.fromkeys(shards, 8), targets={})
        metrics.render()
        value, name = metrics.registry.get_sample_value, "orchestrator_backfill_throttled_seconds_total"
        found = {shard: value(name, {"shard": shard, "reason": "lag"}) for shard in ("pg-1", "pg-2", "pg-3", "other")}
        return {shard: seconds for shard, seconds in found.items() if seconds is not None}

    assert shown("pg-1", "pg-2", "pg-3") == {"pg-1": 1, "other": 150}
    waited["pg-2", "lag"] = 107.0
    assert shown("pg-2", "pg-3") == {"pg-2": 7, "other": 150}, "what it has waited before is in `other`"
    waited["pg-3", "lag"] = 49.0  # a moment of the clock's
    assert shown("pg-2", "pg-3") == {"pg-2": 7, "other": 150}
    waited["pg-3", "lag"] = 52.0
    assert shown("pg-3") == {"pg-3": 2, "other": 150}


def test_who_knows_better_tells_of_the_time_of_waiting() -> None:
    metrics = Metrics(Fleet(), clock=lambda: at(100))
    metrics.apply(samples.held("lag", at=at(40)))
    metrics.backfills.throttled = lambda: {("pg-1", "budget"): 7.5}
    lines = [line for line in metrics.render()[0].decode().splitlines() if "throttled_seconds_total{" in line]
    assert lines == ['orchestrator_backfill_throttled_seconds_total{reason="budget",shard="pg-1"} 7.5']
