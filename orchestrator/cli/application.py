"""All commands under one name."""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer
import typer.core

import orchestrator
from orchestrator.cli import (
    alembic,
    audit,
    boundary,
    check,
    demo,
    freeze,
    migrate,
    plan,
    rollout,
    schedule,
    schema,
    serve,
    tenants,
    token,
)


class Guarded(typer.core.TyperGroup):
    """The error boundary around every command."""

    def invoke(self, ctx: Any) -> Any:
        with boundary.guarded():
            return super().invoke(ctx)


app = typer.Typer(
    name="orchestrator",
    cls=Guarded,
    help=orchestrator.__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.command("tenants")(tenants.tenants)
app.command("plan")(plan.plan)
app.command("sql")(plan.sql)
app.command("migrate")(migrate.migrate)
app.command("alembic", epilog=alembic.EPILOG)(alembic.alembic)
app.add_typer(rollout.app, name="rollout")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(schedule.app, name="schedule")
app.add_typer(freeze.app, name="freeze")
app.command("schema")(schema.schema)
app.command("demo")(demo.demo)


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


def main() -> None:
    """The console script."""
    # A command imports a hundred thousand objects that stay; to look through them again and again for garbage takes a
    # seventh of its start. Workers that migrate have the same limits, for the same reason.
    gc.set_threshold(50_000, 20, 50)
    app()
