"""What stays of a revision that did not come to its end, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.registry.model import Heads

SHOWN = 8
_LONGEST = 160
REMEDY = (
    "take these statements back by hand, correct the cause, then retry; or finish the revision by hand, stamp the "
    "target with it, then retry"
)


@dataclass(slots=True)
class Part:
    """Statements since the version table was last brought along, the first few in words; `heads`: what it held then,
    None where that was before."""

    statements: list[str] = field(default_factory=list)
    count: int = 0
    heads: Heads | None = None

    def add(self, statement: str) -> None:
        self.count += 1
        if len(self.statements) < SHOWN:
            self.statements.append(statement)

    def told(self, redact: Callable[[str], str]) -> str:
        """The first few in words, and how many more there are; secrets are taken out by `redact`."""
        shown = [shortened(redact(statement)) for statement in self.statements]
        more = self.count - len(shown)
        return "; ".join([*shown, f"and {more} more"] if more else shown)

    @property
    def version(self) -> str:
        """The heads that the version table holds, in words."""
        return ", ".join(self.heads or ()) or "nothing"

    def take(self, later: Part) -> None:
        if later.heads is not None:
            self.statements, self.count, self.heads = later.statements, later.count, later.heads
        else:
            self.statements += later.statements[: SHOWN - len(self.statements)]
            self.count += later.count


def told(part: Part, redact: Callable[[str], str] = str) -> str:
    """Of a server that takes back all but what was committed."""
    return (
        f"The revision is half applied: what it did outside of transactions stays ({part.told(redact)}). "
        f"The version table still says {part.version}"
    )


def shortened(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
