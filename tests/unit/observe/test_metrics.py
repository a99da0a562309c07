from __future__ import annotations

import functools
import subprocess
import sys
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import Counter, Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import events
from orchestrator.observe.backfill_rows import KEPT_SECONDS
from orchestrator.observe.backfill_rows import MAX_REVISIONS as MAX_ROWS
from orchestrator.observe.bus import Bus
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.fleet_metrics import MAX_REVISIONS
from orchestrator.observe.metrics import RUN_OUTCOMES, Metrics
from orchestrator.observe.migration_metrics import RETRIES, Exemplar
from orchestrator.observe.rollouts import OUTCOMES
from orchestrator.observe.shard_labels import OTHER, Shards, summed
from orchestrator.rollout import progress
from orchestrator.rollout.schedules import RunOutcome
from tests.engine import until
from tests.unit.observe import samples
from tests.unit.observe.samples import Place, at


class Observed:
    """A bus with the fleet and the metrics listening, as the service wires them."""

    def __init__(
        self, *targets: Place, laggards: int = 0, shards: int | None = None, exemplar: Exemplar | None = None
    ) -> None:
        self.seconds, self.fleet = 100.0, Fleet()
        self.fleet.set_targets(targets)
        self.metrics = Metrics(
            self.fleet,
            eta=progress.eta_seconds,
            clock=lambda: at(self.seconds),
            laggards=laggards,
            shards=shards,
            exemplar=exemplar,
        )
        self.bus = Bus()
        self.bus.subscribe(self.fleet.apply)
        self.bus.subscribe(self.metrics.apply)

    def tell(self, *happened: events.Event) -> None:
        for event in happened:
            self.bus.publish(event)

    def families(self) -> dict[str, Metric]:
        content, content_type = self.metrics.render()
        assert content_type.startswith("text/plain; version=0.0.4")
        return {family.name: family for family in text_string_to_metric_families(content.decode())}

    def value(self, name: str, **labels: Any) -> float | None:
        return self.metrics.registry.get_sample_value(f"orchestrator_{name}", labels)


def test_the_exposition_has_every_metric_of_the_contract() -> None:
    it = Observed(Place("acme"))
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    it.metrics.describe_sources(stale={"saas": True}, refreshed={"saas": at(0)}, ignored={"saas": 0})
    it.tell(
        samples.observed(),
        samples.created(),
        samples.started(),
        samples.retried(),
        samples.finished(outcome="failed", signature="b2 42P07"),
        events.LockWaited(shard="pg-1", seconds=0.2, acquired=True),
        events.RegistryReloaded(result="changed", targets=1),
        samples.changed("succeeded", rollout="r0"),
    )
    names = {sample.name: set(sample.labels) for family in it.families().values() for sample in family.samples}
    expected = {
        "targets": {"track", "shard", "state"},
        "target_revisions": {"track", "revision"},
        "migrations_total": {"track", "shard", "outcome"},
        "migration_duration_seconds_count": {"track", "shard", "execution"},
        "migration_retries_total": {"track", "shard", "reason"},
        "migrations_in_progress": {"shard"},
        "shard_concurrency_limit": {"shard"},
        "lock_wait_seconds_count": {"shard"},
        "rollout_targets": {"rollout", "track", "wave", "state"},
        "rollout_progress_ratio": {"rollout"},
        "rollout_eta_seconds": {"rollout"},
        "rollouts_total": {"track", "outcome"},
        "registry_reloads_total": {"result"},
        "registry_targets": {"source"},
        "registry_source_stale": {"source"},
        "registry_source_refreshed_timestamp_seconds": {"source"},
        "registry_source_ignored": {"source"},
        "oldest_pending_target_seconds": {"track"},
        "leader": set(),
        "build_info": {"version", "alembic", "sqlalchemy"},
        "rollouts_active": set(),
        "rollout_state_since_timestamp_seconds": {"rollout", "track", "state"},
        "rollout_last_progress_timestamp_seconds": {"rollout"},
        "rollout_waiting": {"rollout"},
        "rollout_failures": {"rollout", "signature"},
        "shard_concurrency_allowed": {"shard"},
        "registry_valid": set(),
        "registry_last_good_read_timestamp_seconds": set(),
        "event_loop_lag_seconds_count": set(),
    }
    assert {name: names.get(f"orchestrator_{name}") for name in expected} == expected
    assert {"process_cpu_seconds_total", "python_info"} <= names.keys()
    assert not [name for name in names if name.endswith("_created")]


