"""`orchestrator freeze …`: stop every start on the fleet, and let it go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from orchestrator.cli import connection, examples, options, screen
from orchestrator.client import shapes

Reason = Annotated[str, typer.Option("--reason", help="Why, for all who will wonder.")]

app = typer.Typer(help="Stop every start on the whole fleet; what runs is finished.", no_args_is_help=True)


@app.command("on", epilog=examples.of("freeze on"))
def on(reason: Reason, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Let nothing start any more, on no shard and by no daemon, until the freeze is lifted."""
    screen.answer(connection.ask(server, lambda daemon: daemon.freeze(reason)), described, as_json)


@app.command("off", epilog=examples.of("freeze off"))
def off(as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Lift the freeze: rollouts go on by themselves."""
    screen.answer(connection.ask(server, lambda daemon: daemon.lift_freeze()), described, as_json)


@app.command("show", epilog=examples.of("freeze show"))
def show(as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER) -> None:
    """Show whether the fleet is frozen, by whom and why."""
    screen.answer(connection.ask(server, lambda daemon: daemon.frozen()), described, as_json)


def described(freeze: shapes.Freeze) -> Iterator[str]:
    if freeze["frozen"]:
        yield f"frozen by {freeze['by']} since {freeze['since']}: {freeze['reason']}"
    else:
        yield "not frozen"
