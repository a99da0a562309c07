"""`orchestrator drift`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import anyio
import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.cli import options, screen
from orchestrator.cli.tables import NOTHING, heads
from orchestrator.client.drift_shapes import DriftReport, TargetSchema

if TYPE_CHECKING:
    from orchestrator.service.drifting import Compared

FOUND, UNREACHABLE = 3, 5
# Lines of a difference: of each target with --diff, and of the one that is named.
OF_EACH, OF_ONE = 20, 2000
DIFFERING = ("drifted", "undecided")

Tenant = Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Show the whole difference of this tenant.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="The tenant that is right; else what most targets have.")
]
Diff = Annotated[bool, typer.Option("--diff", help="Show the first lines that differ, of each target that does.")]


def drift(
    tenant: Tenant = None,
    track: Annotated[str, typer.Option("--track", help="Which history; '*' for all.")] = "*",
    select: options.Select = "",
    reference: Reference = None,
    diff: Diff = False,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Compare the schemas of targets at one revision with each other, now, and show which differ. Changes nothing.

    Exits with 0 when there is no drift, 3 when there is, 5 when there is none but some targets could not be read.
    """
    from orchestrator import settings
    from orchestrator.cli import remarks
    from orchestrator.service import foreground
    from orchestrator.service.drifting import Question

    remarks.configure()
    question = Question(track, select, reference, tenant, OF_EACH if tenant is None else OF_ONE)
    report = shape(anyio.run(foreground.drift, settings.load(config=config), question), all_of_them=tenant is not None)
    if as_json:
        screen.write_json(report)
    else:
        if report["targets"]:
            screen.write(*shown(report, diff or tenant is not None))
        screen.remark(headline(report))
    raise typer.Exit(exit_code(report))


def shape(compared: Compared, *, all_of_them: bool = False) -> DriftReport:
    from orchestrator.events import now, timestamp
    from orchestrator.plan.drift import Standing, sums

    moment = timestamp(now())
    targets: list[TargetSchema] = []
    for one in compared.verdicts:
        if one.standing is Standing.EQUAL and not all_of_them:
            continue
        found = compared.differences.get(one.key)
        targets.append(
            TargetSchema(
                tenant=one.key.tenant,
                track=one.key.track,
                shard=compared.shards[one.key],
                standing=str(one.standing),
                heads=list(one.group.heads) if one.group is not None else [],
                server=one.group.server if one.group is not None else None,
                reference=one.reference.tenant if one.reference is not None else None,
                differing=found.total if found is not None else None,
                difference=[str(line) for line in found.lines] if found is not None else [],
                message=one.why,
                drifted_since=None,
                looked_at=moment,
            )
        )
    counts = {str(standing): n for standing, n in sums(compared.verdicts).items()}
    return DriftReport(counts=counts, targets=targets)


def exit_code(report: DriftReport) -> int:
    """
    >>> exit_code(DriftReport(counts={"drifted": 1, "undecided": 0, "unread": 1}, targets=[]))
    3
    """
    counts = report["counts"]
    if any(counts.get(standing) for standing in DIFFERING):
        return FOUND
    return UNREACHABLE if counts.get("unread") else 0


def headline(report: DriftReport) -> str:
    """
    >>> headline(DriftReport(counts={"equal": 38, "drifted": 2, "unread": 0}, targets=[]))
    '40 targets: 38 equal, 2 drifted'
    """
    counts = {standing: n for standing, n in report["counts"].items() if n}
    states = ", ".join(f"{n:,} {standing}" for standing, n in counts.items())
    return f"{screen.plural(sum(counts.values()), 'target')}: {states}"


def shown(report: DriftReport, diff: bool) -> Iterator[RenderableType]:
    yield table(report["targets"])
    for one in report["targets"] if diff else ():
        yield from difference(one)


def table(targets: Sequence[TargetSchema]) -> RenderableType:
    messages = any(one["message"] for one in targets)
    rows: list[screen.Row] = [
        [
            one["tenant"],
            one["track"],
            one["shard"],
            screen.state(one["standing"]),
            heads(one["heads"]),
            NOTHING if one["differing"] is None else f"{one['differing']:,}",
            one["reference"] or NOTHING,
            *([one["message"] or ""] if messages else []),
        ]
        for one in targets
    ]
    columns = ["tenant", "track", "shard", "standing", "heads", "lines", "reference", *(["why"] if messages else [])]
    return screen.table(columns, rows, right=("lines",))


def difference(one: TargetSchema) -> Iterator[RenderableType]:
    """The lines as they are: none of them is markup."""
    if not one["differing"]:
        return
    yield Text(f"\n--- {one['reference']}/{one['track']}\n+++ {one['tenant']}/{one['track']}")
    for line in one["difference"]:
        yield Text(line, style="red" if line.startswith("-") else "green")
    if (more := one["differing"] - len(one["difference"])) > 0:
        yield Text(f"  and {screen.plural(more, 'line')} more: orchestrator drift {one['tenant']}")
