"""`orchestrator tenants`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import anyio
import typer

from orchestrator.cli import connection, options, screen, tables
from orchestrator.client.shapes import Source, Tenant

if TYPE_CHECKING:
    from orchestrator.rollout.state import FleetState

State = Annotated[
    list[str] | None,
    typer.Option("--state", help="up_to_date, behind, ahead, unprovisioned, unreachable or unknown; may be repeated."),
]


def tenants(
    select: options.Select = "",
    state: State = None,
    as_json: options.Json = False,
    server: options.OptionalServer = None,
    config: options.Config = None,
) -> None:
    """List targets with their heads and fleet state, read from the databases, or from a daemon's last look."""
    from orchestrator.rollout.state import FleetState

    states = options.words(FleetState, state or (), "--state")
    listed, sources = anyio.run(_asked, server, select, states) if server else _read(config, select, states)
    for line in tables.sources(sources):
        screen.remark(line)
    if as_json:
        screen.write_json(listed)
        return
    if listed:
        screen.write(tables.tenants(listed))
    screen.remark(tables.fleet(listed))


async def _asked(server: str, select: str, states: Sequence[FleetState]) -> tuple[list[Tenant], list[Source]]:
    async with connection.to(server) as daemon:
        return await daemon.tenants(select=select, states=states), (await daemon.registry())["sources"]


def _read(config: Any, select: str, states: Sequence[FleetState]) -> tuple[list[Tenant], list[Source]]:
    from orchestrator import settings
    from orchestrator.api import schemas
    from orchestrator.cli import remarks
    from orchestrator.registry import selector
    from orchestrator.service import foreground

    remarks.configure()
    selected = selector.parse(select)
    look = anyio.run(foreground.tenants, settings.load(config=config))
    wanted = [view for view in look.targets if selected.matches(view.target) and (not states or view.state in states)]
    listed = [cast(Tenant, tenant.model_dump(mode="json", by_alias=True)) for tenant in schemas.tenants(wanted)]
    return listed, [cast(Source, schemas.source(source).model_dump(mode="json")) for source in look.sources]