def test_counters_follow_the_events() -> None:
    it = Observed(Place("acme"), Place("globex"))
    it.tell(samples.finished("acme"), samples.finished("globex", "failed", seconds=3.0), samples.retried())
    assert it.value("migrations_total", track="app", shard="pg-1", outcome="succeeded") == 1
    assert it.value("migrations_total", track="app", shard="pg-1", outcome="failed") == 1
    assert it.value("migration_duration_seconds_sum", track="app", shard="pg-1", execution="online") == 3.5
    assert it.value("migration_retries_total", track="app", shard="pg-1", reason="lock_timeout") == 1


def test_a_lock_that_was_not_to_be_had_counts_as_waited_for() -> None:
    it = Observed(Place("acme"))
    for acquired in (True, False):
        it.tell(events.LockWaited(shard="pg-1", seconds=4.0, acquired=acquired))
    assert it.value("lock_wait_seconds_count", shard="pg-1") == 2
    assert it.value("lock_wait_seconds_sum", shard="pg-1") == 8


def test_what_a_shard_may_count_is_there_with_0_before_it_happens() -> None:
    """What Prometheus sees for the first time with 1 has not increased for it."""
    it = Observed(Place("acme"))
    it.tell(samples.started("acme"))
    for reason in ("contention", "transient"):
        assert it.value("migration_retries_total", track="app", shard="pg-1", reason=reason) == 0
    for outcome in ("succeeded", "failed"):
        assert it.value("migrations_total", track="app", shard="pg-1", outcome=outcome) == 0


def test_what_a_shard_may_count_is_there_again_after_the_shard_had_gone() -> None:
    it, series = Observed(Place("acme")), {"track": "app", "shard": "pg-1", "outcome": "failed"}
    it.tell(samples.started("acme"))
    it.fleet.set_targets([Place("t0", shard="pg-3")])
    it.metrics.describe_registry(limits={"pg-3": 9}, targets={"file": 1})
    assert it.value("migrations_total", **series) is None
    it.fleet.set_targets([Place("acme")])
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    it.metrics.migrations.migrations.remove("app", "pg-1", "failed")
    it.tell(samples.started("acme"))
    assert it.value("migrations_total", **series) == 0


def test_a_target_found_at_the_goal_says_nothing_about_durations() -> None:
    it = Observed(Place("acme"))
    it.tell(samples.finished(outcome="up_to_date"))
    assert it.value("migration_duration_seconds_count", track="app", shard="pg-1", execution="online") is None


def test_fleet_gauges_are_read_at_the_scrape() -> None:
    it = Observed(Place("acme"), Place("globex"), Place("initech"))
    it.tell(samples.observed("acme", "behind", at=at(40)), samples.observed("globex", "up_to_date", heads=("b2",)))
    assert it.value("targets", track="app", shard="pg-1", state="behind") == 1
    assert it.value("targets", track="app", shard="pg-1", state="unknown") == 1
    assert it.value("targets", track="app", shard="pg-1", state="ahead") == 0
    assert it.value("target_revisions", track="app", revision="b2") == 1
    assert it.value("oldest_pending_target_seconds", track="app") == 60
    it.fleet.set_targets([])
    assert it.value("targets", track="app", shard="pg-1", state="behind") is None


def test_an_active_rollout_has_series_and_a_finished_one_has_none() -> None:
    it = Observed(Place("acme"), Place("globex"))
    it.tell(samples.created(), samples.started("acme"), samples.finished("acme"), samples.started("globex"))
    assert it.value("rollout_targets", rollout="r1", track="app", wave="everyone", state="succeeded") == 1
    assert it.value("rollout_targets", rollout="r1", track="app", wave="everyone", state="pending") == 0
    assert it.value("rollout_progress_ratio", rollout="r1") == 0.5
    assert it.value("rollout_eta_seconds", rollout="r1") == 100
    assert it.value("migrations_in_progress", shard="pg-1") == 1
    it.tell(samples.finished("globex"), samples.changed("succeeded"))
    assert b'rollout="r1"' not in it.metrics.render()[0]
    assert it.value("rollouts_total", track="app", outcome="succeeded") == 1
    assert it.value("migrations_in_progress", shard="pg-1") == 0


