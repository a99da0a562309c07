"""What somebody who approves a plan should know of its steps, besides the SQL. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.compiled import Begun, Compiled, Move, Script

Kind = Literal["irreversible", "online", "outside_transaction", "half_applied", "mixed_backfill"]
TEXT_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """`revision` None: of all steps."""

    kind: Kind
    revision: str | None
    message: str


def of(
    steps: Sequence[str],
    *,
    irreversible: Mapping[str, str],
    online: Mapping[str, str],
    compiled: Compiled | None,
    keeps_ddl: bool,
    mixed: Mapping[str, str],
) -> Sequence[Finding]:
    """The findings of one group, in the order of its steps. `keeps_ddl`: its server does not take DDL back; `mixed`:
    what of a step stands beside its backfills, with file and line."""
    outside = dict(_outside(compiled)) if compiled is not None else {}
    found = []
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


def _outside(compiled: Compiled) -> Iterator[tuple[str, str]]:
    """Revisions that send something outside of transactions, with the last such statement, shortened."""
    for segment in compiled.segments:
        if isinstance(segment, Script) and not segment.transactional:
            revision = segment.continues
            for item in segment.items:
                if isinstance(item, Begun):
                    revision = item.revision
                elif not isinstance(item, Move) and revision is not None:
                    text = " ".join(item.split())
                    yield revision, text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 1]}…"
