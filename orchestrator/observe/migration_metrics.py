"""The metrics of migrations: counters and histograms from events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from orchestrator import events
from orchestrator.observe.rollouts import OUTCOMES
from orchestrator.observe.shard_labels import Labelled, Shards, forget

# What joins an event of a migration to its trace, as {"trace_id": …}; None while it has none.
Exemplar = Callable[[events.Event], Mapping[str, str] | None]

_MIGRATION_BUCKETS = (0.05, 0.2, 1, 5, 15, 60, 300, 1800)
_BACKUP_BUCKETS = (0.5, 5, 30, 60, 300, 900, 3600, 7200)
_LOCK_BUCKETS = (0.01, 0.1, 0.5, 2, 10, 60)
RETRIES = ("contention", "transient")
TAKEN, FAILED = RESULTS = ("taken", "failed")


class MigrationMetrics:
    """Subscribe `apply` to the bus. `exemplar`: what goes with a duration and a wait for the lock."""

    def __init__(self, registry: CollectorRegistry, shards: Shards, exemplar: Exemplar) -> None:
        self._shards, self._exemplar = shards, exemplar
        self._begun: set[tuple[str, str]] = set()
        self.migrations = Counter(
            "orchestrator_migrations",
            "Migrations that ended, by outcome.",
            ["track", "shard", "outcome"],
            registry=registry,
        )
        self.durations = Histogram(
            "orchestrator_migration_duration_seconds",
            "Time from start to end of migrations that succeeded or failed, over all attempts.",
            ["track", "shard", "execution"],
            buckets=_MIGRATION_BUCKETS,
            registry=registry,
        )
        self.retries = Counter(
            "orchestrator_migration_retries",
            "Attempts that failed and were followed by another.",
            ["track", "shard", "reason"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "orchestrator_replay_fallbacks",
            "Targets where the server refused compiled SQL, and env.py was run instead.",
            ["track", "shard"],
            registry=registry,
        )
        self.lock_waits = Histogram(
            "orchestrator_lock_wait_seconds",
            "Time from connecting to a target until its lock was had, or was given up.",
            ["shard"],
            buckets=_LOCK_BUCKETS,
            registry=registry,
        )
        self.backups = Counter(
            "orchestrator_backups",
            "Backups before a change, by result: taken or failed.",
            ["shard", "result"],
            registry=registry,
        )
        self.backup_durations = Histogram(
            "orchestrator_backup_duration_seconds",
            "Time that backups took, checks included and turns not, however they ended.",
            buckets=_BACKUP_BUCKETS,
            registry=registry,
        )

    def begin(
        self, places: Iterable[tuple[str, str]], replayed: Collection[str] = (), *, backups: bool = False
    ) -> None:
        """Begin what a track may count on a shard at 0: what is there for the first time with 1 has not increased, for
        Prometheus, and a rollout may be quicker than two scrapes. `backups`: they may be made there, too."""
        places = list(places)
        for track, shard in {(track, self._shards.wide(shard)) for track, shard in places}:
            for outcome in OUTCOMES:
                self.migrations.labels(track, shard, outcome)
            for reason in RETRIES:
                self.retries.labels(track, shard, reason)
        detailed = {(track, self._shards.detailed(shard)) for track, shard in places}
        for track, shard in detailed:
            for execution in ("online", "replay") if track in replayed else ("online",):
                self.durations.labels(track, shard, execution)
            self.fallbacks.labels(track, shard)
        for shard in {shard for _track, shard in detailed}:
            self.lock_waits.labels(shard)
            for result in RESULTS if backups else ():
                self.backups.labels(shard, result)

    def _begin_once(self, track: str, shard: str) -> None:
        """To begin fifteen series again for each migration would cost a twentieth of what it does."""
        if (track, shard) not in self._begun:
            self.begin([(track, shard)])
            self._begun.add((track, shard))

    def forget_shards(self) -> None:
        """Remove the series of shards that have no name, or no place in the registry, any more."""
        self._begun.clear()
        wide: Mapping[Labelled, list[str]] = {
            self.migrations: ["track", "shard", "outcome"],
            self.retries: ["track", "shard", "reason"],
        }
        detailed: Mapping[Labelled, list[str]] = {
            self.durations: ["track", "shard", "execution"],
            self.fallbacks: ["track", "shard"],
            self.lock_waits: ["shard"],
            self.backups: ["shard", "result"],
        }
        for metric, names in wide.items():
            forget(metric, names, lambda labels: self._shards.wide(labels["shard"]) != labels["shard"])
        for metric, names in detailed.items():
            forget(metric, names, lambda labels: self._shards.detailed(labels["shard"]) != labels["shard"])

    def apply(self, event: events.Event) -> None:
        shards = self._shards
        match event:
            case events.MigrationStarted():
                self._begin_once(event.track, event.shard)
            case events.MigrationFinished():
                self.migrations.labels(event.track, shards.wide(event.shard), event.outcome).inc()
                if event.outcome in ("succeeded", "failed"):
                    duration = self.durations.labels(event.track, shards.detailed(event.shard), event.execution)
                    duration.observe(event.seconds, _plain(self._exemplar(event)))
            case events.MigrationRetried():
                self.retries.labels(event.track, shards.wide(event.shard), event.reason).inc()
            case events.ReplayRefused():
                self.fallbacks.labels(event.track, shards.detailed(event.shard)).inc()
            case events.BackupTaken() | events.BackupFailed():
                result = TAKEN if isinstance(event, events.BackupTaken) else FAILED
                self.backups.labels(shards.detailed(event.shard), result).inc()
                self.backup_durations.observe(event.seconds)
            case events.LockWaited():
                wait = self.lock_waits.labels(shards.detailed(event.shard))
                wait.observe(event.seconds, _plain(self._exemplar(event)))


def _plain(exemplar: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if exemplar is None else dict(exemplar)
