"""What Alembic does to a version table, as SQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from orchestrator.plan.compiled import VERSION_SCHEMA, VERSION_TABLE, Move

Spell = Callable[[str], str]


def created(template: str, name: str, schema: str | None, quoted: Spell) -> str:
    """The statement that makes it, from the one that Alembic made for `VERSION_TABLE`."""
    names = {
        f"{VERSION_TABLE}_pkc": quoted(f"{name}_pkc"),
        VERSION_TABLE: quoted(name),
        VERSION_SCHEMA: quoted(schema or ""),
    }
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], template)


def moved(move: Move, table: str, literal: Spell) -> Iterator[str]:
    """The statements that Alembic runs: a head is replaced, taken out, or added. Each changes one row."""
    gone = sorted(set(move.before) - set(move.after))
    come = sorted(set(move.after) - set(move.before))
    for old, new in zip(gone, come, strict=False):
        yield f"UPDATE {table} SET version_num={literal(new)} WHERE version_num = {literal(old)}"
    for old in gone[len(come) :]:
        yield f"DELETE FROM {table} WHERE version_num = {literal(old)}"
    for new in come[len(gone) :]:
        yield f"INSERT INTO {table} (version_num) VALUES ({literal(new)})"