def test_the_eta_is_absent_while_it_cannot_be_told() -> None:
    it = Observed(Place("acme"))
    it.tell(samples.created())
    assert it.value("rollout_eta_seconds", rollout="r1") is None
    assert it.value("rollout_progress_ratio", rollout="r1") == 0


def test_a_shard_that_left_the_registry_loses_its_limit() -> None:
    it = Observed()
    it.metrics.describe_registry(limits={"pg-1": 8, "pg-2": 4}, targets={"file": 2})
    it.metrics.describe_registry(limits={"pg-2": 4}, targets={"file": 1})
    it.metrics.describe_sources(stale={"saas": True, "old": False}, refreshed={"saas": at(0)}, ignored={})
    it.metrics.describe_sources(stale={"saas": False}, refreshed={"saas": at(5)}, ignored={"saas": 2})
    assert it.value("registry_source_stale", source="saas") == 0
    assert it.value("registry_source_stale", source="old") is None, "a source that is gone has no series"
    assert it.value("registry_source_refreshed_timestamp_seconds", source="saas") == at(5).timestamp()
    assert it.value("registry_source_ignored", source="saas") == 2
    assert it.value("shard_concurrency_limit", shard="pg-1") is None
    assert it.value("shard_concurrency_limit", shard="pg-2") == 4
    assert it.value("registry_targets", source="file") == 1


@pytest.mark.parametrize("reloads", [0, 1])
def test_only_a_good_reading_of_the_file_makes_it_valid_again(reloads: int) -> None:
    it = Observed()
    it.metrics.describe_registry(limits={}, targets={})
    it.metrics.of_registry.read_at.set(5)
    it.tell(events.RegistryReloaded(result="failed", targets=1, message="2 mistakes"))
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1, "saas": 3}, read=False)
    it.tell(*[events.RegistryReloaded(result="changed", targets=4)] * reloads)  # by what a source has answered
    assert it.value("registry_targets", source="saas") == 3
    assert it.value("registry_valid") == 0
    assert it.value("registry_last_good_read_timestamp_seconds") == 5
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1, "saas": 3})
    assert it.value("registry_valid") == 1
    assert it.value("registry_last_good_read_timestamp_seconds") == at(100).timestamp()


def test_the_limit_of_a_throttled_shard_is_the_one_that_counts() -> None:
    it = Observed()
    it.metrics.describe_registry(limits={"pg-1": 8, "pg-2": 4}, targets={"file": 2})
    it.tell(events.ShardLimitChanged(shard="pg-1", limit=3, allowed=8, reason="few connections are left"))
    assert it.value("shard_concurrency_limit", shard="pg-1") == 3
    it.metrics.describe_registry(limits={"pg-1": 6, "pg-2": 4}, targets={"file": 2})
    assert it.value("shard_concurrency_limit", shard="pg-1") == 3, "a reload of the registry frees no connections"
    assert it.value("shard_concurrency_limit", shard="pg-2") == 4
    it.tell(events.ShardLimitChanged(shard="pg-1", limit=6, allowed=6))
    assert it.value("shard_concurrency_limit", shard="pg-1") == 6


def test_version_tables_cannot_make_series_without_bound() -> None:
    it = Observed(*(Place(f"tenant-{n}") for n in range(1000)))
    it.tell(*(samples.observed(f"tenant-{n}", "ahead", heads=(f"r{n}",)) for n in range(1000)))
    samples_ = it.families()["orchestrator_target_revisions"].samples
    assert len(samples_) == MAX_REVISIONS + 1
    assert sum(sample.value for sample in samples_) == 1000


def test_labels_are_escaped() -> None:
    it = Observed(Place("acme", track='a"p\\p\n', shard="pg-1"))
    (found,) = (s for s in it.families()["orchestrator_targets"].samples if s.value == 1)
    assert found.labels["track"] == 'a"p\\p\n'


def test_two_daemons_in_one_process_do_not_meet() -> None:
    first, second = Observed(Place("acme")), Observed(Place("acme"))
    first.tell(samples.finished())
    assert second.value("migrations_total", track="app", shard="pg-1", outcome="succeeded") is None


