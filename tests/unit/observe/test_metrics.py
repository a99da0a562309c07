from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import events
from orchestrator.observe.bus import Bus
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.fleet_metrics import MAX_REVISIONS
from orchestrator.observe.metrics import Metrics
from orchestrator.rollout import progress
from tests.unit.observe import samples
from tests.unit.observe.samples import Place, at


class Observed:
    """A bus with the fleet and the metrics listening, as the service wires them."""

    def __init__(self, *targets: Place) -> None:
        self.fleet = Fleet()
        self.fleet.set_targets(targets)
        self.metrics = Metrics(self.fleet, eta=progress.eta_seconds, clock=lambda: at(100))
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
        samples.finished(),
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


def large(count: int) -> Observed:
    it = Observed(*(Place(f"tenant-{n}", shard=f"pg-{n % 4}") for n in range(count)))
    it.tell(samples.created(total=count))
    for n in range(count):
        place = {"shard": f"pg-{n % 4}"}
        it.tell(samples.observed(f"tenant-{n}", "behind", heads=(f"r{n % 3}",), **place))
        it.tell(samples.started(f"tenant-{n}", **place))
        if n % 2:
            it.tell(samples.finished(f"tenant-{n}", "failed", revision=f"r{n % 3}", message=f"boom {n}", **place))
    return it


def series(it: Observed) -> int:
    return sum(len(family.samples) for family in it.families().values())


def test_ten_thousand_targets_have_the_series_of_a_hundred() -> None:
    many, few = large(10_000), large(100)
    assert series(many) == series(few)
    assert b"tenant" not in many.metrics.render()[0]


def test_a_scrape_of_ten_thousand_targets_is_quick() -> None:
    it = large(10_000)
    took = []
    for _ in range(5):
        start = time.process_time()
        it.metrics.render()
        took.append(time.process_time() - start)
    assert min(took) < 0.05


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
