"""`orchestrator audit …`: what was done by whom, and whether the record is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from orchestrator.cli import connection, examples, options, screen
from orchestrator.client import shapes
from orchestrator.errors import ConfigurationError, DaemonError

if TYPE_CHECKING:
    from orchestrator.access.chain import Anchor, Row, Verification

# As after a rollout with failed targets: something is not as it should be.
BROKEN = 3

Anchors = Annotated[
    list[str] | None,
    typer.Option("--anchor", help="NUMBER:HASH of an entry, from the log or an earlier run; may be repeated."),
]
File = Annotated[Path | None, typer.Option("--file", help="Verify exported lines instead; - for standard input.")]
After = Annotated[int, typer.Option("--after", min=0, max=2**31 - 1, help="Begin after this entry.")]

app = typer.Typer(help="Export the audit, and verify that nothing in it was changed.", no_args_is_help=True)


@app.command("verify", epilog=examples.of("audit verify"))
def verify(
    anchor: Anchors = None,
    file: File = None,
    as_json: options.Json = False,
    server: options.StoreServer = None,
    store_url: options.StoreUrl = None,
) -> None:
    """Follow the chain from its first entry; exit with 3 where it does not hold.

    Entries that were edited, deleted, put in or moved are found. That the end was cut off together with the store's
    note of it, or that all was written anew from some entry on, only an anchor tells: keep the last line of this
    command, or the `audited` lines of the daemon's log, where the store's owner cannot write.
    """
    known = _anchors(anchor or ())
    if file is not None:
        found = _exported(_read(file), known)
    elif server and not store_url:
        found = anyio.run(_verified_by, server, known)
    else:
        from orchestrator import settings
        from orchestrator.service import records

        found = anyio.run(records.verified, settings.load(store_url=store_url), known)
    _tell(found, as_json)
    if found.breaks:
        raise typer.Exit(BROKEN)


@app.command("export", epilog=examples.of("audit export"))
def export(after: After = 0, server: options.StoreServer = None, store_url: options.StoreUrl = None) -> None:
    """Write the entries as JSON lines, oldest first."""
    anyio.run(_export, after, server if not store_url else None, store_url)


async def _export(after: int, server: str | None, store_url: str | None) -> None:
    from orchestrator.access import chain

    async with aclosing(_entries(after, server, store_url)) as entries:
        async for row in entries:
            sys.stdout.write(f"{chain.canonical(row.values)}\n")
    sys.stdout.flush()


async def _entries(after: int, server: str | None, store_url: str | None) -> AsyncGenerator[Row, None]:
    if server:
        from orchestrator.access import chain

        async with connection.to(server) as daemon, aclosing(daemon.audit(after=after)) as entries:
            async for values in entries:
                yield chain.exported(values)
    else:
        from orchestrator import settings
        from orchestrator.service import records

        async with aclosing(records.entries(settings.load(store_url=store_url), after)) as rows:
            async for row in rows:
                yield row


async def _verified_by(server: str, anchors: Sequence[Anchor]) -> Verification:
    """From the very first entry, and against the store's note of the last one, as the daemon tells both."""
    from orchestrator.access import chain

    found = chain.Verification(anchors)
    async with connection.to(server) as daemon:
        first = page = await daemon.audit_page()
        try:
            while page["items"]:
                found.read(map(chain.exported, page["items"]))
                page = await daemon.audit_page(after=found.last.sequence)
            before, after = (None if one["head"] is None else chain.anchor(one["head"]) for one in (first, page))
        except (KeyError, ValueError) as exc:
            raise DaemonError(f"what {server} answers is no audit: {exc}", remedy="is it of the same release?") from exc
    found.end_of_store(before, after)
    return found


def _exported(rows: Sequence[Row], anchors: Sequence[Anchor]) -> Verification:
    """An export may begin anywhere."""
    from orchestrator.access import chain

    began = chain.before(rows[0]) if rows else chain.START
    found = chain.Verification(anchors, began)
    found.read(rows)
    found.end()
    return found


def _read(file: Path) -> list[Row]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{file} cannot be read: {exc}",
            remedy="name a file that `orchestrator audit export` wrote, or - to read from a pipe",
        ) from None
    return list(_rows(file, text.splitlines()))


def _rows(file: Path, lines: Sequence[str]) -> Iterator[Row]:
    from orchestrator.access import chain

    for number, line in enumerate(lines, 1):
        try:
            values: Any = json.loads(line)
            yield chain.exported(values if isinstance(values, dict) else {})
        except (ValueError, RecursionError) as exc:
            told = "it is not JSON" if isinstance(exc, json.JSONDecodeError) else str(exc)
            raise ConfigurationError(
                f"{file}, line {number}: {told}", remedy="give it what `orchestrator audit export` wrote"
            ) from None


def _anchors(given: Sequence[str]) -> list[Anchor]:
    from orchestrator.access import chain

    try:
        return [chain.anchor(text) for text in given]
    except ValueError as exc:
        raise ConfigurationError(f"--anchor: {exc}") from None


def _tell(found: Verification, as_json: bool) -> None:
    if as_json:
        breaks = [shapes.Break(sequence=one.sequence, problem=one.problem) for one in found.breaks]
        first = found.began.sequence + 1
        return screen.write_json(
            shapes.Verification(
                holds=not breaks, entries=found.entries, first=first, head=str(found.last), breaks=breaks
            )
        )
    for one in found.breaks:
        screen.write_lines([f"entry {one.sequence}: {one.problem}"])
    holds = "the chain does not hold" if found.breaks else "the chain holds"
    since = f", from entry {found.began.sequence + 1} on" if found.began.sequence else ""
    screen.write_lines([f"{holds}: {found.entries} {'entry' if found.entries == 1 else 'entries'}{since}"])
    screen.write_lines([f"anchor: {found.last}"])
