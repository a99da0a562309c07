"""`orchestrator migrate`: a rollout in the foreground, or a look at what it would do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer

from orchestrator.cli import interrupt, live, options, screen, summary, tables
from orchestrator.cli.tally import Tally
from orchestrator.client import shapes
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.events import Event
    from orchestrator.rollout.state import Request
    from orchestrator.settings import Settings

UNREACHABLE = 5
LEAVING = "the version tables tell how far each target came"


def migrate(
    track: options.Track = None,
    to: options.To = "",
    select: options.Select = "",
    direction: options.Direction = "upgrade",
    strategy: options.Strategy = "default",
    max_concurrent: options.MaxConcurrent = None,
    plan_digest: options.PlanDigest = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve whatever the strategy wants approved.")] = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    log_format: options.ToldAsJson = None,
    log_level: options.ToldAtLevel = None,
    config: options.Config = None,
    store_url: options.StoreUrl = None,
) -> None:
    """Bring targets to a goal, here and now; no daemon is needed.

    Exits with 0 when all are at the goal, 3 when targets failed, 4 when it was stopped, or is not what was planned.
    """
    from orchestrator import settings
    from orchestrator.cli import remarks
    from orchestrator.observe import logs
    from orchestrator.rollout.state import Direction, Request

    [wanted] = options.words(Direction, [direction], "--direction")
    configured = settings.load(
        config=config,
        store_url=store_url,
        max_concurrent=max_concurrent,
        log_format=log_format,
        log_level=log_level,
    )
    request = Request(track or "", to, select, strategy, wanted, max_concurrent=max_concurrent, plan_digest=plan_digest)
    for_machines = configured.log_format == "json"
    if for_machines:
        logs.configure("json", configured.log_level)
    else:
        remarks.configure()
    if dry_run:
        preview = anyio.run(_preview, configured, request)
        screen.answer(preview, tables.preview, as_json)
        raise typer.Exit(UNREACHABLE if any(g["state"] == "unreachable" for g in preview["groups"]) else 0)
    ended = anyio.run(_migrate, configured, request, yes)
    screen.answer(ended, summary.summary, as_json)
    if ended["state"] != "succeeded" and not (as_json or for_machines):
        screen.remark(f"\n{_how_to_go_on(ended['to'])}")
    raise typer.Exit(summary.exit_code(ended))


def _how_to_go_on(to: str) -> str:
    if re.search(r"(^|@)[+-]\d+$", to):
        return f"to go on, name a revision with --to: {to} would count anew, from where each target is by now"
    return "the same command again goes on: targets at the goal are left alone"


def only_track(tracks: Mapping[str, object], wanted: str) -> str:
    """The track that is meant. Raises ConfigurationError when several could be."""
    if wanted or len(tracks) == 1:
        return wanted or next(iter(tracks))
    names = ", ".join(tracks)
    raise ConfigurationError(
        f"the registry has {len(tracks)} tracks",
        remedy=f"name one with --track: {names}; or all of them with --track '*'" if names else "add one",
    )


async def completed(settings: Settings, request: Request) -> Request:
    """The request with the only track there is, and with its goal, where nobody named them."""
    from orchestrator.rollout.state import EVERY
    from orchestrator.service import daemon

    if request.track and request.to:
        return request
    tracks = (await daemon.opened(settings)).current.tracks
    name = only_track(tracks, request.track)
    # Of a track that is not there, the service tells; every track has a goal of its own.
    return replace(request, track=name, to=request.to or (tracks[name].goal if name in tracks else EVERY))


async def _preview(settings: Settings, request: Request) -> shapes.Preview:
    from orchestrator.api import schemas
    from orchestrator.service import foreground

    request = await completed(settings, request)
    groups = await foreground.preview(settings, request)
    return cast(shapes.Preview, schemas.preview(request, groups).model_dump(mode="json"))


async def _migrate(settings: Settings, request: Request, approve: bool) -> shapes.Rollout:
    from orchestrator.api import schemas
    from orchestrator.service import foreground

    request = await completed(settings, request)
    stopping, tally = anyio.Event(), Tally()
    for_machines = settings.log_format == "json"

    def stop() -> None:
        stopping.set()
        if for_machines:
            return
        running = screen.plural(len(tally.running), "running target")
        screen.remark(f"stopping: {running} may end, nothing more is started; Ctrl-C again leaves at once")

    with screen.reserved_stdout():
        following = live.nobody(tally) if for_machines else live.following(tally)
        async with interrupt.handled(stop, leaving=LEAVING), following as shown:

            def listen(event: Event) -> None:
                shown.hear(event.name, event.as_dict())

            with nullcontext() if for_machines else _logs_on_screen():
                view = await foreground.migrate(
                    settings,
                    request,
                    started=lambda view: None,
                    listen=listen,
                    interrupted=stopping,
                    approve=approve,
                )
    return cast(shapes.Rollout, schemas.rollout(view).model_dump(mode="json"))


@contextmanager
def _logs_on_screen() -> Iterator[None]:
    """Send log lines through the live view, which takes the place of standard error while it is there."""
    from orchestrator.cli import remarks

    remarks.configure()
    try:
        yield
    finally:
        remarks.configure(stream=sys.__stderr__)
