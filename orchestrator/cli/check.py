"""`orchestrator check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, cast

import anyio
import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.cli import boundary, options, screen, summary, tables
from orchestrator.client.shapes import Source

if TYPE_CHECKING:
    from orchestrator.errors import HistoryError
    from orchestrator.service.checking import Findings, TrackFinding, Trouble

MISTAKES = 2
UNREACHABLE = 5
Connect = Annotated[bool, typer.Option("--connect", help="Read the heads of all targets, too.")]


def check(connect: Connect = False, as_json: options.Json = False, config: options.Config = None) -> None:
    """Validate the registry and every history, and tell how each env.py will be run. Connects to nothing, unless told
    to.

    Exits with 0 when all is well, 2 when there are mistakes, 5 when databases cannot be reached.
    """
    from orchestrator import settings
    from orchestrator.api import schemas
    from orchestrator.cli import remarks
    from orchestrator.service import checking, foreground

    configured = settings.load(config=config)
    remarks.configure("error")
    findings = anyio.run(checking.check, configured)
    if not as_json:
        screen.write(*found(findings))
        for mistake in findings.mistakes:
            screen.remark(boundary.worded(mistake))
    troubles: Sequence[Trouble] = ()
    total: int | None = None
    states: list[str] = []
    if connect:
        look = anyio.run(foreground.tenants, configured)
        total, troubles = len(look.targets), checking.troubles(look.targets)
        states = [trouble.state for trouble in troubles]
        states += ["stale" for source in look.sources if source.stale_since is not None]
        if not as_json:
            screen.write(*connected(total, troubles))
        sources = [cast(Source, schemas.source(source).model_dump(mode="json")) for source in look.sources]
        for line in tables.sources(sources):
            screen.remark(line)
    if as_json:
        screen.write_json(shape(findings, total, troubles))
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
    return [
        ("history", track.folder),
        ("revisions", f"{track.revisions:,}"),
        ("heads", tables.heads(track.heads)),
        ("goal", track.goal),
        *_env_py(track),
        ("targets", f"{track.targets:,}"),
    ]


def _env_py(track: TrackFinding) -> Iterator[tuple[str, str]]:
    """How env.py will be run, and what of it is out of the ordinary."""
    env_py = track.env_py
    drivers = ", ".join(track.drivers) or "no targets yet"
    yield "env.py", f"{'async' if track.asynchronous else 'sync'}, with {drivers}, in a {track.isolation}"
    if env_py.problem:
        yield "", f"could not be tried beforehand: {env_py.problem}"
    given = "given to it (config.attributes)" if env_py.takes_connection else "its own"
    several = f", {env_py.connections} of them" if env_py.connections > 1 else ""
    yield "connection", f"{given}{several}"
    yield "version table", f"{track.version_table}, set by {'env.py' if track.set_by == 'env.py' else 'the registry'}"
    yield "transaction", "one for each revision" if env_py.transaction_per_migration else "one for all revisions"
    if track.execution != "online" and env_py.online:
        yield "online", f"every revision: {env_py.online}"
    if env_py.arguments:
        unknown = [name for name in env_py.arguments if name != "tenant"]
        asks = ", ".join(env_py.arguments)
        yield "-x arguments", f"asks for {asks}" + (f"; not given: {', '.join(unknown)}" if unknown else "")
    for name, values in (
        ("variables", env_py.variables),
        ("imports", env_py.imports),
        ("also sets", env_py.configured),
    ):
        if values:
            yield name, ", ".join(values)


class Checked(TypedDict):
    """The findings for JSON: keys are added to it, never renamed. `connected` is null where nobody was asked."""

    source: str
    tenants: int
    targets: int
    tracks: list[dict[str, Any]]
    shards: list[dict[str, Any]]
    mistakes: list[dict[str, Any]]
    connected: int | None
    troubles: list[dict[str, Any]]


def shape(findings: Findings, total: int | None, troubles: Sequence[Trouble]) -> Checked:
    return {
        "source": str(findings.source),
        "tenants": findings.tenants,
        "targets": findings.targets,
        "tracks": [_track_shape(track) for track in findings.tracks],
        "shards": [asdict(shard) for shard in findings.shards],
        "mistakes": [_mistake(mistake) for mistake in findings.mistakes],
        "connected": None if total is None else total - sum(trouble.count for trouble in troubles),
        "troubles": [{**asdict(trouble), "state": str(trouble.state)} for trouble in troubles],
    }


def _track_shape(track: TrackFinding) -> dict[str, Any]:
    env_py = track.env_py
    return {
        "track": track.name,
        "targets": track.targets,
        "history": track.folder,
        "revisions": track.revisions,
        "heads": list(track.heads),
        "goal": track.goal,
        "isolation": track.isolation,
        "execution": track.execution,
        "env_py": {
            "async": track.asynchronous,
            "drivers": list(track.drivers),
            "connection": "given" if env_py.takes_connection else "own",
            "connections": env_py.connections,
            "version_table": track.version_table,
            "version_table_set_by": track.set_by,
            "transaction_per_migration": env_py.transaction_per_migration,
            "metadata": env_py.metadata,
            "configured": list(env_py.configured),
            "arguments": list(env_py.arguments),
            "variables": list(env_py.variables),
            "attributes": list(env_py.attributes),
            "imports": list(env_py.imports),
            "online": env_py.online,
            "problem": env_py.problem,
        },
        "mistakes": [_mistake(mistake) for mistake in track.mistakes],
    }


def _mistake(mistake: HistoryError) -> dict[str, Any]:
    return {"message": mistake.message, "remedy": mistake.remedy, "file": mistake.file, "line": mistake.line}
