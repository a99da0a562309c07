"""`orchestrator schedule …` and `freeze …`, against the HTTP surface in this process."""

from __future__ import annotations

import json

import anyio
import httpx2
import pytest
import structlog
import structlog.testing
from typer.testing import CliRunner

from orchestrator.api import application
from orchestrator.cli import connection
from orchestrator.cli.application import app
from orchestrator.client.daemon import Daemon
from tests.unit.api.fake import FakeOrchestrator, select


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOrchestrator:
    service = FakeOrchestrator()

    def to(server: str) -> Daemon:
        served = application.create(service, select=select, metrics=lambda accept: (b"", ""), stopping=anyio.Event())
        return Daemon("http://daemon", requested_by="anna", transport=httpx2.ASGITransport(served))

    monkeypatch.setattr(connection, "to", to)
    return service


def run(*arguments: str, code: int = 0) -> str:
    with structlog.testing.capture_logs():  # of the daemon, which is in this process
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.stdout


def test_schedules_are_listed_with_their_next_runs() -> None:
    said = run("schedule", "list", "--next", "2")
    assert "nightly   0 2 * * *  Europe/Berlin  app" in said
    assert "2026-11-22T01:00:00.000Z" in said
    [listed] = json.loads(run("schedule", "list", "--next", "2", "--json"))
    assert listed["next_runs"] == ["2026-11-22T01:00:00.000Z", "2026-11-23T01:00:00.000Z"]


def test_one_is_disabled_enabled_and_shown() -> None:
    assert "disabled by anna at 2026-11-21T02:00:00.000Z" in run("schedule", "disable", "nightly")
    assert json.loads(run("schedule", "show", "nightly", "--json"))["enabled"] is False
    assert "enabled by anna" in run("schedule", "enable", "nightly")
    said = run("schedule", "show", "nightly", "--next", "1")
    assert "upgrade of app to its own goal, default" in said
    assert "left out" in said


def test_one_is_run_now_and_its_runs_are_shown() -> None:
    assert run("schedule", "run", "nightly") == "nightly: started, rollout r001\n"
    assert json.loads(run("schedule", "run", "nightly", "--json"))["rollout"] == "r001"
    assert "started  r001     anna" in run("schedule", "show", "nightly")


def test_one_that_is_not_there_is_told_with_the_likeliest() -> None:
    done = CliRunner().invoke(app, ["schedule", "run", "nightl"])
    assert done.exit_code == 2
    assert "did you mean 'nightly'?" in done.output


def test_the_fleet_is_frozen_and_let_go() -> None:
    assert run("freeze", "show") == "not frozen\n"
    assert run("freeze", "on", "--reason", "incident 7") == (
        "frozen by anna since 2026-11-21T02:00:00.000Z: incident 7\n"
    )
    assert json.loads(run("freeze", "show", "--json"))["frozen"] is True
    assert run("freeze", "off") == "not frozen\n"
    run("freeze", "on", code=2)  # the reason is missing


def test_windows_are_overridden(fake: FakeOrchestrator) -> None:
    from orchestrator.rollout.state import Request

    rollout = fake.add(Request("app", "head")).id
    answer = json.loads(run("rollout", "override", rollout, "--reason", "CVE-2026-1", "--json"))
    assert answer["override"]["reason"] == "CVE-2026-1"
