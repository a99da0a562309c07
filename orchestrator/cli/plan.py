"""`orchestrator plan` and `orchestrator sql`: what would run, before anybody runs it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import markdown, options, screen, summary, tables
from orchestrator.cli.migrate import UNREACHABLE, completed
from orchestrator.client import shapes

if TYPE_CHECKING:
    from orchestrator.rollout.state import Request
    from orchestrator.settings import Settings

# When `--fail-on` is given, and a finding is as bad as that.
FINDINGS = 6
STYLES = {"error": "red", "warning": "yellow", "info": "dim"}


class FailOn(StrEnum):
    """The levels that `--fail-on` takes."""

    ERROR = "error"
    WARNING = "warning"


Fail = Annotated[
    FailOn | None, typer.Option("--fail-on", help="Exit with 6 when a finding is as bad as that, or worse.")
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Answer as a comment for a pull request, with the SQL.")]


def plan(
    track: options.Track = None,
    to: options.To = "",
    select: options.Select = "",
    direction: options.Direction = "upgrade",
    as_json: options.Json = False,
    as_markdown: Markdown = False,
    fail_on: Fail = None,
    config: options.Config = None,
) -> None:
    """Show what would run: groups of targets with equal heads, and which of their revisions are SQL.

    Reads the targets' heads and changes nothing. The digest is of all that would run, and where: `migrate` and `rollout
    start` take it with --plan-digest, and start only if that is still so.

    Exits with 6 when there are findings that are as bad as --fail-on says, else with 5 when targets cannot be reached.
    """
    found = _found(track, to, select, direction, config)
    if as_markdown and not as_json:
        screen.write_lines([markdown.comment(found)])
    else:
        screen.answer(found, _planned, as_json)
    raise typer.Exit(FINDINGS if _fails(found, fail_on) else _exit_code(found))


def sql(
    track: options.Track = None,
    to: options.To = "",
    select: options.Select = "",
    direction: options.Direction = "upgrade",
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show the SQL that would be sent, as it stands: for each group of targets with equal heads, message by message."""
    found = _found(track, to, select, direction, config)
    if as_json:
        screen.write_json(found)
    else:
        screen.write_lines(_script(found))
    raise typer.Exit(_exit_code(found))


def _found(track: str | None, to: str, select: str, direction: str, config: object) -> shapes.CompiledPlan:
    from orchestrator import settings
    from orchestrator.cli import remarks
    from orchestrator.rollout.state import Direction, Request

    [wanted] = options.words(Direction, [direction], "--direction")
    configured = settings.load(config=config)
    remarks.configure()
    return anyio.run(_compile, configured, Request(track or "", to, select, direction=wanted))


async def _compile(settings: Settings, request: Request) -> shapes.CompiledPlan:
    from orchestrator.api import schemas
    from orchestrator.service import foreground

    request = await completed(settings, request)
    found = schemas.compiled_plan(request, await foreground.plan(settings, request))
    return cast(shapes.CompiledPlan, found.model_dump(mode="json"))


def _fails(found: shapes.CompiledPlan, fail_on: FailOn | None) -> bool:
    if fail_on is None or found["worst"] is None:
        return False
    return found["worst"] == "error" or found["worst"] == fail_on


def _exit_code(found: shapes.CompiledPlan) -> int:
    return UNREACHABLE if any(group["state"] == "unreachable" for group in found["groups"]) else 0


def _planned(found: shapes.CompiledPlan) -> Iterator[RenderableType]:
    working = sum(group["count"] for group in found["groups"] if group["steps"])
    of = screen.plural(found["total"], "target")
    yield f"{working:,} of {of} would be migrated, {found['track']} to {found['to']}; nothing was changed"
    for group in found["groups"]:
        yield _headline(group)
        if group["steps"]:
            yield screen.indented(_steps(group))
            yield from _findings(group)
        elif group["problem"]:
            yield screen.indented(Text(group["problem"]))
    yield f"\ndigest {found['digest']}"


def _headline(group: shapes.CompiledGroup) -> Text:
    text = Text(f"\n{screen.plural(group['count'], 'target')} at {tables.heads(group['heads'])}: ")
    text.append_text(screen.state(group["state"]))
    text.append(f"  {summary.named(group['targets'][:3], group['count'], shown=3)}", "dim")
    return text


def _findings(group: shapes.CompiledGroup) -> Iterator[RenderableType]:
    """What is not in the table of steps, the worst first."""
    reasons = tuple({step["reason"] for step in group["steps"] if step["reason"]})
    for finding in group["findings"]:
        known = finding["level"] == "info" and finding["rule"] in ("online", "unread")
        if not (known and finding["message"].endswith(reasons)):
            style = STYLES.get(finding["level"], "")
            text = Text(f"{finding['level']} {finding['rule']}  ", style)
            text.append(f"{finding['revision']}: " if finding["revision"] else "", "")
            text.append(screen.plain(finding["message"]), "")
            yield screen.indented(text)
            if finding["statement"]:
                yield screen.indented(Text(screen.plain(finding["statement"]), "dim"), 4)


def _steps(group: shapes.CompiledGroup) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for step in group["steps"]:
        grid.add_row(Text(step["revision"]), Text(step["execution"]), Text(step["reason"] or "", "dim"))
    return grid


def _script(plan: shapes.CompiledPlan) -> Iterator[str]:
    for group in plan["groups"]:
        if not group["steps"]:
            continue
        of = f"{screen.plural(group['count'], 'target')} at {tables.heads(group['heads'])}, to {plan['to']}"
        yield f"-- {of}; as {group['targets'][0]} is sent it" if group["sql"] and group["count"] > 1 else f"-- {of}"
        yield from (f"-- {found['message']}" for found in group["findings"] if found["rule"] == "adopts")
        for step in group["steps"]:
            if step["execution"] != "sql":
                yield f"-- {step['revision']} is run by env.py: {' '.join((step['reason'] or '').split())}"
        for number, message in enumerate(group["sql"], 1):
            yield f"-- message {number} of {len(group['sql'])}"
            yield message
