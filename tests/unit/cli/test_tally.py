"""How far a rollout is, folded from its events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.cli.moments import FAILURES, Moment, WaveMoment
from orchestrator.cli.tally import FINISHED, RETRIABLE, Tally
from orchestrator.rollout import decide, state
from tests.unit.cli.samples import changed, created, event, finished, started


def at(second: float) -> datetime:
    return datetime(2026, 1, 2, 3, 4, int(second), int(second % 1 * 1e6), UTC)


def folded(*events: tuple[str, dict[str, Any]]) -> Tally:
    tally = Tally()
    for name, data in events:
        tally.apply(name, data)
    return tally


def moment(*events: tuple[str, dict[str, Any]], second: float = 10) -> Moment:
    return folded(*events).moment(at(second))


def test_the_words_are_those_of_rollouts() -> None:
    assert {word.value for word in state.FAILURES} == FAILURES
    assert {word.value for word in state.FINISHED} == FINISHED
    assert {word.value for word in decide.RETRIABLE} == RETRIABLE


def test_it_counts_what_runs_and_what_has_ended() -> None:
    seen = moment(created(5), started("a"), started("b"), started("c"), finished("a"), finished("b", "up_to_date"))
    assert (seen.title, seen.total, seen.running, seen.done) == ("app to head", 5, 1, 2)
    assert seen.counts == {"succeeded": 1, "up_to_date": 1}


def test_a_further_attempt_is_no_further_target() -> None:
    assert moment(created(2), started("a"), started("a")).running == 1


def test_the_rate_leaves_out_targets_that_had_nothing_to_do() -> None:
    seen = moment(
        created(10),
        changed("running", 0, pending=10),
        *(finished(tenant, "up_to_date") for tenant in "abcd"),
        *(finished(tenant) for tenant in "efgh"),
        second=2,
    )
    assert seen.rate == 2.0
    assert seen.eta_seconds == 1.0


def test_there_is_no_eta_before_there_is_a_rate() -> None:
    seen = moment(created(10), changed("running", 0, pending=10))
    assert seen.rate is None
    assert seen.eta_seconds is None


def test_the_clock_stands_still_at_the_end_and_starts_again_after_a_pause() -> None:
    events = [created(2), changed("running", 1, pending=2), finished("a"), changed("paused", 5, "why", succeeded=1)]
    assert moment(*events, second=30).seconds == 4
    again = changed("running", 20, pending=1, succeeded=1)
    resumed = moment(*events, again, finished("b"), second=22)
    assert (resumed.seconds, resumed.rate) == (2, 0.5)


def test_after_a_retry_what_failed_is_pending_again() -> None:
    ended = [created(3), finished("a"), finished("b", "failed", signature="x", message="m"), finished("c", "cancelled")]
    seen = moment(*ended, changed("failed", 5, succeeded=1, failed=1, cancelled=1))
    assert (seen.done, seen.failures) == (3, 1)
    again = moment(*ended, changed("failed", 5), changed("running", 9, succeeded=1, pending=2))
    assert (again.done, again.failures, again.state) == (1, 0, "running")


def test_a_new_cause_of_failure_is_told_once() -> None:
    tally = folded(created(9))
    told = [
        tally.apply(*finished(tenant, "failed", signature=signature, message="boom"))
        for tenant, signature in [("a", "x"), ("b", "x"), ("c", "y")]
    ]
    assert told == ["a failed: boom", None, "c failed: boom"]


def test_events_of_other_rollouts_change_nothing() -> None:
    seen = moment(
        finished("z", "cancelled"), created(2), ("MigrationFinished", {"rollout": "q", "tenant": "a", "outcome": "x"})
    )
    assert seen.done == 0


@pytest.mark.parametrize("name", ["TargetObserved", "StepApplied", "SomethingNew"])
def test_events_that_do_not_matter_are_ignored(name: str) -> None:
    assert folded(created(2), event(name, tenant="a")).moment(at(1)).done == 0


def test_waves_tell_how_far_each_is() -> None:
    name, data = created(3)
    begun = (name, {**data, "waves": {"canary": 1, "everyone": 2}})
    seen = moment(
        begun,
        event("WaveChanged", wave="canary", change="started"),
        finished("a", wave="canary"),
        event("WaveChanged", wave="canary", change="passed"),
        event("WaveChanged", wave="everyone", change="started"),
        event("MigrationStarted", tenant="b", wave="everyone"),
        finished("c", "failed", wave="everyone", signature="x", message="boom"),
    )
    assert seen.waves == (
        WaveMoment("canary", "passed", 1, 1, 0, 0),
        WaveMoment("everyone", "started", 2, 1, 1, 1),
    )


def test_what_a_wave_waited_for_is_over_when_it_goes_on() -> None:
    waits = event("RolloutStateChanged", 1, state="running", reason=None, counts={}, waiting="waiting for wave a")
    assert moment(created(2), waits).waiting == "waiting for wave a"
    assert moment(created(2), waits, event("WaveChanged", wave="a", change="passed")).waiting is None


def test_causes_are_counted_and_forgotten_where_a_target_is_tried_again() -> None:
    failing = [finished(name, "failed", signature="x", message="boom") for name in ("a", "b")]
    tally = folded(created(9), *failing, finished("c", "locked", signature="y", message="held"))
    assert [(cause.signature, cause.count) for cause in tally.moment(at(1)).causes] == [("x", 2), ("y", 1)]
    tally.apply(*started("a"))
    tally.apply(*finished("a"))
    assert [(cause.signature, cause.tenants) for cause in tally.moment(at(1)).causes] == [("x", ("b",)), ("y", ("c",))]


def test_two_tracks_of_a_tenant_are_two_targets() -> None:
    name, data = finished("a")
    assert moment(created(2), (name, data), (name, {**data, "track": "dw"})).done == 2


def test_a_throttled_shard_is_told_when_its_limit_changes() -> None:
    tally = folded(created(2))
    told = [tally.throttle("pg", *values) for values in [(2, 8, "few"), (2, 8, "fewer"), (1, 8, "x"), (8, 8, None)]]
    assert [bool(text) for text in told] == [True, False, True, False]
    assert tally.moment(at(1)).throttled == ()


def test_what_a_killed_daemon_had_running_is_pending_again_and_what_failed_stays() -> None:
    tally = folded(created(9), finished("a", "failed", signature="x", message="boom"), started("b"), started("c"))
    tally.apply(*changed("running", 9, pending=8, failed=1))
    seen = tally.moment(at(9))
    assert (seen.running, seen.failures, [cause.count for cause in seen.causes]) == (0, 1, [1])
