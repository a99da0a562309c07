"""`orchestrator check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.cli import boundary, options, screen, summary, tables
from orchestrator.client.shapes import Source

if TYPE_CHECKING:
    from orchestrator.service.checking import Findings, TrackFinding, Trouble

MISTAKES = 2
UNREACHABLE = 5
Connect = Annotated[bool, typer.Option("--connect", help="Read the heads of all targets, too.")]


def check(connect: Connect = False, config: options.Config = None) -> None:
    """Validate the registry and every history. Connects to nothing, unless told to.

    Exits with 0 when all is well, 2 when there are mistakes, 5 when databases cannot be reached.
    """
    from orchestrator import settings
    from orchestrator.api import schemas
    from orchestrator.cli import remarks
    from orchestrator.service import checking, foreground

    configured = settings.load(config=config)
    remarks.configure("error")
    findings = anyio.run(checking.check, configured)
    screen.write(*found(findings))
    for mistake in findings.mistakes:
        screen.remark(boundary.worded(mistake))
    states: list[str] = []
    if connect:
        look = anyio.run(foreground.tenants, configured)
        troubles = checking.troubles(look.targets)
        states = [trouble.state for trouble in troubles]
        states += ["stale" for source in look.sources if source.stale_since is not None]
        screen.write(*connected(len(look.targets), troubles))
        sources = [cast(Source, schemas.source(source).model_dump(mode="json")) for source in look.sources]
        for line in tables.sources(sources):
            screen.remark(line)
    raise typer.Exit(exit_code(bool(findings.mistakes), states))


def exit_code(mistakes: bool, states: Sequence[str]) -> int:
    """Mistakes come first: whoever mends them looks again. A target ahead of this build is one, too."""
    if mistakes or "ahead" in states:
        return MISTAKES
    return UNREACHABLE if states else 0


def found(findings: Findings) -> Iterator[RenderableType]:
    """What there is: tracks with their histories, shards, tenants."""
    tenants, targets = screen.plural(findings.tenants, "tenant"), screen.plural(findings.targets, "target")
    yield f"{findings.source}: {tenants}, {targets}"
    if findings.sources:
        yield f"and what {screen.plural(len(findings.sources), 'source')} will name: {', '.join(findings.sources)}"
    for track in findings.tracks:
        yield Text(f"\ntrack {track.name}", "bold")
        yield screen.indented(screen.facts(_track(track)))
    yield ""
    yield screen.table(
        ["shard", "dialect", "place", "targets", "at once"],
        [[s.name, s.dialect, s.place, f"{s.targets:,}", str(s.max_concurrent)] for s in findings.shards],
        right=("targets", "at once"),
    )


def connected(total: int, troubles: Sequence[Trouble]) -> Iterator[RenderableType]:
    """How many targets answered, and what is wrong with the others, by cause."""
    bad = sum(trouble.count for trouble in troubles)
    yield f"\nconnected: {total - bad:,} of {screen.plural(total, 'target')} are well"
    for trouble in troubles:
        head = Text("  ")
        head.append_text(screen.state(trouble.state))
        names = summary.named(trouble.tenants, trouble.count)
        head.append(f"  {screen.plural(trouble.count, 'target')} on {trouble.shard}: {names}")
        yield head
        yield screen.indented(Text(trouble.message), 4)


def _track(track: TrackFinding) -> list[tuple[str, str]]:
    if not track.folder:
        return [("history", "cannot be read"), ("targets", f"{track.targets:,}")]
    env = f"{'async' if track.asynchronous else 'sync'}, with {', '.join(track.drivers) or 'no targets yet'}"
    return [
        ("history", track.folder),
        ("revisions", f"{track.revisions:,}"),
        ("heads", tables.heads(track.heads)),
        ("goal", track.goal),
        ("env.py", f"{env}, in a {track.isolation}"),
        ("targets", f"{track.targets:,}"),
    ]
