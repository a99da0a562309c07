"""Listings: targets, rollouts, migrations, and what a rollout would do. Pure: shapes in, renderables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from orchestrator.cli import screen, summary
from orchestrator.client.shapes import Migration, PlanGroup, Preview, Rollout, Source, Target, Tenant

NOTHING = "-"
FILE = "file"  # the source of what the registry file itself names


def tenants(listed: Sequence[Tenant]) -> Table:
    """A column of sources is there when not all are named by the file."""
    columns = ["tenant", "track", "shard", "database", "state", "heads"]
    found = any(target["source"] != FILE for tenant in listed for target in tenant["targets"])
    messages = any(target["message"] for tenant in listed for target in tenant["targets"])
    rows: list[screen.Row] = [
        [
            tenant["tenant"],
            target["track"],
            target["shard"],
            place(target),
            screen.state(target["state"]),
            heads(target["heads"]),
            *([target["source"]] if found else []),
            *([target["message"] or ""] if messages else []),
        ]
        for tenant in listed
        for target in tenant["targets"]
    ]
    return screen.table([*columns, *(["source"] if found else []), *(["message"] if messages else [])], rows)


def sources(known: Sequence[Source]) -> Iterator[str]:
    """What is wrong with sources of tenants, a line or two each; nothing about those that are well."""
    for source in known:
        if source["stale"]:
            kept = (
                f"{screen.plural(source['targets'], 'target')} of its last answer, {source['refreshed_at']}, are kept"
            )
            held = kept if source["refreshed_at"] else "which tenants it has is not known"
            yield f"source {source['name']} is stale since {source['stale_since']}; {held}: {source['reason']}"
        if source["ignored"]:
            examples = "; ".join(source["ignored_examples"][:3])
            yield f"source {source['name']} names {source['ignored']:,} that cannot be tenants: {examples}"


def fleet(listed: Sequence[Tenant]) -> str:
    """`3 targets: 2 up to date, 1 behind`."""
    counts = Counter(target["state"] for tenant in listed for target in tenant["targets"])
    if not counts:
        return "no targets"
    states = ", ".join(f"{n:,} {state.replace('_', ' ')}" for state, n in counts.most_common())
    return f"{screen.plural(counts.total(), 'target')}: {states}"


def place(target: Target) -> str:
    return f"{target['database']}.{target['schema']}" if target["schema"] else target["database"]


def heads(revisions: Sequence[str] | None) -> str:
    return ", ".join(revisions or ()) or NOTHING


def rollouts(listed: Sequence[Rollout]) -> Table:
    rows: list[screen.Row] = [
        [
            one["id"],
            one["track"],
            one["to"],
            screen.state(one["state"]),
            f"{sum(one['counts'].get(state, 0) for state in summary.AT_GOAL):,}/{one['total']:,}",
            f"{summary.failed(one):,}",
            one["created_by"],
        ]
        for one in listed
    ]
    return screen.table(
        ["rollout", "track", "to", "state", "at goal", "failed", "by"], rows, right=("at goal", "failed")
    )


def migrations(listed: Sequence[Migration]) -> Table:
    rows: list[screen.Row] = [
        [
            one["tenant"],
            one["shard"],
            screen.state(one["state"]),
            heads(one["from"]),
            heads(one["to"]),
            one["execution"] or NOTHING,
            str(one["attempts"]),
            NOTHING if one["duration_seconds"] is None else f"{one['duration_seconds']:.2f}",
            one["error"]["message"] if one["error"] else "",
        ]
        for one in listed
    ]
    columns = ["tenant", "shard", "state", "from", "to", "how", "attempts", "seconds", "error"]
    return screen.table(columns, rows, right=("attempts", "seconds"))


def preview(planned: Preview) -> Iterator[RenderableType]:
    """What a rollout would do: a headline, the groups, and where to look when targets do not answer."""
    yield headline(planned)
    yield plan(planned["groups"])
    yield from summary.irreversible(
        {revision: why for group in planned["groups"] for revision, why in group["irreversible"].items()}
    )
    if any(group["state"] == "unreachable" for group in planned["groups"]):
        yield "why targets cannot be reached: orchestrator check --connect"


def plan(groups: Sequence[PlanGroup]) -> Table:
    """Groups of targets with equal heads, the ones with most work first."""
    rows: list[screen.Row] = [
        [
            f"{group['count']:,}",
            screen.state(group["state"]),
            heads(group["heads"]),
            str(len(group["steps"])),
            " ".join(group["steps"]) or group["problem"] or NOTHING,
            summary.named(group["tenants"], group["count"], shown=3),
        ]
        for group in sorted(groups, key=lambda group: (-len(group["steps"]), -group["count"]))
    ]
    columns = ["targets", "state", "heads", "steps", "revisions to run", "tenants"]
    return screen.table(columns, rows, right=("targets", "steps"))


def headline(preview: Preview) -> str:
    """`dry run, nothing was changed: 180 of 200 targets would be migrated, app to head`."""
    working = sum(group["count"] for group in preview["groups"] if group["steps"])
    what = "downgraded" if preview["direction"] == "downgrade" else "migrated"
    of = screen.plural(preview["total"], "target")
    return f"dry run, nothing was changed: {working:,} of {of} would be {what}, {preview['track']} to {preview['to']}"
