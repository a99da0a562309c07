"""All commands under one name."""

from __future__ import annotations

import gc
import os
from typing import Annotated, Any

import typer
import typer.core

import orchestrator
from orchestrator.cli import (
    alembic,
    audit,
    backfill,
    boundary,
    check,
    demo,
    drift,
    examples,
    freeze,
    migrate,
    notifications,
    plan,
    rollout,
    schedule,
    schema,
    serve,
    tenants,
    token,
)
from orchestrator.errors import ConfigurationError


class Guarded(typer.core.TyperGroup):
    """The error boundary around every command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with boundary.guarded():
            for argument in args:
                _refuse_bytes(argument)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with boundary.guarded():
            return super().invoke(ctx)


def _refuse_bytes(argument: str) -> None:
    """Raises ConfigurationError for what is not UTF-8: no store, log or request could take it."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(argument).decode(errors="backslashreplace")
        raise ConfigurationError(
            f"an argument is not UTF-8: {shown}", remedy="write it as UTF-8, or set the terminal to it"
        ) from None


app = typer.Typer(
    name="orchestrator",
    cls=Guarded,
    help=orchestrator.__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", epilog=examples.of("serve"))(serve.serve)
app.command("check", epilog=examples.of("check"))(check.check)
app.command("tenants", epilog=examples.of("tenants"))(tenants.tenants)
app.command("plan", epilog=examples.of("plan"))(plan.plan)
app.command("sql", epilog=examples.of("sql"))(plan.sql)
app.command("migrate", epilog=examples.of("migrate"))(migrate.migrate)
app.command("alembic", epilog=examples.of("alembic"))(alembic.alembic)
app.add_typer(rollout.app, name="rollout")
app.add_typer(backfill.app, name="backfill")
app.add_typer(schedule.app, name="schedule")
app.add_typer(freeze.app, name="freeze")
app.add_typer(notifications.app, name="notifications")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.command("drift", epilog=examples.of("drift"))(drift.drift)
app.command("schema", epilog=examples.of("schema"))(schema.schema)
app.command("demo", epilog=examples.of("demo"))(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchestrator {orchestrator.__version__}")
        raise typer.Exit


@app.callback()
def orchestrate(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def look_for_garbage_seldom() -> None:
    """A command imports a hundred thousand objects that stay; to look through them again and again for garbage takes a
    seventh of its start. Workers that migrate have the same limits, for the same reason."""
    gc.set_threshold(50_000, 20, 50)


def main() -> None:
    """The console script."""
    look_for_garbage_seldom()
    app()
