"""`orchestrator demo`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from orchestrator.cli import connection, interrupt, screen, summary, watching
from orchestrator.cli.boundary import INTERRUPTED
from orchestrator.client import shapes

if TYPE_CHECKING:
    from orchestrator.demo.scene import Options, Scene

Tenants = Annotated[int, typer.Option("--tenants", min=1, max=5000, help="How many databases to make.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the servers' data, the registry and the store behind.")]
Exit = Annotated[bool, typer.Option("--exit", help="End when the rollout has ended; 3 if anything failed.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The daemon's port; 0 takes any free one.")]


def demo(tenants: Tenants = 200, keep: Keep = False, exit_: Exit = False, port: Port = 0) -> None:
    """Show it all on this machine: two PostgreSQL servers, many tenants, a daemon, one rollout."""
    from orchestrator.demo.scene import Options

    raise typer.Exit(anyio.run(_demo, Options(tenants, port, keep), exit_))


async def _demo(options: Options, ends: bool) -> int:
    from orchestrator.demo import scene

    work = anyio.CancelScope()
    code, raised = INTERRUPTED, None

    def stop() -> None:
        screen.remark("\nending the demo" + ("" if options.keep else " and removing what it made"))
        work.cancel()

    async with interrupt.handled(stop, leaving="the servers and the daemon end by themselves"):
        with work:
            async with scene.raised(options, _tell) as raised:
                ended = await _roll_out(raised)
                screen.write("", *summary.summary(ended))
                code = summary.exit_code(ended)
                if not ends:
                    code = 0  # whoever stays to look around ends it with Ctrl-C, and that is no failure
                    screen.write_lines(tour(raised, ended))
                    await anyio.sleep_forever()
    if raised is not None and options.keep:
        screen.write_lines(kept(raised))
    return code


async def _roll_out(raised: Scene) -> shapes.Rollout:
    from orchestrator.demo import fleet

    async with connection.to(raised.url) as daemon:
        started = await daemon.start_rollout(shapes.Asked(track=fleet.TRACK, to="head"))
        screen.remark(f"some tenants have rows to change: orchestrator backfill watch --server {raised.url}")
        return await watching.followed(daemon, started)


def _tell(text: str) -> None:
    screen.remark(f"{text} …")


def tour(raised: Scene, ended: shapes.Rollout) -> Iterator[str]:
    """What there is to look at while the demo stays."""
    from orchestrator.demo import scene

    yield "\nlook at"
    yield f"  rollout   {raised.url}/api/v1/rollouts/{ended['id']}"
    yield f"  tenants   {raised.url}/api/v1/tenants"
    yield f"  metrics   {raised.url}/metrics"
    yield f"  OpenAPI   {raised.url}/openapi.json"
    yield f"  registry  {raised.folder / 'tenants.yaml'}"
    yield f"  log       {raised.folder / 'daemon.log'}"
    yield "try"
    yield f"  orchestrator tenants --server {raised.url}"
    yield f"  orchestrator rollout list --server {raised.url}"
    yield f"  orchestrator backfill show tenant_{1:0{max(3, len(str(raised.tenants)))}} --server {raised.url}"
    yield f"  {scene.connect_command(raised)}"
    yield "\nCtrl-C ends the demo"


def kept(raised: Scene) -> Iterator[str]:
    """Where things are after the end, and how to bring a server back."""
    from orchestrator.demo import scene

    yield f"\nkept: {raised.folder} (registry, store, log, and the data of {', '.join(raised.servers)})"
    yield "start a server again"
    yield f"  {scene.restart_command(raised)}"
