"""`orchestrator notifications …`: what a daemon has told whom, and what it could not deliver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from orchestrator.cli import connection, examples, options, screen
from orchestrator.client import shapes
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon

State = Annotated[list[str] | None, typer.Option("--state", help="pending, delivered or dead; may be repeated.")]
Channels = Annotated[list[str] | None, typer.Option("--channel", help="Only of this entry; may be repeated.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most deliveries to list, newest first.")]
Id = Annotated[str | None, typer.Argument(metavar="[ID]", help="As `orchestrator notifications list` shows it.")]
Dead = Annotated[bool, typer.Option("--dead", help="All dead letters, with --channel those of some entries.")]

app = typer.Typer(help="Look at what a daemon has told whom, and send dead letters again.", no_args_is_help=True)


@app.command("list", epilog=examples.of("notifications list"))
def list_notifications(
    state: State = None,
    channel: Channels = None,
    limit: Limit = 50,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """List deliveries, newest first; `--state dead` for those that were given up."""
    from orchestrator.notify.ports import STATES

    states, channels = options.known(STATES, state or (), "--state"), channel or ()
    found = connection.ask(server, lambda daemon: daemon.notifications(states=states, channels=channels, limit=limit))
    screen.listing(found, table, as_json, "no notifications")


@app.command("retry", epilog=examples.of("notifications retry"))
def retry(
    notification: Id = None,
    dead: Dead = False,
    channel: Channels = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Send a dead letter again, or all of them; its receiver sees the same id as before."""
    if (notification is None) != dead:
        raise ConfigurationError("name one notification, or say --dead for all dead letters", remedy="see --help")
    found = connection.ask(server, lambda daemon: _retried(daemon, notification, channel or ()))
    if as_json:
        screen.write_json(found)
    else:
        screen.remark(f"{screen.plural(len(found), 'notification')} will be sent again")


def table(found: Sequence[shapes.Notification]) -> Table:
    rows: list[screen.Row] = [
        [
            one["id"],
            one["channel"],
            one["type"].replace("_", " "),
            screen.state(one["state"]),
            str(one["attempts"]),
            one["created_at"],
            one["error"] or "",
        ]
        for one in found
    ]
    columns = ["notification", "channel", "of", "state", "attempts", "made", "error"]
    return screen.table(columns, rows, right=("attempts",))


async def _retried(daemon: Daemon, notification: str | None, channels: Sequence[str]) -> list[shapes.Notification]:
    if notification is not None:
        return [await daemon.retry_notification(notification)]
    dead = await daemon.notifications(states=["dead"], channels=channels)
    return [await daemon.retry_notification(one["id"]) for one in reversed(dead)]
