"""However many tenants there are: as many series, and a quick scrape. With all that can be told of a large fleet."""

from __future__ import annotations

import time

from orchestrator import events
from orchestrator.observe.fleet import FLEET_STATES
from orchestrator.observe.rollouts import MIGRATION_STATES, OUTCOMES
from tests.unit.observe import samples
from tests.unit.observe.samples import Place
from tests.unit.observe.test_metrics import Observed

SHARDS, REVISIONS, ROLLOUTS, LAGGARDS = 16, 30, 3, 10
MOST_SERIES, MOST_SECONDS = 2_000, 0.2
WAVES = ("canary", "tenth", "everyone")


def large(count: int, *, laggards: int = LAGGARDS) -> Observed:
    """Tenants in every state and of thirty revisions, three rollouts of three waves over them that come to every end,
    and on every shard backfills and backups."""
    it = Observed(*(Place(f"tenant-{n}", shard=f"pg-{n % SHARDS}") for n in range(count)), laggards=laggards)
    shards = {f"pg-{n}": 8 for n in range(SHARDS)}
    it.metrics.describe_registry(limits=shards, targets={"file": count})
    it.metrics.describe_sources(stale={"saas": False}, refreshed={}, ignored={"saas": 0})
    it.metrics.backfills.signals = lambda: {(shard, f"signal {n}"): 1.0 for shard in shards for n in range(6)}
    for number in range(ROLLOUTS):
        waves = {wave: count // (ROLLOUTS * len(WAVES)) for wave in WAVES}
        it.tell(samples.created(rollout=f"r{number}", total=sum(waves.values()), waves=waves))
    for n in range(count):
        _tell(it, n)
    for shard in shards:
        _burden(it, shard)
    return it


def _tell(it: Observed, n: int) -> None:
    tenant, shard, kind = f"tenant-{n}", f"pg-{n % SHARDS}", n // SHARDS
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


def test_ten_thousand_tenants_have_the_series_of_two_thousand_and_no_more_than_are_promised() -> None:
    many, few = large(10_000), large(2_000)
    assert series(many) == series(few)
    assert series(many) <= MOST_SERIES, series(many)
    states = {sample.labels["state"] for sample in many.families()["orchestrator_rollout_targets"].samples}
    assert states == set(MIGRATION_STATES)


def test_a_scrape_of_ten_thousand_tenants_is_quick() -> None:
    it = large(10_000)
    took = []
    for _ in range(5):
        start = time.process_time()
        it.metrics.render()
        took.append(time.process_time() - start)
    assert min(took) <= MOST_SECONDS


def test_tenants_are_named_only_where_somebody_has_asked_for_it() -> None:
    quiet = large(100, laggards=0)
    assert b'tenant="' not in quiet.metrics.render()[0]
    named = large(100).families()["orchestrator_laggard_info"].samples
    assert len(named) == LAGGARDS
    assert {sample.labels["state"] for sample in named} <= {"behind", "unprovisioned"}
