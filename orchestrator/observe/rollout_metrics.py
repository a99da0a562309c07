"""The metrics of active rollouts, read from their pictures at each scrape. A rollout's series go when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector

from orchestrator.observe import rollout_detail
from orchestrator.observe.families import Sample, gauge, short
from orchestrator.observe.rollouts import MIGRATION_STATES, RolloutPicture, Rollouts

# (total, counts by state, elapsed seconds) -> seconds to go, None when it cannot be told
Eta = Callable[[int, Mapping[Any, int], float], float | None]


class RolloutCollector(Collector):
    """`resting` tells by rollout how many of its targets' backfills are held with a reason, `backing_up` how many of
    its targets are backed up: neither is a standstill. Who knows puts them there. `room`: how many series there may
    be."""

    def __init__(self, rollouts: Rollouts, eta: Eta, clock: Callable[[], datetime], room: Callable[[], int]) -> None:
        self._rollouts, self._eta, self._clock, self._room = rollouts, eta, clock, room
        self.resting: Callable[[], Mapping[str, int]] = dict
        self.backing_up: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterator[Metric]:
        active, now = list(self._rollouts.items()), self._clock()
        newest = [(rollout, picture) for rollout, picture in reversed(active)]
        told, by_wave = rollout_detail.detail([rollout_detail.series(picture) for _, picture in newest], self._room())
        ordered = [(*one, number >= by_wave) for number, one in enumerate(newest)]
        detailed = ordered[:told]
        resting, backing_up = self.resting(), self.backing_up()
        for rollout, picture in active:
            picture.look(now, resting=resting.get(rollout, 0), backing_up=backing_up.get(rollout, 0))
        yield gauge("rollouts_active", "Rollouts that have not ended.", [], [((), len(active))])
        yield gauge(
            "rollout_targets",
            "Targets of an active rollout by the state of their migration; where there is no room for its waves, they "
            "are one, `other`.",
            ["rollout", "track", "wave", "state"],
            (
                ((rollout, picture.track, wave, state), counts[state])
                for rollout, picture, summed_up in detailed
                for wave, counts in rollout_detail.waves(picture, summed_up=summed_up).items()
                for state in MIGRATION_STATES
            ),
        )
        yield gauge(
            "rollout_failures",
            "Failed targets of an active rollout by signature; `untold`: of a cause that nobody has recorded.",
            ["rollout", "signature"],
            (
                ((rollout, short(signature)), n)
                for rollout, picture, summed_up in detailed
                for signature, n in rollout_detail.commonest(picture.failures()).items()
                if not summed_up
            ),
        )
        yield gauge(
            "rollout_failure_budget_used_ratio",
            "Used part of a wave's failure budget, without accepted failures; at 1 the rollout reacts. Absent where no "
            "number of targets is set.",
            ["rollout", "wave"],
            (
                ((rollout, wave), ratio)
                for rollout, picture, summed_up in ordered
                for wave, ratio in rollout_detail.budgets(picture, summed_up=summed_up).items()
            ),
        )
        yield from self._moments(active)
        yield from self._sums(active, now)

    def _moments(self, active: list[tuple[str, RolloutPicture]]) -> Iterator[Metric]:
        yield gauge(
            "rollout_started_timestamp_seconds",
            "When an active rollout was made, in Unix time.",
            ["rollout", "track"],
            (((rollout, picture.track), picture.started_at.timestamp()) for rollout, picture in active),
        )
        yield gauge(
            "rollout_state_since_timestamp_seconds",
            "Since when an active rollout is in its state, in Unix time, restarts included.",
            ["rollout", "track", "state"],
            (((rollout, p.track, p.state), p.since.timestamp()) for rollout, p in active),
        )
        yield gauge(
            "rollout_last_progress_timestamp_seconds",
            "When a target, a step, a batch or a wave of an active rollout last began or ended, in Unix time; now, "
            "while a target is backed up or all that it migrates is held.",
            ["rollout"],
            (((rollout,), picture.moved_at.timestamp()) for rollout, picture in active),
        )
        yield gauge(
            "rollout_waiting",
            "1 while an active rollout has a reason to wait: a soak, checks, approval, a window, a freeze, backfills "
            "that are held on all targets that it migrates.",
            ["rollout"],
            (((rollout,), float(picture.waiting or picture.resting)) for rollout, picture in active),
        )

    def _sums(self, active: list[tuple[str, RolloutPicture]], now: datetime) -> Iterator[Metric]:
        yield gauge(
            "rollout_unaccounted_targets",
            "Targets of an active rollout that are in no recorded state: always 0, or a bug.",
            ["rollout"],
            (((rollout,), picture.total - sum(picture.counts.values())) for rollout, picture in active),
        )
        yield gauge(
            "rollout_progress_ratio",
            "Finished part of an active rollout, 0 to 1.",
            ["rollout"],
            (((rollout,), picture.progress_ratio) for rollout, picture in active),
        )
        yield gauge(
            "rollout_eta_seconds",
            "Seconds until an active rollout's last target at the rate so far; absent while nothing has finished.",
            ["rollout"],
            self._etas(active, now),
        )

    def _etas(self, active: list[tuple[str, RolloutPicture]], now: datetime) -> Iterator[Sample]:
        for rollout, picture in active:
            seconds = self._eta(picture.total, picture.counts, picture.age_seconds(now))
            if seconds is not None:
                yield (rollout,), seconds
