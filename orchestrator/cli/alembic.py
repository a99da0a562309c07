"""`orchestrator alembic`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from orchestrator.cli import boundary, options, screen
from orchestrator.cli.migrate import only_track
from orchestrator.errors import TargetError, TargetUnreachableError

if TYPE_CHECKING:
    from orchestrator.registry.model import Registry

FAILED = 3
UNREACHABLE = 5
Tenant = Annotated[str, typer.Option("--tenant", help="Whose database; as `orchestrator tenants` lists it.")]
Override = Annotated[
    str | None, typer.Option("--override", metavar="REASON", help="Go on outside of the tenant's windows; recorded.")
]
Arguments = Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="Any of Alembic's commands, with options.")]


def alembic(
    tenant: Tenant,
    arguments: Arguments,
    track: options.Track = None,
    override: Override = None,
    config: options.Config = None,
    store_url: options.StoreUrl = None,
) -> None:
    """Run the project's own Alembic, pointed at one tenant's database.

    With the track's configuration, the tenant's URL, version table and `-x tenant=`, and on connections that are proved
    to lead there. A command that changes the database holds the tenant's lock and stands in the audit; it is refused
    while the fleet is frozen, and outside of the tenant's windows. A daemon may run meanwhile. Exits as Alembic does;
    with 2 when it is refused, 3 when the lock is not to be had or the connection is refused, 5 when the database or
    the store cannot be reached.
    """
    from orchestrator import settings
    from orchestrator.cli import remarks
    from orchestrator.service import alembic_command

    configured = settings.load(config=config, store_url=store_url)
    remarks.configure("error")

    def chosen(registry: Registry) -> str:
        return only_track(registry.tracks, track or "")

    try:
        code = anyio.run(alembic_command.run, configured, chosen, tenant, arguments, override)
    except TargetError as exc:
        screen.remark(boundary.worded(exc))
        code = UNREACHABLE if isinstance(exc, TargetUnreachableError) else FAILED
    raise typer.Exit(code)
