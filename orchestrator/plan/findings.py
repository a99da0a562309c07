"""What somebody who approves a plan should know of its steps, besides the SQL. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.plan import sanitise
from orchestrator.plan.compiled import Begun, Compiled, Move, Script
from orchestrator.registry.findings import LEVELS, Findings, Level

TEXT_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """`rule` names the kind for good. `revision` None: of all steps.

    `statement` is shown without its literals. `table`, with the `lock` that is taken on it, has so many `rows` at
    `tenant`, by the server's statistics, and the statement may take so many `seconds` there.
    """

    rule: str
    revision: str | None
    message: str
    level: Level = "info"
    statement: str | None = None
    table: str | None = None
    lock: str | None = None
    rows: int | None = None
    seconds: float | None = None
    tenant: str | None = None


def levelled(found: Iterable[Finding], rules: Findings) -> Iterator[Finding]:
    """As bad as the track holds them to be, without those that are off, and each once."""
    for one in dict.fromkeys(found):
        level = rules.level(one.rule)
        if level != "off":
            yield replace(one, level=level)


def worst(found: Iterable[Finding]) -> Level | None:
    """
    >>> worst([Finding("a", None, ""), Finding("b", None, "", "error")]), worst([])
    ('error', None)
    """
    there = {one.level for one in found}
    return next((level for level in LEVELS if level in there), None)


def of(
    steps: Sequence[str],
    *,
    irreversible: Mapping[str, str],
    online: Mapping[str, str],
    compiled: Compiled | None,
    keeps_ddl: bool,
    mixed: Mapping[str, str],
    adopts: Sequence[str] = (),
) -> Sequence[Finding]:
    """The findings of one group, in the order of its steps. `keeps_ddl`: its server does not take DDL back; `mixed`:
    what of a step stands beside its backfills, with file and line; `adopts`: the revisions that its targets are taken
    to be at where they have tables."""
    outside = dict(_outside(compiled)) if compiled is not None else {}
    found = []
    if adopts:
        message = f"a database that has tables already is stamped with {', '.join(adopts)} first, and runs what follows"
        found.append(Finding("adopts", None, message))
    if steps and keeps_ddl:
        message = "the server does not take DDL back: a revision that fails in the middle stays half applied"
        found.append(Finding("half_applied", None, message))
    for step in steps:
        if step in irreversible:
            found.append(Finding("irreversible", step, f"it cannot be taken back: {irreversible[step]}"))
        if step in mixed:
            message = f"it will not run: beside its backfills it has {mixed[step]}; give that another revision"
            found.append(Finding("mixed_backfill", step, message))
        if step in online:
            found.append(Finding("online", step, f"it is run by env.py: {online[step]}"))
        if step in outside:
            message = f"it sends statements outside of transactions, of which each stays done: {outside[step]}"
            found.append(Finding("outside_transaction", step, message))
    return found


def shown(sql: str, dialect: str) -> str:
    """A statement on one line, shortened, with `?` for each literal.

    >>> shown("UPDATE users SET password = 'hunter2'", "postgresql")
    'UPDATE users SET password = ?'
    """
    text = sanitise.shown(sql, dialect)
    return text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 1]}…"


def _outside(compiled: Compiled) -> Iterator[tuple[str, str]]:
    """Revisions that send something outside of transactions, with the last such statement, shortened."""
    for segment in compiled.segments:
        if isinstance(segment, Script) and not segment.transactional:
            revision = segment.continues
            for item in segment.items:
                if isinstance(item, Begun):
                    revision = item.revision
                elif not isinstance(item, Move) and revision is not None:
                    yield revision, shown(item, "postgresql")
