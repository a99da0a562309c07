"""`orchestrator schedule …`: what starts by the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import connection, examples, options, screen
from orchestrator.cli.tables import NOTHING
from orchestrator.client import shapes

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the registry file has it.")]
Upcoming = Annotated[int, typer.Option("--next", min=0, max=100, help="How many of the next runs to show.")]

app = typer.Typer(help="Look at what starts by the clock, switch it on and off, start it now.", no_args_is_help=True)


@app.command("list", epilog=examples.of("schedule list"))
def list_schedules(
    upcoming: Upcoming = 3, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER
) -> None:
    """List the schedules with their next runs."""
    found = connection.ask(server, lambda daemon: daemon.schedules(upcoming=upcoming))
    screen.listing(found, schedules, as_json, "no schedules")


@app.command("show", epilog=examples.of("schedule show"))
def show(
    name: Name,
    upcoming: Upcoming = 5,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Show a schedule, its next runs, and what became of the latest ones."""
    screen.answer(connection.ask(server, lambda daemon: daemon.schedule(name, upcoming=upcoming)), described, as_json)


@app.command("enable", epilog=examples.of("schedule enable"))
def enable(name: Name, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Let a schedule start rollouts, whatever the file says. What was due meanwhile is not made up for."""
    screen.answer(connection.ask(server, lambda daemon: daemon.switch_schedule(name, enabled=True)), described, as_json)


@app.command("disable", epilog=examples.of("schedule disable"))
def disable(name: Name, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Let a schedule start nothing, until it is enabled again."""
    screen.answer(
        connection.ask(server, lambda daemon: daemon.switch_schedule(name, enabled=False)), described, as_json
    )


@app.command("run", epilog=examples.of("schedule run"))
def run(name: Name, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Start a schedule's rollout now, also where it is disabled."""
    came = connection.ask(server, lambda daemon: daemon.run_schedule(name))
    screen.answer(came, _came, as_json)
    if came["rollout"] and not as_json:
        screen.remark(f"\nfollow it with `orchestrator rollout watch {came['rollout']}`")


def schedules(listed: Sequence[shapes.Schedule]) -> Table:
    rows: list[screen.Row] = [
        [
            one["name"],
            one["cron"],
            one["timezone"],
            one["track"],
            one["select"] or NOTHING,
            Text("enabled" if one["enabled"] else "disabled", "" if one["enabled"] else "yellow"),
            "\n".join(one["next_runs"]) or NOTHING,
            _last(one["runs"]),
        ]
        for one in listed
    ]
    columns = ["schedule", "cron", "time zone", "track", "select", "state", "next runs", "last run"]
    return screen.table(columns, rows)


def described(one: shapes.Schedule) -> Iterator[RenderableType]:
    state = "enabled" if one["enabled"] else "disabled"
    by = f" by {one['switched_by']} at {one['switched_at']}" if one["switched_by"] else ""
    late = f"run once, if not older than {one['missed_seconds']:g} s" if one["missed"] == "run_once" else "left out"
    facts = [
        ("state", f"{state}{by}"),
        ("cron", f"{one['cron']} ({one['timezone']})"),
        ("rollout", f"{one['direction']} of {one['track']} to {one['to'] or 'its own goal'}, {one['strategy']}"),
        ("select", one["select"] or "all targets"),
        ("missed runs", late),
        *([("jitter", f"up to {one['jitter_seconds']:g} s")] if one["jitter_seconds"] else []),
        ("next runs", "\n".join(one["next_runs"]) or NOTHING),
    ]
    yield Text(one["name"], "bold")
    yield screen.facts(facts)
    if one["runs"]:
        yield ""
        yield runs(one["runs"])


def runs(listed: list[shapes.Run]) -> Table:
    rows: list[screen.Row] = [
        [
            one["planned_at"],
            screen.state(one["outcome"]),
            one["rollout"] or NOTHING,
            one["by"] or "the clock",
            one["reason"] or "",
        ]
        for one in listed
    ]
    return screen.table(["run", "came to", "rollout", "by", "reason"], rows)


def _came(one: shapes.Run) -> Iterator[RenderableType]:
    said = one["outcome"].replace("_", " ")
    yield f"{one['schedule']}: {said}" + (f", rollout {one['rollout']}" if one["rollout"] else "")
    if one["reason"]:
        yield one["reason"]


def _last(listed: list[shapes.Run]) -> str:
    return f"{listed[0]['planned_at']} {listed[0]['outcome'].replace('_', ' ')}" if listed else NOTHING
