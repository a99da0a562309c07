"""What of a shard's rules counts, and how fast a backfill goes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.backfill import estimate, rules
from orchestrator.backfill.estimate import Speed
from orchestrator.backfill.model import Progress
from orchestrator.registry.backfills import SIGNALS, ProbeSignal, Rules, Threshold
from orchestrator.registry.model import Check
from orchestrator.registry.times import Hours, Window

PROBE = ProbeSignal(Check("queue", "sql", "SELECT 1"), Threshold(5.0, 4.0))
NIGHTS = Window("nights", "UTC", "tenant=nobody", (Hours(tuple(range(7)), 22 * 60, 30 * 60),))


def test_each_kind_of_server_has_its_own_signals() -> None:
    given = Rules(probes=(PROBE,))
    postgresql, mysql = (set(rules.of_server(given, one)) for one in ("postgresql", "mysql"))
    assert postgresql & mysql == {"probe:queue"}
    assert (
        mysql
        == set(rules.of_server(given, "mariadb"))
        == {
            "threads_running",
            "replica_lag",
            "history_list",
            "probe:queue",
        }
    )
    assert set(rules.of_table(given, "postgresql")) == {"dead_rows"}
    assert set(rules.of_server(given, "sqlite")) == {"probe:queue"}
    assert not rules.of_table(given, "mysql")
    everything = {name for one in SIGNALS.values() for name in one.dialects}
    assert everything == {"postgresql", "mysql", "mariadb"}


def test_a_threshold_that_is_ordered_for_a_probe_comes_before_its_own() -> None:
    given = Rules(probes=(PROBE,), thresholds={"probe:queue": Threshold(50.0, 40.0)})
    assert rules.of_server(given, "sqlite") == {"probe:queue": Threshold(50.0, 40.0)}
    gone = Rules(thresholds={"probe:queue": Threshold(50.0, 40.0)})
    assert not rules.of_server(gone, "sqlite"), "nothing would ever be heard of it"


@pytest.mark.parametrize(
    ("progress", "dead"),
    [
        (Progress(dead_rows=2_000_000, estimated=3_000_000), 2_000_000.0),
        (Progress(dead_rows=2_000_000, estimated=4_000_000), 0.0),
        (Progress(dead_rows=2_000_000), 2_000_000.0),
        (Progress(estimated=5), None),
    ],
)
def test_dead_rows_count_where_they_are_much_of_the_table(progress: Progress, dead: float | None) -> None:
    assert rules.readings(progress)["dead_rows"] == dead


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-30T21:00", (False, "2026-11-30T22:00")),
        ("2026-11-30T22:00", (True, "2026-12-01T06:00")),
        ("2026-12-01T05:59", (True, "2026-12-01T06:00")),
        ("2026-12-01T06:00", (False, "2026-12-01T22:00")),
    ],
)
def test_batches_run_while_all_hours_are_open(now: str, expected: tuple[bool, str]) -> None:
    found = rules.opening(Rules(hours=(NIGHTS,)), datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert (found.open, f"{found.until:%Y-%m-%dT%H:%M}") == expected


def test_without_hours_they_run_at_any_time_and_some_never_open() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert rules.opening(Rules(), now) == (True, None)
    days = Window("days", "UTC", open=(Hours(tuple(range(7)), 9 * 60, 17 * 60),))
    never = Rules(hours=(NIGHTS, days))
    assert rules.opening(never, now) == (False, None)
    assert "(nights and days), which never open" in rules.told(never, rules.opening(never, now))


def test_why_they_wait_names_the_hours_and_when_they_open() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    own = Rules(hours=(Window("", "UTC", open=NIGHTS.open),))
    assert rules.told(own, rules.opening(own, now)) == "outside of its hours, which open 2026-11-30T22:00:00.000Z"
    both = Rules(hours=(NIGHTS,))
    assert rules.told(both, rules.opening(both, now)).startswith(
        "outside of its hours (nights), which open 2026-11-30T"
    )


def test_speed_is_that_of_the_last_half_minute() -> None:
    speed = Speed()
    speed.hear(0, 0.0)
    assert speed.rows_per_second(5.0) is None, "before the first batch"
    for second in range(1, 61):
        speed.hear(100 * second, float(second))
    assert speed.rows_per_second(60.0) == pytest.approx(100.0, rel=0.05)
    for second in range(61, 121):
        speed.hear(6000 + 500 * (second - 60), float(second))
    assert speed.rows_per_second(120.0) == pytest.approx(500.0, rel=0.05)


def test_speed_falls_while_it_is_held() -> None:
    speed = Speed()
    for second in range(61):
        speed.hear(100 * second, float(second))
    for second in range(61, 76):
        speed.hear(6000, float(second))
    assert speed.rows_per_second(75.0) == pytest.approx(50.0, rel=0.1)
    for second in range(76, 120):
        speed.hear(6000, float(second))
    assert speed.rows_per_second(120.0) == 0.0


def test_speed_keeps_little_however_many_batches_there_are() -> None:
    speed = Speed()
    for batch in range(10_000):
        speed.hear(batch, batch / 100)
    assert speed.rows_per_second(100.0) == pytest.approx(100.0, rel=0.05)
    assert len(speed._heard) < 70


def test_one_that_begins_anew_is_no_slower_for_it() -> None:
    speed = Speed()
    speed.hear(5000, 0.0)
    speed.hear(6000, 1.0)
    speed.hear(0, 2.0)
    assert speed.rows_per_second(2.0) is None
    speed.hear(100, 3.0)
    assert speed.rows_per_second(3.0) == 100.0


def test_the_end_is_told_where_it_can_be() -> None:
    assert estimate.eta_seconds(Progress(seen=400, estimated=1000), 20.0) == 30.0
    assert estimate.eta_seconds(Progress(seen=1200, estimated=1000), 20.0) is None, "and not at its end"
    assert estimate.eta_seconds(Progress(seen=400), 20.0) is None
    assert estimate.eta_seconds(Progress(seen=400, estimated=1000), 0.0) is None
    assert estimate.eta_seconds(Progress(seen=400, estimated=1000), None) is None
    assert estimate.eta_seconds(Progress(seen=0, estimated=10**9), 0.001) is None
    assert estimate.eta_seconds(Progress(finished=True, seen=4), None) == 0.0
    assert estimate.done(Progress(seen=250, estimated=1000)) == 0.25
    assert estimate.done(Progress(seen=0, estimated=0)) == 0.0
    assert estimate.done(Progress(finished=True)) == 1.0
    assert estimate.done(Progress(seen=250)) is None
