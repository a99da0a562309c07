from __future__ import annotations

import pytest

from orchestrator.observe.rollouts import Before, RolloutPicture, Rollouts
from tests.unit.observe import samples
from tests.unit.observe.samples import at


def active(it: Rollouts) -> RolloutPicture:
    found = it.get("r1")
    assert found is not None
    return found


def test_migrations_move_from_state_to_state() -> None:
    it = Rollouts()
    it.apply(samples.created(total=3))
    it.apply(samples.started("acme"))
    it.apply(samples.started("globex", shard="pg-2"))
    assert active(it).counts == {"pending": 1, "running": 2}
    assert it.in_progress() == {"pg-1": 1, "pg-2": 1}
    it.apply(samples.finished("acme"))
    it.apply(samples.finished("globex", "failed"))
    it.apply(samples.finished("initech", "skipped"))
    assert +active(it).counts == {"succeeded": 1, "failed": 1, "skipped": 1}
    assert active(it).progress_ratio == 1.0
    assert it.in_progress() == {}


def test_a_further_attempt_is_no_further_migration() -> None:
    it = Rollouts()
    it.apply(samples.created(total=2))
    for attempt in (1, 2, 3):
        it.apply(samples.started("acme", attempt=attempt))
    assert active(it).counts == {"pending": 1, "running": 1}


def test_waves_are_counted_apart_once_they_speak() -> None:
    it = Rollouts()
    it.apply(samples.created(total=3))
    it.apply(samples.started("acme", wave="canary"))
    it.apply(samples.finished("acme", wave="canary"))
    assert {wave: +counts for wave, counts in active(it).waves.items()} == {
        "everyone": {"pending": 2},
        "canary": {"succeeded": 1},
    }


def test_a_finished_rollout_leaves_and_a_retried_one_returns() -> None:
    it = Rollouts()
    it.apply(samples.created(total=2))
    it.apply(samples.changed("failed", counts={"succeeded": 1, "failed": 1}))
    assert it.get("r1") is None
    it.apply(samples.changed("running", counts={"succeeded": 1, "pending": 1}, at=at(60), seconds=60.0))
    assert active(it).counts == {"succeeded": 1, "pending": 1}
    assert active(it).age_seconds(at(90)) == 90.0


def test_a_paused_rollout_that_is_retried_takes_over_the_new_counts() -> None:
    it = Rollouts()
    it.apply(samples.created(total=2))
    it.apply(samples.finished("acme", "failed"))
    it.apply(samples.changed("running", counts={"pending": 2}))
    assert active(it).counts == {"pending": 2}


def test_what_a_partial_retry_has_made_pending_has_no_cause_any_more() -> None:
    it = Rollouts()
    it.apply(samples.created(total=3))
    for tenant, cause in (("acme", "b2 42P07"), ("globex", "b2 42P07"), ("initech", "b2 22012")):
        it.apply(samples.finished(tenant, "failed", signature=cause))
    again = frozenset({("acme", "app"), ("globex", "app")})
    it.apply(samples.changed("running", total=3, counts={"failed": 1, "pending": 2}, again=again))
    assert active(it).failures() == {"b2 22012": 1}


def test_causes_are_kept_where_nobody_has_counted_yet() -> None:
    it = Rollouts()
    it.apply(samples.created(total=2))
    it.apply(samples.finished("acme", "failed", signature="b2 42P07"))
    it.apply(samples.changed("paused", counts={}))
    assert active(it).failures() == {"b2 42P07": 1}


def test_a_migration_put_back_to_pending_is_not_in_progress() -> None:
    it = Rollouts()
    it.apply(samples.created(total=2))
    it.apply(samples.started("acme"))
    it.apply(samples.changed("paused", counts={"pending": 2}))
    assert it.in_progress() == {}


def test_an_empty_rollout_is_complete() -> None:
    it = Rollouts()
    it.apply(samples.created(total=0))
    assert active(it).progress_ratio == 1.0


@pytest.mark.parametrize("told_first", [True, False])
def test_a_rollout_that_is_taken_up_is_as_old_and_as_broken_as_before(told_first: bool) -> None:
    it, before = Rollouts(), Before("awaiting_approval", at(-900), {("acme", "app"): "b2 42P07"})
    taken_up = samples.changed("awaiting_approval", counts={"failed": 2, "pending": 1}, total=3, at=at(10))
    for step in (it.apply, it.recall) if told_first else (it.recall, it.apply):
        step(taken_up) if step == it.apply else step("r1", before)  # type: ignore[call-arg, arg-type]
    assert active(it).since == at(-900)
    assert active(it).failures() == {"b2 42P07": 1, "untold": 1}
    it.apply(samples.changed("running", counts={"failed": 2, "pending": 1}, total=3, at=at(20)))
    assert active(it).since == at(20)


def test_what_was_known_of_another_state_does_not_count() -> None:
    it = Rollouts()
    it.recall("r1", Before("running", at(-900)))
    it.apply(samples.changed("paused", at=at(10)))
    assert active(it).since == at(10)
