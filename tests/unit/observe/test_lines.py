from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from orchestrator import events
from orchestrator.observe import lines
from orchestrator.observe.log_events import BY_EVENT
from tests.unit.observe import samples


def only(event: events.Event) -> lines.Line | None:
    """The line of an event that has one at most."""
    found = list(lines.lines(event))
    assert len(found) <= 1
    return found[0] if found else None


def leaves() -> set[type[events.Event]]:
    """The events that are published: those that no other event refines."""
    classes = {it for it in vars(events).values() if isinstance(it, type) and issubclass(it, events.Event)}
    return {cls for cls in classes if not any(other is not cls and issubclass(other, cls) for other in classes)}


def test_every_event_has_a_line() -> None:
    assert set(BY_EVENT) == leaves()


def test_the_line_of_a_success() -> None:
    line = only(samples.finished(seconds=1.23456))
    assert line == lines.Line(
        "info",
        "migration_finished",
        {
            "rollout": "r1",
            "track": "app",
            "tenant": "acme",
            "shard": "pg-1",
            "wave": "everyone",
            "outcome": "succeeded",
            "attempts": 1,
            "seconds": 1.235,
            "lock_wait_seconds": 0.0,
            "retries": {},
            "backfill_rows": 0,
            "reverting": False,
            "execution": "online",
            "from": ("a1",),
            "to": ("b2",),
            "steps": 1,
        },
    )


def test_the_line_of_a_failure_tells_the_error() -> None:
    line = only(
        samples.finished(
            outcome="failed", kind="failed", code="42P07", revision="b2", message="exists", remedy="look", signature="s"
        )
    )
    assert line is not None
    assert line.level == "error"
    assert line.fields.items() >= {
        ("error", "failed"),
        ("error_code", "42P07"),
        ("error_revision", "b2"),
        ("message", "exists"),
        ("remedy", "look"),
        ("signature", "s"),
    }


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (samples.finished(outcome="up_to_date"), "info"),
        (samples.finished(outcome="locked"), "warning"),
        (samples.finished(outcome="unreachable"), "warning"),
        (samples.retried(), "info"),
        (samples.created(), "info"),
        (samples.changed("running"), "info"),
        (samples.changed("paused"), "warning"),
        (samples.changed("failed"), "info"),
        (events.RegistryReloaded(result="changed", targets=3), "info"),
        (events.RegistryReloaded(result="failed", targets=3, message="2 mistakes"), "error"),
        (events.ShardThrottled(shard="pg-1", limit=3, allowed=8, reason="few left"), "warning"),
        (events.ShardLimitChanged(shard="pg-1", limit=4, allowed=8, reason="few left"), "debug"),
        (events.ShardLimitChanged(shard="pg-1", limit=8, allowed=8), "info"),
        (samples.backfill_started(), "debug"),
        (samples.backfill_progressed(), "debug"),
        (samples.backfill_finished(), "info"),
        (samples.backfill_stopped("stopped"), "info"),
        (samples.backfill_stopped("too_slow"), "warning"),
        (samples.held(), "info"),
        (samples.held(tenant="acme", track="app", rollout="r1"), "debug"),
        (samples.finished(outcome="cancelled"), "info"),
        (samples.started(), "debug"),
        (samples.observed(), "debug"),
    ],
)
def test_levels(event: events.Event, level: str) -> None:
    assert lines.level(event) == level


def test_writing_an_event_writes_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with capture_logs() as logged:
        lines.writer(lambda event: {})(samples.retried())
    assert logged == [
        {
            "event": "migration_retried",
            "log_level": "info",
            "rollout": "r1",
            "track": "app",
            "tenant": "acme",
            "shard": "pg-1",
            "wave": "everyone",
            "attempt": 1,
            "reason": "lock_timeout",
            "message": "canceling statement due to lock timeout",
            "wait_seconds": 1.25,
        }
    ]


def test_an_event_that_nobody_named_has_no_line() -> None:
    assert only(events.Event()) is None


def test_who_leads_is_told_and_a_lost_lead_wants_a_person() -> None:
    elected = only(events.LeaderElected(leader="db1:7:c0ffee", epoch=3))
    assert elected == lines.Line("info", "leader_elected", {"leader": "db1:7:c0ffee", "epoch": 3})
    lost = only(events.LeaderLost(reason="taken over"))
    assert lost == lines.Line("error", "leader_lost", {"reason": "taken over"})
    standby = only(events.StoodBy(leader=None))
    assert standby == lines.Line("info", "standby", {})


def test_a_backfill_ends_in_one_line_without_a_number_for_each_batch() -> None:
    line = only(samples.backfill_finished(batches=(0.4, 0.5), rows=80))
    assert line is not None
    assert line.name == "backfill_finished"
    assert line.fields["changed"] == 180
    assert "batches" not in line.fields
    assert line.fields["revision"] == "b2"


def ended(state: str, **ending: object) -> events.RolloutStateChanged:
    counts = {"succeeded": 1, "failed": 1}
    told = {"goal": "head", "strategy": "canary", "created_by": "user:ann", "failures": {"b2 42P07": 1}, **ending}
    return samples.changed(state, counts=counts, seconds=61.23456, reason="too many", ending=told)


def test_the_end_of_a_rollout_has_a_line_of_its_own_that_stands_by_itself() -> None:
    changed, finished = lines.lines(ended("failed"))
    assert (changed.name, changed.level) == ("rollout_state_changed", "info")
    assert "ending" not in changed.fields
    assert (finished.name, finished.level) == ("rollout_finished", "error")
    assert finished.fields == {
        "rollout": "r1",
        "track": "app",
        "outcome": "failed",
        "reason": "too many",
        "total": 2,
        "counts": {"succeeded": 1, "failed": 1},
        "waves": {},
        "seconds": 61.235,
        "goal": "head",
        "strategy": "canary",
        "created_by": "user:ann",
        "failures": {"b2 42P07": 1},
    }


@pytest.mark.parametrize(
    ("state", "level"), [("succeeded", "info"), ("aborted", "warning"), ("rolled_back", "warning")]
)
def test_how_loud_the_end_of_a_rollout_is(state: str, level: str) -> None:
    *_, finished = lines.lines(ended(state))
    assert (finished.name, finished.level) == ("rollout_finished", level)


def test_a_rollout_that_goes_on_has_not_finished() -> None:
    assert [line.name for line in lines.lines(samples.changed("running"))] == ["rollout_state_changed"]


def test_where_a_target_is_stands_in_its_last_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with capture_logs() as logged:
        write = lines.writer(lambda event: {"database": f"db_{event.tenant}", "schema": None})
        write(samples.finished())
        write(samples.retried())
    assert [(line["event"], line.get("database"), "schema" in line) for line in logged] == [
        ("migration_finished", "db_acme", False),
        ("migration_retried", None, False),
    ]


@pytest.mark.parametrize(("level", "heard"), [("INFO", 1), ("WARNING", 0)])
def test_a_line_that_nobody_hears_is_not_made(caplog: pytest.LogCaptureFixture, level: str, heard: int) -> None:
    caplog.set_level(level)
    asked: list[events.Event] = []

    def where(event: events.MigrationFinished) -> dict[str, str | None]:
        asked.append(event)
        return {}

    lines.writer(where)(samples.finished())
    assert len(asked) == heard


def test_the_last_line_of_a_rollout_is_heard_whatever_its_state_is_told_as(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    with capture_logs() as logged:
        lines.writer(lambda event: {})(ended("failed"))
    assert "rollout_finished" in [line["event"] for line in logged]
