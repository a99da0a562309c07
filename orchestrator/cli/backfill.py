"""`orchestrator backfill …`: data that a daemon changes in batches, looked at and steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import backfill_tables, backfill_watching, connection, examples, options, screen
from orchestrator.client import shapes
from orchestrator.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from orchestrator.client.backfills import Action

Rollout = Annotated[str | None, typer.Option("--rollout", help="Of this rollout.")]
Shard = Annotated[str | None, typer.Option("--shard", help="On this shard.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Of this tenant.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Of this revision, with its whole id.")]
Everything = Annotated[bool, typer.Option("--all", help="Every backfill of the fleet.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record and for all who will wonder.")]
States = Annotated[
    list[str] | None, typer.Option("--state", help="running, held, stopped or finished; may be repeated.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most backfills to list.")]
STATES = ("running", "held", "stopped", "finished")

app = typer.Typer(help="Look at data that is changed in batches, and steer it while it runs.", no_args_is_help=True)


@app.command("list", epilog=examples.of("backfill list"))
def list_backfills(
    rollout: Rollout = None,
    shard: Shard = None,
    tenant: Tenant = None,
    track: options.Track = None,
    revision: Revision = None,
    state: States = None,
    limit: Limit = 100,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """List backfills, those of the newest rollout first: how far, how fast, and why they wait."""
    states = options.known(STATES, state or (), "--state")
    found = connection.ask(
        server,
        lambda daemon: daemon.backfills(
            rollout=rollout,
            shard=shard,
            tenant=tenant,
            track=track,
            revision=revision,
            states=states,
            limit=limit,
        ),
    )
    screen.listing(found, backfill_tables.listing, as_json, "no backfills")


@app.command("show", epilog=examples.of("backfill show"))
def show(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose.")],
    rollout: Rollout = None,
    track: options.Track = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Show a tenant's backfills with all that is known of them."""
    found = connection.ask(server, lambda daemon: daemon.backfills(tenant=tenant, rollout=rollout, track=track))
    if not found:
        raise NotFoundError(f"there is no backfill of {tenant!r}", remedy="`orchestrator backfill list` shows them")
    screen.answer(found, backfill_tables.described, as_json)


@app.command("summary", epilog=examples.of("backfill summary"))
def summary(
    rollout: Rollout = None,
    track: options.Track = None,
    shard: Shard = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Sum up the backfills of active rollouts by revision, and show the orders that stand."""
    told = connection.ask(server, lambda daemon: daemon.backfill_summary(rollout=rollout, track=track, shard=shard))
    screen.answer(told, backfill_tables.summary, as_json)


@app.command("watch", epilog=examples.of("backfill watch"))
def watch(
    rollout: Rollout = None,
    shard: Shard = None,
    tenant: Tenant = None,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Follow backfills until none is underway, with --rollout to the rollout's end.

    Exits with 3 when one has stopped before its end. Ctrl-C stops watching, nothing else.
    """
    ended = connection.ask(
        server, lambda daemon: backfill_watching.followed(daemon, rollout=rollout, shard=shard, tenant=tenant)
    )
    screen.listing(ended, backfill_tables.listing, as_json, "no backfills are underway")
    raise typer.Exit(3 if any(one["state"] == "stopped" for one in ended) else 0)


def _steering(action: Action, text: str) -> None:
    def steer(
        reason: Reason,
        rollout: Rollout = None,
        shard: Shard = None,
        tenant: Tenant = None,
        revision: Revision = None,
        everything: Everything = False,
        as_json: options.Json = False,
        server: options.Server = options.DEFAULT_SERVER,
    ) -> None:
        which = scope(rollout, shard, tenant, revision, everything)
        given = connection.ask(server, lambda daemon: daemon.order_backfills(action, which, reason))
        screen.answer(given, backfill_tables.given, as_json)

    app.command(action, help=text, epilog=examples.of(f"backfill {action}"))(steer)


_steering(
    "pause", "Hold backfills at the end of the batch that runs, and those that begin later, until they are resumed."
)
_steering("resume", "Take back the pauses of these, and of parts of them; a wider pause stays, and is told.")
_steering("abort", "End what is underway: its targets fail, what was changed stays, and a retry goes on from there.")


@app.command("set", epilog=examples.of("backfill set"))
def change(
    reason: Reason,
    rollout: Rollout = None,
    shard: Shard = None,
    tenant: Tenant = None,
    revision: Revision = None,
    everything: Everything = False,
    rows_per_second: Annotated[
        float | None, typer.Option("--rows-per-second", min=0, help="Of each shard, shared; 0 for no budget.")
    ] = None,
    duty: Annotated[float | None, typer.Option("--duty", help="The part of the time in which batches run.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows of each batch.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="SIGNAL=VALUE", help="Hold above this value; may be repeated."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="As the registry says again.")] = False,
    as_json: options.Json = False,
    server: options.Server = options.DEFAULT_SERVER,
) -> None:
    """Change the pace of backfills, from the next batch on and until it is reset. Replaces what was set before."""
    which = scope(rollout, shard, tenant, revision, everything)
    said = shapes.AskedAdjustment()
    if rows_per_second is not None:
        said["rows_per_second"] = rows_per_second
    if duty is not None:
        if not 0 < duty <= 1:
            raise ConfigurationError(
                f"--duty: {duty:g} is no part of the time",
                remedy="write it like 0.25, for a pause of three times as long after each batch; 1 for none",
            )
        said["duty"] = duty
    if batch_size is not None:
        said["batch_size"] = batch_size
    if threshold:
        said["thresholds"] = dict(map(_threshold, threshold))
    if said and reset:
        raise ConfigurationError(
            "--reset takes back what was set, so nothing can be set with it", remedy="leave --reset out"
        )
    if not said and not reset:
        raise ConfigurationError("say what to change, or --reset", remedy="for example: --rows-per-second 2000")
    if reset:
        said["reset"] = True
    given = connection.ask(server, lambda daemon: daemon.order_backfills("adjust", which, reason, said))
    screen.answer(given, backfill_tables.given, as_json)


def scope(
    rollout: str | None, shard: str | None, tenant: str | None, revision: str | None, everything: bool
) -> shapes.AskedScope:
    """Raises ConfigurationError where nothing is named, and nothing is said to be."""
    named = {"rollout": rollout, "shard": shard, "tenant": tenant, "revision": revision}
    found = shapes.AskedScope(**{name: value for name, value in named.items() if value is not None})  # type: ignore[typeddict-item]
    if found and everything:
        raise ConfigurationError(
            f"--all and --{next(iter(found))} contradict each other", remedy="leave one of them out"
        )
    if not found and not everything:
        raise ConfigurationError(
            "which backfills?", remedy="name --rollout, --shard, --tenant, --revision or several of them, or say --all"
        )
    return shapes.AskedScope(all=True) if everything else found


def _threshold(text: str) -> tuple[str, float]:
    """
    >>> _threshold("replication_lag=5")
    ('replication_lag', 5.0)
    """
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not (name and equals and number >= 0):
        raise ConfigurationError(f"--threshold: {text!r} is no threshold", remedy="write it like active_sessions=20")
    return name, number