def test_observe_does_not_load_the_web_framework() -> None:
    code = (
        "import sys; import orchestrator.observe.metrics, orchestrator.observe.logs, orchestrator.observe.lines,"
        " orchestrator.observe.bus; sys.exit('fastapi' in sys.modules or 'uvicorn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_standby_is_no_leader_and_does_not_count_rollouts_whose_end_it_will_not_see() -> None:
    seen = Observed(Place("acme"), Place("globex"))
    assert seen.value("leader") == 0
    seen.tell(events.StoodBy(leader="process 1 on db1"), samples.created())
    assert seen.value("leader") == 0
    assert seen.value("rollout_progress_ratio", rollout="r1") is None
    seen.tell(events.LeaderElected(leader="db2:2:c0ffee", epoch=2), samples.changed())
    assert seen.value("leader") == 1
    assert seen.value("rollout_progress_ratio", rollout="r1") == 0
    seen.tell(events.LeaderLost(reason="taken over"))
    assert seen.value("leader") == 0


def test_exemplars_are_in_openmetrics_once_somebody_gives_them() -> None:
    it = Observed(Place("acme"), exemplar=lambda event: {"trace_id": "4bf92f35"})
    it.tell(samples.started(), samples.finished())
    assert b"4bf92f35" not in it.metrics.render()[0]
    content, content_type = it.metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert b'# {trace_id="4bf92f35"} 0.5' in content


def test_the_store_and_the_signals_of_shards_are_asked_at_the_scrape() -> None:
    it = Observed()
    it.metrics.process.store_errors = lambda: {"read": 0, "write": 2}
    it.metrics.backfills.signals = lambda: {("pg-1", "replication_lag"): 1.5}
    it.metrics.backfills.in_progress = lambda: {"pg-1": 3}
    assert it.value("store_errors_total", operation="write") == 2
    assert it.value("store_errors_total", operation="read") == 0
    assert it.value("backfill_signal", shard="pg-1", signal="replication_lag") == 1.5
    assert it.value("backfills_in_progress", shard="pg-1") == 3


async def test_a_loop_that_is_held_up_shows() -> None:
    it = Observed()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(it.metrics.process.watch, every_seconds=0.01))
        await anyio.lowlevel.checkpoint()
        time.sleep(0.3)  # noqa: ASYNC251
        await until(lambda: bool(it.value("event_loop_lag_seconds_count")))
        tasks.cancel_scope.cancel()
    assert (it.value("event_loop_lag_seconds_sum") or 0) > 0.2


def test_a_registry_with_mistakes_is_told_until_it_is_read_again() -> None:
    it = Observed()
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    assert it.value("registry_valid") == 1
    assert it.value("registry_last_good_read_timestamp_seconds") == at(100).timestamp()
    it.tell(events.RegistryReloaded(result="failed", targets=1, message="line 3"))
    assert it.value("registry_valid") == 0
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    assert it.value("registry_valid") == 1


def test_what_a_registry_lets_be_counted_begins_at_0_when_it_is_read() -> None:
    """A rollout may begin and end between two scrapes: Prometheus must have seen the series before."""
    it = Observed(Place("acme"), Place("globex", shard="pg-2"))
    it.metrics.describe_registry(
        limits={"pg-1": 8, "pg-2": 8},
        targets={"file": 2},
        tracks=["app"],
        replayed=["app"],
        schedules=["nightly"],
        backups=True,
    )
    for shard in ("pg-1", "pg-2"):
        for outcome in OUTCOMES:
            assert it.value("migrations_total", track="app", shard=shard, outcome=outcome) == 0
        for execution in ("online", "replay"):
            assert it.value("migration_duration_seconds_count", track="app", shard=shard, execution=execution) == 0
        assert it.value("lock_wait_seconds_count", shard=shard) == 0
        for result in ("taken", "failed"):
            assert it.value("backups_total", shard=shard, result=result) == 0
        assert it.value("backfill_batch_duration_seconds_count", shard=shard) == 0
    for outcome in ("succeeded", "failed", "aborted", "rolled_back"):
        assert it.value("rollouts_total", track="app", outcome=outcome) == 0
    assert it.value("schedule_runs_total", schedule="nightly", outcome="missed") == 0
    assert it.value("registry_reloads_total", result="failed") == 0


