"""However many tenants there are: as many series, and a quick scrape. With all that can be told of a large fleet."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest

from orchestrator import events
from orchestrator.observe.fleet import FLEET_STATES
from orchestrator.observe.rollouts import MIGRATION_STATES, OUTCOMES
from orchestrator.observe.shard_labels import OTHER
from tests.unit.observe import samples
from tests.unit.observe.samples import Place
from tests.unit.observe.test_metrics import Observed

REVISIONS, ROLLOUTS, LAGGARDS = 30, 3, 10
MOST_SERIES, MOST_SECONDS = 2_000, 0.2
WAVES = ("canary", "tenth", "everyone")


def large(count: int, *, laggards: int = LAGGARDS, on: int = 16, **options: Any) -> Observed:
    """Tenants in every state and of thirty revisions, three rollouts of three waves over them that come to every end,
    and on every shard backfills and backups."""
    it = Observed(*(Place(f"tenant-{n}", shard=f"pg-{n % on}") for n in range(count)), laggards=laggards, **options)
    shards = {f"pg-{n}": 8 for n in range(on)}
    it.metrics.describe_registry(limits=shards, targets={"file": count}, backups=True)
    it.metrics.describe_sources(stale={"saas": False}, refreshed={}, ignored={"saas": 0})
    it.metrics.backfills.signals = lambda: {(shard, f"signal {n}"): 1.0 for shard in shards for n in range(6)}
    for number in range(ROLLOUTS):
        waves = {wave: count // (ROLLOUTS * len(WAVES)) for wave in WAVES}
        it.tell(samples.created(rollout=f"r{number}", total=sum(waves.values()), waves=waves))
    for n in range(count):
        _tell(it, n, on)
    for shard in shards:
        _burden(it, shard)
    return it


@cache
def untouched(count: int, on: int) -> Observed:
    """As `large`, for those who only look: making it takes a second."""
    return large(count, on=on)


def _tell(it: Observed, n: int, shards: int) -> None:
    tenant, shard, kind = f"tenant-{n}", f"pg-{n % shards}", n // shards
    wave, rollout = WAVES[kind % len(WAVES)], f"r{kind % ROLLOUTS}"
    it.tell(
        samples.observed(tenant, FLEET_STATES[kind % 6], shard=shard, heads=(f"revision {kind % REVISIONS}",)),
        samples.started(tenant, shard=shard, wave=wave, rollout=rollout),
        samples.retried(tenant, shard=shard, wave=wave, rollout=rollout),
    )
    outcome, execution = OUTCOMES[kind % len(OUTCOMES)], ("online", "replay")[kind % 2]
    place = {"shard": shard, "wave": wave, "rollout": rollout}
    it.tell(samples.finished(tenant, outcome, signature=f"cause {n}", execution=execution, **place))


def _burden(it: Observed, shard: str) -> None:
    it.tell(
        events.LockWaited(shard=shard, seconds=0.1, acquired=True),
        events.BackupTaken(rollout="r1", track="app", tenant="acme", shard=shard, wave="canary", seconds=1.0),
        samples.backfill_started(shard=shard, tenant=shard, estimated=100, size=10, rollout="r1"),
        samples.backfill_progressed(shard=shard, tenant=shard, rows=10, batches=(0.1,), rollout="r1"),
        *(samples.held(reason, shard=shard) for reason in ("lag", "hours", "paused")),
    )


def series(it: Observed) -> int:
    return sum(len(family.samples) for family in it.families().values())


@pytest.mark.parametrize("shards", [16, 50])
def test_ten_thousand_tenants_have_the_series_of_few_and_no_more_than_are_promised(shards: int) -> None:
    many, few = untouched(10_000, shards), large(125 * shards, on=shards)
    assert series(many) == series(few)
    assert series(many) <= MOST_SERIES, series(many)
    states = {sample.labels["state"] for sample in many.families()["orchestrator_rollout_targets"].samples}
    assert states == set(MIGRATION_STATES)


def busy(it: Observed, rollouts: int) -> None:
    """As many more rollouts of five waves that fail for many reasons."""
    for number in range(rollouts):
        of = {"rollout": f"more-{number}", "track": "app"}
        waves = {f"wave {n}": 20 for n in range(5)}
        it.tell(samples.created(**of, total=100, waves=waves))
        allowed = dict.fromkeys(waves, 3)
        counts = {"pending": 100}
        by_wave = {wave: {"pending": total} for wave, total in waves.items()}
        it.tell(samples.changed("running", **of, total=100, counts=counts, waves=by_wave, allowed=allowed))
        for n in range(15):
            it.tell(samples.finished(f"tenant-{n}", "failed", signature=f"cause {n}", wave="wave 0", **of))


@pytest.mark.parametrize("shards", [1, 50])
def test_twenty_rollouts_of_five_waves_are_within_what_is_promised(shards: int) -> None:
    it = large(10_000, on=shards)
    busy(it, 20)
    assert series(it) <= MOST_SERIES, series(it)
    told = it.families()["orchestrator_rollout_targets"].samples
    assert {sample.labels["rollout"] for sample in told} >= {"more-19"}
    assert sum(sample.value for sample in told if sample.labels["rollout"] == "more-19") == 100
    budgets = it.families()["orchestrator_rollout_failure_budget_used_ratio"].samples
    assert {sample.labels["rollout"] for sample in budgets} >= {f"more-{n}" for n in range(20)}, "an alert looks at it"


def test_the_newest_rollouts_are_told_wave_by_wave_and_older_ones_in_sum() -> None:
    it = large(10_000, on=16)
    busy(it, 20)
    told = it.families()["orchestrator_rollout_targets"].samples
    waves = {
        rollout: {sample.labels["wave"] for sample in told if sample.labels["rollout"] == rollout}
        for rollout in ("more-0", "more-19")
    }
    assert waves["more-19"] == {f"wave {n}" for n in range(5)}
    assert waves["more-0"] == {OTHER}
    failed = [one.value for one in told if (one.labels["rollout"], one.labels["state"]) == ("more-0", "failed")]
    assert failed == [15]


def test_many_tracks_with_many_rollouts_and_revisions_are_within_what_is_promised() -> None:
    places = [Place(f"tenant-{n}", f"track-{n % 20}", f"pg-{n // 20 % 16}") for n in range(6_400)]
    it = Observed(*places)
    it.metrics.describe_registry(limits={f"pg-{n}": 8 for n in range(16)}, targets={"file": 6_400}, backups=True)
    for n, place in enumerate(places):
        of = {"track": place.track, "shard": place.shard}
        it.tell(samples.observed(place.tenant, "behind", heads=(f"revision {n // 20 % 60}",), **of))
        it.tell(samples.finished(place.tenant, "failed", execution="online", **of))
    for n in range(16):
        _burden(it, f"pg-{n}")
    busy(it, 20)
    assert series(it) <= MOST_SERIES, series(it)


def named(it: Observed, family: str) -> set[str]:
    return {sample.labels["shard"] for sample in it.families()[f"orchestrator_{family}"].samples}


def test_of_fifty_shards_all_are_named_and_some_in_histograms() -> None:
    it = untouched(10_000, 50)
    for family in ("targets", "migrations", "migrations_in_progress", "shard_concurrency_limit", "backfill_rows"):
        assert named(it, family) == {f"pg-{n}" for n in range(50)}
    for family in ("migration_duration_seconds", "lock_wait_seconds", "backfill_batch_duration_seconds"):
        assert named(it, family) >= {"pg-0", "pg-1", OTHER}
        assert len(named(it, family)) < 16


@pytest.mark.parametrize("shards", [200, 600])
def test_more_shards_make_no_more_series_and_nothing_is_left_out(shards: int) -> None:
    it = untouched(10_000, shards)
    assert series(it) <= MOST_SERIES, series(it)
    targets = it.families()["orchestrator_targets"].samples
    assert sum(sample.value for sample in targets) == 10_000
    assert sum(sample.value for sample in it.families()["orchestrator_shard_concurrency_limit"].samples) == 8 * shards
    durations = it.families()["orchestrator_migration_duration_seconds"].samples
    migrations = it.families()["orchestrator_migrations"].samples
    timed = sum(sample.value for sample in migrations if sample.labels["outcome"] in ("succeeded", "failed"))
    assert sum(sample.value for sample in durations if sample.name.endswith("_count")) == timed


def test_of_several_tracks_as_many_shards_are_named_as_there_is_room_for() -> None:
    places = [Place(f"tenant-{n}", f"track-{n % 3}", f"pg-{n % 50}") for n in range(9_000)]
    it = Observed(*places)
    it.metrics.describe_registry(limits={f"pg-{n}": 8 for n in range(50)}, targets={"file": 9_000}, backups=True)
    for n, place in enumerate(places):
        outcome = OUTCOMES[n // 150 % len(OUTCOMES)]
        it.tell(samples.finished(place.tenant, outcome, track=place.track, shard=place.shard, execution="online"))
        it.tell(samples.finished(place.tenant, "failed", track=place.track, shard=place.shard, execution="replay"))
    for n in range(50):
        _burden(it, f"pg-{n}")
    assert 10 <= len(named(it, "targets")) < 50
    assert series(it) <= MOST_SERIES, series(it)


def test_whoever_wants_more_or_fewer_shards_named_says_so() -> None:
    assert len(named(large(2_000, on=20, shards=5), "targets")) == 6
    few, all_of_them = large(2_000, on=100, shards=20), large(2_000, on=100, shards=100)
    assert len(named(few, "migration_duration_seconds")) == 21
    assert len(named(all_of_them, "migration_duration_seconds")) == 100


@pytest.mark.parametrize("shards", [16, 50, 200])
def test_a_scrape_of_ten_thousand_tenants_is_quick(shards: int) -> None:
    it = untouched(10_000, shards)
    took = []
    for _ in range(5):
        start = time.process_time()
        it.metrics.render()
        took.append(time.process_time() - start)
    assert min(took) <= MOST_SECONDS


def test_tenants_are_named_only_where_somebody_has_asked_for_it() -> None:
    quiet = large(100, laggards=0)
    assert b'tenant="' not in quiet.metrics.render()[0]
    laggards = large(100).families()["orchestrator_laggard_info"].samples
    assert len(laggards) == LAGGARDS
    assert {sample.labels["state"] for sample in laggards} <= {"behind", "unprovisioned"}
