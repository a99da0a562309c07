"""`orchestrator backfill …`, against the HTTP surface in this process; and how backfills are shown beside rollouts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx2
import pytest
import structlog
import structlog.testing
from typer.testing import CliRunner

from orchestrator.api import application
from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Record, standing
from orchestrator.backfill.steering import Adjustment, Scope
from orchestrator.cli import (
    backfill_lines,
    backfill_tables,
    backfill_tally,
    backfill_watching,
    connection,
    summary,
    view,
)
from orchestrator.cli.application import app
from orchestrator.cli.moments import BackfillMoment, Moment
from orchestrator.cli.tally import Tally
from orchestrator.client.daemon import Daemon
from orchestrator.rollout.state import Request, RolloutState
from tests.unit.api.fake import FakeOrchestrator, select
from tests.unit.api.fake_backfills import LAG, START, underway
from tests.unit.cli import samples
from tests.unit.cli.samples import event, plain

WHY = ("--reason", "month-end")
DONE = replace(underway("beta"), progress=Progress(True, 900, 800, 900), rows_per_second=None, eta_seconds=None)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOrchestrator:
    service = FakeOrchestrator()
    service.backfills.records = [
        standing(underway(holds=(replace(LAG, text="a standby is 14 s behind"),))),
        Record(DONE, "finished", None, START),
    ]

    def to(server: str) -> Daemon:
        served = application.create(service, select=select, metrics=lambda accept: (b"", ""), stopping=anyio.Event())
        return Daemon("http://daemon", requested_by="anna", transport=httpx2.ASGITransport(served))

    monkeypatch.setattr(connection, "to", to)
    return service


def run(*arguments: str, code: int = 0) -> str:
    with structlog.testing.capture_logs():  # of the daemon, which is in this process
        done = CliRunner().invoke(app, ["backfill", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if "--json" in arguments else done.output


def test_they_are_listed_with_how_far_they_are_and_why_they_wait() -> None:
    head, held, done = run("list").splitlines()
    assert head.split() == ["tenant", "revision", "state", "progress", "rows", "rows/s", "left", "batch", "why"]
    assert held.split("  ")[0] == "acme"
    assert "━━━━━───────────────  250 of 1,000" in held
    assert held.endswith("a standby is 14 s behind")
    assert "━━━━━━━━━━━━━━━━━━━━    900 of 900" in done
    [one] = json.loads(run("list", "--state", "held", "--tenant", "acme", "--json"))
    assert (one["tenant"], one["holds"][0]["reason"]) == ("acme", "replication_lag")
    assert "no backfills" in run("list", "--shard", "pg-7")
    assert "use one of: running" in run("list", "--state", "lost", code=2)


def test_a_tenants_are_shown_whole() -> None:
    said = run("show", "acme")
    for part in (
        "acme/app b2 is held",
        "tickets by id, on shard pg-1",
        "250 of 1,000 rows (25 %)",
        "dead rows",
        "last key   ",
        "250\n",
    ):
        assert part in said
    assert "waits (replication_lag)" in said
    assert "there is no backfill of 'gamma'" in run("show", "gamma", code=2)
    assert [one["state"] for one in json.loads(run("show", "beta", "--json"))] == ["finished"]


def test_the_fleet_is_summed_up_and_shows_the_orders_that_stand() -> None:
    run("set", "--shard", "pg-1", "--duty", "0.5", "--threshold", "replication_lag=3", *WHY)
    said = run("summary")
    assert "backfill b2 (app): 1 held, 1 finished; 1,150 of 1,900 rows (60 %)" in said
    assert "waits: 1 replication_lag" in said
    assert "adjusted shard pg-1 (duty 0.5, replication_lag 3) by" in said
    told = json.loads(run("summary", "--track", "app", "--json"))
    assert [one["adjustment"]["thresholds"] for one in told["orders"]] == [{"replication_lag": 3.0}]
    assert "no backfills of active rollouts" in run("summary", "--track", "other")


@pytest.mark.parametrize("action", ["pause", "abort"])
def test_they_are_steered(fake: FakeOrchestrator, action: str) -> None:
    said = run(action, "--shard", "pg-1", "--tenant", "acme", *WHY)
    assert "shard pg-1, tenant acme: 1 backfill underway" in said
    assert json.loads(run(action, "--all", *WHY, "--json"))["count"] == 1
    first, second = fake.backfills.orders
    assert (first.action, first.scope, first.reason) == (action, Scope(shard="pg-1", tenant="acme"), "month-end")
    assert second.scope == Scope()
    assert "none of those that are underway" in run(action, "--revision", "b9", *WHY)


def test_a_resume_tells_what_goes_on_and_what_to_type_for_what_does_not(fake: FakeOrchestrator) -> None:
    fake.backfills.records = [standing(underway("acme")), standing(underway("beta", holds=(LAG,)))]
    run("pause", "--shard", "pg-1", *WHY)
    run("pause", "--tenant", "acme", *WHY)
    said = run("resume", "--tenant", "acme", *WHY)
    assert "resumed tenant acme: none of those that are underway goes on" in said
    assert "1 backfill stays paused, held by" in said
    assert "orchestrator backfill resume --shard pg-1 --reason …   # shard pg-1 (" in said
    assert "anna: month-end)" in said
    said = run("resume", "--all", *WHY)
    assert "resumed all backfills: 1 backfill goes on" in said
    assert "took back the pause of shard pg-1 (" in said
    assert "still waiting for something else: 1 replication_lag" in said
    run("pause", "--shard", "pg-1", *WHY)
    assert json.loads(run("resume", "--shard", "pg-1", *WHY, "--json"))["count"] == 1


def test_their_pace_is_set_and_reset(fake: FakeOrchestrator) -> None:
    run("set", "--all", "--rows-per-second", "2000", "--batch-size", "500", *WHY)
    assert "as the registry says" in run("set", "--all", "--reset", *WHY)
    first, second = fake.backfills.orders
    assert (first.adjustment, second.adjustment) == (Adjustment(2000, None, 500), Adjustment())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause", *WHY), "which backfills?"),
        (("abort", "--all", "--shard", "pg-1", *WHY), "--all and --shard contradict each other"),
        (("pause", "--all"), "Missing option '--reason'"),
        (("set", "--all", *WHY), "say what to change"),
        (("set", "--all", "--reset", "--duty", "1", *WHY), "so nothing can be set with it"),
        (("set", "--all", "--threshold", "lag", *WHY), "'lag' is no threshold"),
        (("set", "--all", "--threshold", "lag=-1", *WHY), "is no threshold"),
        (("set", "--all", "--duty", "2", *WHY), "--duty: 2 is no part of the time"),
        (("pause", "--shard", "pg-9", *WHY), "there is no shard 'pg-9'"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(fake: FakeOrchestrator, arguments: tuple[str, ...], said: str) -> None:
    assert said in run(*arguments, code=2)
    assert fake.backfills.orders == []


def test_watching_ends_when_none_is_underway(fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_watching, "ASK_SECONDS", 0.01)
    asked, listed = 0, fake.backfills.listed

    async def moving(**given: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            fake.backfills.records[0] = Record(underway(), "stopped", "too slow", START)
        return await listed(**given)

    monkeypatch.setattr(fake.backfills, "listed", moving)
    [one] = json.loads(run("watch", "--json", code=3))
    assert (one["tenant"], one["state"], one["reason"]) == ("acme", "stopped", "too slow")
    assert "no backfills are underway" in run("watch")


def test_watching_a_rollout_ends_with_it(fake: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_watching, "ASK_SECONDS", 0.01)
    rollout = fake.add(Request("app", "head")).id
    fake.change(rollout, RolloutState.SUCCEEDED)
    assert "acme" in run("watch", "--rollout", rollout)


# Beside rollouts


def test_a_rollouts_own_are_shown_with_it() -> None:
    rollout = samples.rollout("running", running=2)
    rollout["backfills"] = [
        {
            "track": "app",
            "revision": "b2",
            "direction": "upgrade",
            "states": {"running": 1, "held": 1, "stopped": 0, "finished": 3},
            "rows_seen": 700,
            "rows_changed": 650,
            "rows_estimated": 1000,
            "ratio": 0.7,
            "rows_per_second": 20.0,
            "eta_seconds": 15.0,
            "holds": {"paused": 1},
        }
    ]
    said = plain(*summary.summary(rollout), width=200)
    line = "backfill b2 (app): 1 running, 1 held, 3 finished; 700 of 1,000 rows (70 %) · 20 rows/s · about 0:15 left"
    assert f"  {line} · waits: 1 paused" in said
    del rollout["backfills"]  # type: ignore[misc]
    assert "backfill" not in plain(*summary.summary(rollout))


def backfill(name: str, tenant: str = "acme", **data: Any) -> tuple[str, dict[str, Any]]:
    given: dict[str, Any] = {
        "tenant": tenant,
        "shard": "pg-1",
        "revision": "b2",
        "ordinal": 1,
        "seen": 0,
        "estimated": 1000,
    }
    return event(name, **given | data)


def moment(*told: tuple[str, dict[str, Any]]) -> Moment:
    tally = Tally("r")
    for name, data in told:
        tally.apply(name, data)
    return tally.moment(datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC))


def test_a_target_in_a_backfill_is_shown_with_rows_and_rate() -> None:
    begun = [samples.created(9), samples.changed("running"), backfill("BackfillStarted")]
    going = backfill("BackfillProgressed", seen=250, rows_per_second=50.0, eta_seconds=15.0)
    seen = moment(*begun, going)
    assert seen.backfills == (BackfillMoment("acme", "b2", 250, 1000, 0.25, 50.0, 15.0),)
    assert "1 backfill, 50 rows/s" in view.line(seen)
    shown = plain(view.View(seen), width=100).splitlines()
    assert shown[-1] == "  acme b2  ━━━━━───────────────  250 of 1,000 rows (25 %) · 50 rows/s · about 0:15 left"
    for end in (backfill("BackfillFinished"), backfill("BackfillStopped"), samples.finished("acme")):
        assert moment(*begun, going, end).backfills == ()
    assert moment(*begun, going, samples.changed("paused")).backfills
    assert moment(*begun, going, samples.changed("aborted")).backfills == ()


def test_why_it_waits_is_shown_for_its_own_holds_and_its_shards() -> None:
    begun = [samples.created(9), backfill("BackfillStarted"), backfill("BackfillStarted", "beta", shard="pg-2")]
    shard = ("BackfillHeld", {"shard": "pg-1", "reason": "lag", "text": "9 s behind", "rollout": None, "tenant": None})
    own = event("BackfillHeld", tenant="beta", shard="pg-2", reason="paused", text="paused by anna")
    other = ("BackfillHeld", {**own[1], "rollout": "r9", "text": "not ours"})
    seen = {one.tenant: one.waits for one in moment(*begun, shard, own, other).backfills}
    assert seen == {"acme": "9 s behind", "beta": "paused by anna"}
    after = moment(*begun, shard, own, ("BackfillReleased", shard[1]), ("BackfillReleased", own[1])).backfills
    assert [one.waits for one in after] == [None, None]


def test_many_are_counted_and_those_that_wait_come_first() -> None:
    many = tuple(BackfillMoment(f"t{n}", "b2", n, None, waits="paused" if n == 8 else None) for n in range(9))
    shown = plain(view.View(Moment("app to head", "running", None, 9, 9, {}, 1, None, backfills=many)), width=60)
    lines = shown.splitlines()[2:]
    assert lines[0] == "  t8 b2  8 rows · waits: paused"
    assert lines[-1] == "  and 3 backfills more"
    assert "9 backfills (1 waits)" in shown


@pytest.mark.parametrize(("width", "columns"), [(140, backfill_tables.COLUMNS), (80, backfill_tables.NARROW_COLUMNS)])
def test_each_has_a_line_of_its_own_as_wide_as_the_screen(width: int, columns: tuple[str, ...]) -> None:
    found = json.loads(run("list", "--json"))
    head, *lines = plain(backfill_tables.listing(found), width=width).splitlines()
    assert head.split() == list(columns)
    assert len(lines) == len(found) == 2
    assert "a standby is 14 s behind" in lines[0]
    assert max(map(len, lines)) <= width


def test_what_waits_is_told_without_the_pace_that_it_had() -> None:
    [held, _] = json.loads(run("list", "--json"))
    held["rows_per_second"], held["eta_seconds"] = 250.0, 40.0
    assert backfill_lines.together([backfill_tally.moment_of(held)]) == "1 backfill (1 waits)"
    assert "250" not in plain(backfill_tables.listing([held])).replace("250 of", "")
    assert "pace" not in plain(*backfill_tables.described([held]))


def test_a_rollout_lasts_as_long_as_its_last_backfill() -> None:
    going = BackfillMoment("acme", "b2", 10, 100, rate=1.0, eta_seconds=480.0)
    moment = Moment("app to head", "running", None, 100, running=1, counts={"succeeded": 99}, rate=1.0, seconds=99.0)
    assert moment.eta_seconds == 1.0
    assert replace(moment, backfills=(going,)).eta_seconds == 480.0