def test_backups_are_not_told_of_where_nobody_makes_any() -> None:
    it = Observed(Place("acme"))
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    assert it.value("backups_total", shard="pg-1", result="taken") is None


def test_the_runs_of_a_schedule_go_with_it_and_stay_while_it_is_disabled() -> None:
    it = Observed()
    it.metrics.describe_registry(limits={}, targets={}, schedules=["nightly", "weekly"])
    it.metrics.describe_schedules({"nightly": 5.0, "weekly": 6.0})
    it.tell(events.ScheduleRan(schedule="weekly", planned_at=at(0), outcome="started", rollout="r1"))
    it.metrics.describe_schedules({"nightly": 5.0})
    assert it.value("schedule_runs_total", schedule="weekly", outcome="started") == 1
    it.metrics.describe_registry(limits={}, targets={}, schedules=["weekly"])
    assert it.value("schedule_runs_total", schedule="weekly", outcome="started") == 1
    assert it.value("schedule_runs_total", schedule="nightly", outcome="started") is None


def test_the_outcomes_of_runs_are_those_of_the_schedules() -> None:
    assert list(RUN_OUTCOMES) == list(RunOutcome)


def test_each_label_is_begun_once_however_many_shards_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Observed(*(Place(f"t{n}", shard=f"pg-{n}") for n in range(500)), shards=1)
    labels, asked = Counter.labels, []

    def counted(self: Counter, *values: Any) -> Counter:
        asked.append(values)
        return labels(self, *values)

    monkeypatch.setattr(Counter, "labels", counted)
    it.metrics.describe_registry(limits={f"pg-{n}": 8 for n in range(500)}, targets={"file": 500})
    assert len(asked) == 2 * (len(OUTCOMES) + len(RETRIES) + 1), "of one shard with a name, and of the others"


def test_a_shards_label_is_not_looked_for_among_all_names() -> None:
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names, shards = [Name(f"pg-{n}") for n in range(500)], Shards(400)
    shards.describe(names, {})
    compared = 0
    for name in names:
        shards.wide(name)
        shards.detailed(name)
    assert compared < 500


def test_a_sum_asks_for_each_label_once() -> None:
    asked = []

    def label(shard: str) -> str:
        asked.append(shard)
        return OTHER

    assert summed({"a": 1, "b": 2}, label) == {OTHER: 3}
    assert asked == ["a", "b"]


def test_a_shard_keeps_its_name_while_others_come_and_go_and_loses_it_with_its_place() -> None:
    it = Observed(Place("acme"), Place("globex", shard="pg-2"), shards=1)
    it.metrics.describe_registry(limits={"pg-1": 8, "pg-2": 4}, targets={"file": 2})
    it.tell(samples.finished("acme"), samples.finished("globex", shard="pg-2"))
    assert it.value("migrations_total", track="app", shard="pg-1", outcome="succeeded") == 1
    assert it.value("migrations_total", track="app", shard="other", outcome="succeeded") == 1
    it.fleet.set_targets([Place("acme"), *(Place(f"t{n}", shard="pg-3") for n in range(9))])
    it.metrics.describe_registry(limits={"pg-1": 8, "pg-3": 9}, targets={"file": 10})
    assert it.value("migrations_total", track="app", shard="pg-1", outcome="succeeded") == 1
    assert it.value("targets", track="app", shard="other", state="unknown") == 9
    assert it.value("shard_concurrency_limit", shard="other") == 9
    it.fleet.set_targets([Place("t0", shard="pg-3")])
    it.metrics.describe_registry(limits={"pg-3": 9}, targets={"file": 1})
    assert it.value("migrations_total", track="app", shard="pg-1", outcome="succeeded") is None
    assert it.value("migrations_total", track="app", shard="pg-3", outcome="succeeded") == 0
    assert it.value("migration_duration_seconds_count", track="app", shard="pg-1", execution="online") is None


