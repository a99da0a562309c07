"""What is told of an active rollout: its state, its reasons to wait, its failures and its budget."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import events
from orchestrator.observe.rollout_detail import MAX_DETAILED, MAX_SIGNATURES
from tests.unit.observe import samples
from tests.unit.observe.samples import Place, at
from tests.unit.observe.test_metrics import Observed

BIT: dict[str, Any] = {"tenant": "acme", "shard": "pg-1", "wave": "everyone"}


def observed(*happened: events.Event) -> Observed:
    it = Observed(*(Place(f"t{number}") for number in range(4)), Place("acme"))
    it.tell(samples.created(total=5), *happened)
    return it


def moved(it: Observed) -> float | None:
    value = it.value("rollout_last_progress_timestamp_seconds", rollout="r1")
    return None if value is None else value - at(0).timestamp()


def test_a_state_is_told_since_when_it_came_not_since_it_was_last_told_of() -> None:
    it = observed(samples.changed("running", at=at(5)), samples.changed("running", at=at(9)))
    labels = {"rollout": "r1", "track": "app"}
    assert it.value("rollout_state_since_timestamp_seconds", state="running", **labels) == at(5).timestamp()
    it.tell(samples.changed("awaiting_approval", at=at(20), waiting="waiting for approval"))
    assert it.value("rollout_state_since_timestamp_seconds", state="running", **labels) is None
    assert it.value("rollout_state_since_timestamp_seconds", state="awaiting_approval", **labels) == at(20).timestamp()
    assert it.value("rollout_waiting", rollout="r1") == 1
    it.tell(samples.changed("running", at=at(30)))
    assert it.value("rollout_waiting", rollout="r1") == 0


def test_one_that_was_taken_up_is_as_old_as_it_is() -> None:
    it = Observed()
    it.tell(samples.changed("running", at=at(50), seconds=40.0))
    assert it.value("rollout_started_timestamp_seconds", rollout="r1", track="app") == at(10).timestamp()
    assert moved(it) == 50


@pytest.mark.parametrize(
    "event",
    [
        samples.started("t1", at=at(60)),
        samples.finished("acme", at=at(60)),
        events.StepApplied(at=at(60), rollout="r1", track="app", revision="b2", seconds=1.0, **BIT),
        events.WaveChanged(at=at(60), rollout="r1", track="app", wave="everyone", position=0, change="ended"),
        samples.backfill_started(at=at(60)),
        samples.backfill_progressed(at=at(60), rows=10, batches=(0.5,)),
    ],
    ids=lambda event: event.name,
)
def test_what_goes_on_is_progress(event: events.Event) -> None:
    it = observed(samples.started("acme", at=at(1)))
    it.tell(event)
    assert moved(it) == 60


@pytest.mark.parametrize(
    "event",
    [
        samples.started("acme", at=at(60), attempt=2),
        samples.retried("acme", at=at(60)),
        samples.backfill_progressed(at=at(60)),
    ],
    ids=lambda event: event.name,
)
def test_attempts_and_backfills_that_are_held_are_no_progress(event: events.Event) -> None:
    it = observed(samples.started("acme", at=at(1)))
    it.tell(event)
    assert moved(it) == 1


@pytest.mark.parametrize(
    ("resting", "backing_up", "seconds", "waiting"),
    [(0, 0, 1, 0), (1, 0, 1, 0), (2, 0, 100, 1), (0, 1, 100, 0), (1, 1, 100, 0)],
    ids=["neither", "one of two is held", "both are held", "a backup", "one of each"],
)
def test_a_rollout_that_is_held_or_backed_up_stands_not_still(
    resting: int, backing_up: int, seconds: int, waiting: int
) -> None:
    it = observed(samples.started("acme", at=at(1)), samples.started("t1", at=at(1)))
    it.metrics.of_rollouts.resting = lambda: {"r1": resting, "r2": 9}
    it.metrics.of_rollouts.backing_up = lambda: {"r1": backing_up, "r2": 9}
    assert moved(it) == seconds
    assert it.value("rollout_waiting", rollout="r1") == waiting
    it.metrics.of_rollouts.resting = it.metrics.of_rollouts.backing_up = dict
    assert it.value("rollout_waiting", rollout="r1") == 0
    assert moved(it) == seconds, "it stands still from then on"


def test_nothing_that_runs_is_not_held() -> None:
    it = observed()
    it.metrics.of_rollouts.resting = lambda: {"r1": 0}
    assert (moved(it), it.value("rollout_waiting", rollout="r1")) == (0, 0)


def test_failures_are_told_by_signature_and_a_retry_takes_them_back() -> None:
    it = observed(
        *(samples.started(f"t{number}") for number in range(3)),
        *(samples.finished(f"t{number}", "failed", signature="b2 42P07") for number in range(2)),
        samples.finished("t2", "unreachable", signature=None),
    )
    assert it.value("rollout_failures", rollout="r1", signature="b2 42P07") == 2
    assert it.value("rollout_failures", rollout="r1", signature="unreachable") == 1
    it.tell(samples.changed(total=5, counts={"pending": 4, "failed": 1}), samples.started("t0"), samples.finished("t0"))
    assert it.value("rollout_failures", rollout="r1", signature="b2 42P07") == 1


def test_failures_of_before_a_restart_are_counted_though_their_cause_is_not_known() -> None:
    it = Observed(Place("acme"))
    it.tell(samples.changed(total=5, counts={"failed": 3, "pending": 2}))
    it.tell(samples.started("acme"), samples.finished("acme", "failed", signature="b2 42P07"))
    assert it.value("rollout_failures", rollout="r1", signature="untold") == 3
    assert it.value("rollout_failures", rollout="r1", signature="b2 42P07") == 1


def test_a_budget_is_used_up_when_it_is_exceeded() -> None:
    it = observed(samples.changed(total=5, counts={"pending": 5}, allowed={"everyone": 1}))
    values = []
    for number in range(2):
        values.append(it.value("rollout_failure_budget_used_ratio", rollout="r1", wave="everyone"))
        it.tell(samples.started(f"t{number}"), samples.finished(f"t{number}", "failed"))
    assert [*values, it.value("rollout_failure_budget_used_ratio", rollout="r1", wave="everyone")] == [0, 0.5, 1]


@pytest.mark.parametrize(("allowed", "failed", "used"), [(1, 1, 0), (1, 2, 1), (4, 1, 0), (4, 3, 0.5), (4, 5, 1)])
def test_failures_that_somebody_has_accepted_use_nothing_of_a_budget(allowed: int, failed: int, used: float) -> None:
    counts = {"pending": 6 - failed, "failed": failed}
    told = samples.changed(total=6, counts=counts, allowed={"everyone": allowed}, accepted={"everyone": 1})
    assert observed(told).value("rollout_failure_budget_used_ratio", rollout="r1", wave="everyone") == used


def test_tenants_of_two_tracks_are_two_targets() -> None:
    it = Observed(Place("acme"), Place("acme", track="billing"))
    it.tell(samples.created(total=2, track="*"), samples.started("acme"), samples.started("acme", track="billing"))
    assert it.value("rollout_targets", rollout="r1", track="*", wave="everyone", state="running") == 2
    assert it.value("migrations_in_progress", shard="pg-1") == 2


def test_signatures_and_rollouts_are_bounded() -> None:
    it = Observed(*(Place(f"t{number}") for number in range(40)))
    it.tell(samples.created(total=40))
    for number in range(40):
        it.tell(samples.started(f"t{number}"), samples.finished(f"t{number}", "failed", signature=f"cause {number}"))
    shown = it.families()["orchestrator_rollout_failures"].samples
    assert len(shown) == MAX_SIGNATURES + 1
    assert sum(sample.value for sample in shown) == 40
    it.tell(*(samples.created(rollout=f"x{number}") for number in range(100)))
    named = {sample.labels["rollout"] for sample in it.families()["orchestrator_rollout_targets"].samples}
    assert len(named) == MAX_DETAILED
    assert it.value("rollouts_active") == 101


def test_the_end_of_the_first_rollout_is_an_increase_for_prometheus() -> None:
    it = observed()
    assert it.value("rollouts_total", track="app", outcome="succeeded") == 0
    it.tell(samples.changed("succeeded"))
    assert it.value("rollouts_total", track="app", outcome="succeeded") == 1
