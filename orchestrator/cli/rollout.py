"""`orchestrator rollout …`: what a daemon does, asked and steered from the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import connection, examples, options, screen, summary, tables, watching
from orchestrator.client import shapes

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon
    from orchestrator.client.steering import Command

Limit = Annotated[int, typer.Option("--limit", min=1, help="Most rollouts to list, newest first.")]
States = Annotated[list[str] | None, typer.Option("--state", help="Only in this state; may be repeated.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for its end, a pause or a gate; exit as `migrate` does.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Given again, no second rollout is started.")]
Migrations = Annotated[bool, typer.Option("--migrations", help="Every target's part, too; with --state only some.")]

app = typer.Typer(help="Start, watch and steer the rollouts of a daemon.", no_args_is_help=True)


@app.command("start", epilog=examples.of("rollout start"))
def start(
    track: options.NeededTrack,
    to: options.NeededTo = "head",
    select: options.Select = "",
    direction: options.Direction = "upgrade",
    strategy: options.Strategy = "default",
    plan_digest: options.PlanDigest = None,
    dry_run: options.DryRun = False,
    wait: Wait = False,
    idempotency_key: Key = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Start a rollout."""
    asked = shapes.Asked(track=track, to=to, select=select, strategy=strategy, direction=direction)
    if plan_digest is not None:
        asked["plan_digest"] = plan_digest
    if dry_run:
        preview = connection.ask(server, lambda daemon: daemon.preview(asked))
        return screen.answer(preview, tables.preview, as_json)
    rollout = connection.ask(server, lambda daemon: daemon.start_rollout(asked, idempotency_key=idempotency_key))
    if wait:
        _finish(_follow(server, rollout["id"], to_pause=True), as_json)
    _show(rollout, as_json)


@app.command("list", epilog=examples.of("rollout list"))
def list_rollouts(
    state: States = None,
    limit: Limit = 50,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """List rollouts, newest first."""
    from orchestrator.rollout.state import RolloutState

    states = options.words(RolloutState, state or (), "--state")
    found = connection.ask(server, lambda daemon: daemon.rollouts(states=states, limit=limit))
    screen.listing(found, tables.rollouts, as_json, "no rollouts")


@app.command("show", epilog=examples.of("rollout show"))
def show(
    rollout_id: options.RolloutId,
    migrations: Migrations = False,
    state: States = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Show a rollout: its state, counts, and failures by cause."""
    from orchestrator.rollout.state import MigrationState

    states = options.words(MigrationState, state or (), "--state")
    rollout = connection.ask(server, lambda daemon: daemon.rollout(rollout_id))
    listed: Sequence[shapes.Migration] | None = None
    if migrations or states:
        listed = connection.ask(server, lambda daemon: daemon.migrations(rollout_id, states=states))
    if as_json:
        screen.write_json(rollout if listed is None else {**rollout, "migrations": listed})
        return
    screen.write(*summary.summary(rollout))
    if listed:
        screen.write("", tables.migrations(listed))


@app.command("watch", epilog=examples.of("rollout watch"))
def watch(
    rollout_id: options.RolloutId, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER
) -> None:
    """Follow a rollout to its end, and exit as `migrate` does. Ctrl-C stops watching, not the rollout."""
    _finish(_follow(server, rollout_id, to_pause=False), as_json)


@app.command("approve", epilog=examples.of("rollout approve"))
def approve(
    rollout_id: options.RolloutId,
    wave: Annotated[
        str | None, typer.Option("--wave", help="The wave after which you approve to go on; '' for before the first.")
    ] = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Let a rollout pass the gate that waits for approval."""
    _steer(server, rollout_id, "approve", as_json, wave=wave)


@app.command("abort", epilog=examples.of("rollout abort"))
def abort(
    rollout_id: options.RolloutId,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel what runs, too; open transactions are rolled back.")
    ] = False,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """End a rollout: what runs is finished, the rest is cancelled."""
    _steer(server, rollout_id, "abort", as_json, force=force or None)


@app.command("retry", epilog=examples.of("rollout retry"))
def retry(
    rollout_id: options.RolloutId,
    signature: Annotated[
        str | None, typer.Option("--signature", help="Only targets that failed in this way, as `show` names it.")
    ] = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Try the targets again that are not at the goal."""
    _steer(server, rollout_id, "retry", as_json, signature=signature)


@app.command("skip", epilog=examples.of("rollout skip"))
def skip(
    rollout_id: options.RolloutId,
    tenant: Annotated[str, typer.Argument(help="The tenant to leave out.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    track: options.Track = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Leave a tenant out that is pending or has failed."""
    _steer(server, rollout_id, "skip", as_json, tenant=tenant, track=track, reason=reason)


@app.command("limit", epilog=examples.of("rollout limit"))
def limit(
    rollout_id: options.RolloutId,
    max_concurrent: Annotated[int, typer.Argument(min=1, help="Most targets at once.")],
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Change how many targets of a rollout are migrated at once; what runs goes on."""
    _steer(server, rollout_id, "limit", as_json, max_concurrent=max_concurrent)


@app.command("override", epilog=examples.of("rollout override"))
def override(
    rollout_id: options.RolloutId,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Let what is left of a rollout start outside of its targets' windows, too. A freeze still holds."""
    _steer(server, rollout_id, "override", as_json, reason=reason)


def _steer(server: str, rollout_id: str, command: Command, as_json: bool, **given: object) -> None:
    named = {name: value for name, value in given.items() if value is not None}
    _show(connection.ask(server, lambda daemon: daemon.command(rollout_id, command, **named)), as_json)


def _steering(command: Command, text: str) -> None:
    def steer(
        rollout_id: options.RolloutId, as_json: options.Json = False, server: options.Server = options.DEFAULT_SERVER
    ) -> None:
        _steer(server, rollout_id, command, as_json)

    app.command(command, help=text, epilog=examples.of(f"rollout {command}"))(steer)


_steering("pause", "Start no further target; those that run are finished.")
_steering("resume", "Go on with a paused rollout.")
_steering("rollback", "Bring the targets that a rollout changed back to where it found them.")


def _follow(server: str, rollout_id: str, *, to_pause: bool) -> shapes.Rollout:
    """Show a rollout live until it ends, or waits for a person; as it is then."""

    async def followed(daemon: Daemon) -> shapes.Rollout:
        return await watching.followed(daemon, await daemon.rollout(rollout_id), to_pause=to_pause)

    return connection.ask(server, followed)


def _finish(rollout: shapes.Rollout, as_json: bool) -> None:
    _show(rollout, as_json)
    raise typer.Exit(summary.exit_code(rollout))


def _show(rollout: shapes.Rollout, as_json: bool) -> None:
    screen.answer(rollout, summary.summary, as_json)
    if (advice := advised(rollout)) and not as_json:
        screen.remark(f"\n{advice}")


def advised(rollout: shapes.Rollout) -> str | None:
    """What may be done next with a rollout."""
    name = rollout["id"]
    match rollout["state"]:
        case "paused":
            return (
                f"mend the cause, then `orchestrator rollout retry {name}`; or go on in spite of the failures with "
                f"`orchestrator rollout resume {name}`, take back what was changed with `rollback`, or `abort`"
            )
        case "awaiting_approval":
            return f"go on with `orchestrator rollout approve {name}`, or end it with `abort`"
        case "failed" | "aborted":
            return f"try the rest again with `orchestrator rollout retry {name}`"
        case "pending" | "planning" | "running":
            return f"follow it with `orchestrator rollout watch {name}`"
        case _:
            return None
