"""Where a target's heads are kept, and what Alembic does to it, as SQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.plan.compiled import VERSION_SCHEMA, VERSION_TABLE, Move


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a kind of database spells what is ours. `opening` comes before a stretch of scripts; `locking` ends a SELECT
    whose rows nobody else is to change."""

    quoted: Callable[[str], str]
    literal: Callable[[str], str]
    opening: tuple[str, ...] = ()
    begin: str | None = None
    locking: str = ""


@dataclass(frozen=True, slots=True)
class VersionTable:
    """Names as they are, not quoted."""

    name: str
    schema: str | None
    spelling: Spelling

    @property
    def qualified(self) -> str:
        quoted = self.spelling.quoted
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)

    @property
    def heads(self) -> str:
        return f"SELECT version_num FROM {self.qualified}{self.spelling.locking}"

    def created(self, template: str) -> str:
        """The statement that makes it, from the one that Alembic made for `VERSION_TABLE`."""
        quoted = self.spelling.quoted
        names = {
            f"{VERSION_TABLE}_pkc": quoted(f"{self.name}_pkc"),
            VERSION_TABLE: quoted(self.name),
            VERSION_SCHEMA: quoted(self.schema or ""),
        }
        return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], template)

    def moved(self, move: Move) -> Iterator[str]:
        """The statements that Alembic runs: a head is replaced, taken out, or added. Each changes one row."""
        table, literal = self.qualified, self.spelling.literal
        gone = sorted(set(move.before) - set(move.after))
        come = sorted(set(move.after) - set(move.before))
        for old, new in zip(gone, come, strict=False):
            yield f"UPDATE {table} SET version_num={literal(new)} WHERE version_num = {literal(old)}"
        for old in gone[len(come) :]:
            yield f"DELETE FROM {table} WHERE version_num = {literal(old)}"
        for new in come[len(gone) :]:
            yield f"INSERT INTO {table} (version_num) VALUES ({literal(new)})"