def test_a_limit_of_shards_without_a_name_is_a_sum_that_throttling_lowers() -> None:
    it = Observed(Place("acme"), shards=1)
    it.metrics.describe_registry(limits={"pg-1": 8, "pg-2": 4, "pg-3": 4}, targets={"file": 1})
    it.tell(events.ShardLimitChanged(shard="pg-3", limit=1, allowed=4, reason="no room"))
    assert it.value("shard_concurrency_limit", shard="other") == 5
    assert it.value("shard_concurrency_allowed", shard="other") == 8


def test_rows_of_a_revision_go_some_time_after_the_last_rollout_with_it() -> None:
    it, labels = Observed(Place("acme")), {"track": "app", "shard": "pg-1", "revision": "4d5e6f"}
    started = samples.backfill_started()
    rows = {**labels, "revision": started.revision}
    for rollout in ("r1", "r2"):
        it.tell(
            samples.created(rollout=rollout),
            samples.backfill_started(rollout=rollout),
            samples.backfill_progressed(rollout=rollout, rows=10),
        )
    it.tell(samples.changed("succeeded", rollout="r1", at=at(100)))
    it.seconds = 100 + 2 * KEPT_SECONDS
    it.families()
    assert it.value("backfill_rows_total", **rows) == 20, "another rollout has it still"
    it.tell(samples.changed("failed", rollout="r2", at=at(it.seconds)))
    it.families()
    assert it.value("backfill_rows_total", **rows) == 20, "a scrape must see what it came to"
    it.seconds += KEPT_SECONDS
    it.families()
    assert it.value("backfill_rows_total", **rows) is None
    it.tell(samples.changed("running", rollout="r2"), samples.backfill_progressed(rollout="r2", rows=3))  # retried
    it.seconds += 2 * KEPT_SECONDS
    it.families()
    assert it.value("backfill_rows_total", **rows) == 3


def test_what_is_told_of_backfills_after_their_rollout_has_ended_counts_and_goes() -> None:
    it, row = Observed(Place("acme")), {"track": "app", "shard": "pg-1", "revision": "b2"}
    it.tell(samples.created(), samples.backfill_started(), samples.changed("aborted", at=at(100)))
    it.tell(samples.backfill_stopped(rows=7, at=at(200)))
    it.seconds = 199 + KEPT_SECONDS
    it.families()
    assert it.value("backfill_rows_total", **row) == 7
    it.seconds += 1
    it.families()
    assert it.value("backfill_rows_total", **row) is None


def test_revisions_are_named_as_long_as_there_is_room_and_again_when_others_have_gone() -> None:
    it = Observed(Place("acme"), Place("globex", shard="pg-2"), shards=2)
    row = {"track": "app", "shard": "pg-1"}
    it.tell(samples.created(), samples.created(rollout="r2"))
    for n in range(MAX_ROWS):
        for shard in ("pg-1", "pg-2"):
            it.tell(samples.backfill_progressed(revision=f"b{n}", shard=shard, rows=1))
    it.tell(samples.backfill_progressed(revision="late", rows=1, rollout="r2"))
    assert (it.value("backfill_rows_total", **row, revision="other")) == 1
    it.metrics.describe_registry(limits={"pg-1": 8}, targets={"file": 1})
    it.tell(samples.backfill_progressed(revision="later", rows=1, rollout="r2"))
    assert it.value("backfill_rows_total", **row, revision="other") == 2, "each has its row on pg-1 still"
    it.tell(samples.changed("succeeded", at=at(100)))
    it.seconds = 100 + KEPT_SECONDS
    it.families()
    it.tell(samples.backfill_progressed(revision="last", rows=1, rollout="r2"))
    assert it.value("backfill_rows_total", **row, revision="last") == 1


def test_what_tenants_databases_hold_makes_no_long_labels() -> None:
    it = Observed(Place("acme"), Place("globex"), laggards=2)
    long = "a" * 5_000
    it.tell(
        samples.observed("acme", "behind", heads=(long,)), samples.observed("globex", "behind", heads=(long + "b",))
    )
    it.tell(samples.created(), samples.started(), samples.finished(outcome="failed", signature=f"{long} 42P07"))
    it.tell(samples.backfill_started(revision=long), samples.backfill_progressed(revision=long, rows=1))
    values = [v for family in it.families().values() for sample in family.samples for v in sample.labels.values()]
    assert max(map(len, values)) <= 64
    assert len(it.families()["orchestrator_target_revisions"].samples) == 2, "two that differ stay so"
