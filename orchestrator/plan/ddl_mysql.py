"""What MySQL and MariaDB do to which table for a statement, as far as they copy it. Pure.

While a table is copied nobody writes to it. What can be done at once, or beside writes, is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan import mass_changes
from orchestrator.plan.column_types import written
from orchestrator.plan.locks import Command, Lock, Touch, Work
from orchestrator.plan.tokens import Reader, Table, Token, Unread

_ENDS = (
    "not null default auto_increment comment collate character charset unique primary key first after generated as "
    "check references on"
)
_ENDS_TYPE = frozenset(_ENDS.split())


def _create(it: Reader) -> Command:
    if not it.takes("table"):
        return Command()
    it.takes("if", "not", "exists")
    return Command(creates=(it.table(),))


def _alter(it: Reader) -> Command:
    it.takes("ignore")
    if not it.takes("table"):
        return Command()
    table, rest = it.table(), it.rest()
    if any(token.kind == "word" and token.text in ("algorithm", "lock") for token in rest):
        return Command()  # the server refuses what it cannot do so
    touches, renames = [], None
    for part in _parts(rest):
        try:
            if part.takes("rename", "to") or part.takes("rename", "as"):
                renames = (table, part.table())
            elif touch := _action(part, table):
                touches.append(touch)
        except Unread:
            continue
    return Command(tuple(touches), renames=renames)


def _parts(tokens: list[Token]) -> list[Reader]:
    whole = Reader(tokens)
    return list(whole.parts())


def _action(it: Reader, table: Table) -> Touch | None:
    if it.takes_one("modify", "change"):
        return _retyped(it, table)
    if it.takes("convert", "to"):
        return _copied(table, "CONVERT TO CHARACTER SET")
    if it.takes("drop", "primary", "key"):
        return None if it.rest() else _copied(table, "DROP PRIMARY KEY")
    if it.takes("add"):
        if it.takes("constraint") and not it.takes("foreign"):
            it.name()
        if it.takes("foreign", "key"):
            return _copied(table, "ADD FOREIGN KEY")
    return None


def _retyped(it: Reader, table: Table) -> Touch:
    renamed = it.tokens[it.place - 1].text == "change"
    it.takes("column")
    column = it.name()
    if renamed:
        it.name()
    rest = it.rest()
    ends = next((place for place, one in enumerate(rest) if one.kind == "word" and one.text in _ENDS_TYPE), len(rest))
    return Touch(table, Lock.SHARED, Work.REWRITE, f"new type of {column}", column, written(rest[:ends]))


def _copied(table: Table, what: str) -> Touch:
    return Touch(table, Lock.SHARED, Work.REWRITE, what)


COMMANDS: dict[str, Callable[[Reader], Command]] = {
    "create": _create,
    "alter": _alter,
    **mass_changes.commands(Lock.ROW_EXCLUSIVE, "where", "limit", "join"),
}
