"""What MySQL and MariaDB do to which table for a statement, as far as they copy it. Pure.

While a table is copied nobody writes to it. What can be done at once, or beside writes, is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from orchestrator.plan import mass_changes
from orchestrator.plan.column_types import written
from orchestrator.plan.lives import dropped, made
from orchestrator.plan.locks import Command, Lock, Touch, Work
from orchestrator.plan.tokens import Reader, Table, Token, Unread, after_words, has

_ENDS = (
    "not null default auto_increment comment collate character charset unique primary key first after generated as "
    "check references on"
)
_ENDS_TYPE = frozenset(_ENDS.split())
_AT_ONCE = frozenset({"inplace", "instant", "nocopy", "none"})
_ADDED = "foreign check unique primary index key fulltext spatial partition period system"
_KEYS = frozenset(_ADDED.split())
_VOLATILE = frozenset({"uuid", "uuid_short", "uuid_v4", "uuid_v7", "sys_guid", "rand", "random_bytes"})


def _create(it: Reader) -> Command:
    if not it.takes("table"):
        return Command()
    return made(it)


def _alter(it: Reader) -> Command:
    it.takes("ignore")
    if not it.takes("table"):
        return Command()
    table, rest = it.table(), it.rest()
    asked = {word: after_words(rest, word) or [] for word in ("algorithm", "lock")}
    wanted = {one.text for tokens in asked.values() for one in tokens[: 1 + (tokens[:1] == [Token("mark", "=")])]}
    if not _AT_ONCE.isdisjoint(wanted):
        return Command()  # the server refuses what it cannot do so
    touches = [_copied(table, "ALGORITHM=COPY")] if "copy" in wanted else []
    renames = None
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
    if it.takes("partition", "by"):
        return _copied(table, "PARTITION BY")
    return _added(it, table) if it.takes("add") else None


def _added(it: Reader, table: Table) -> Touch | None:
    if it.takes("constraint") and (it.is_done or it.tokens[it.place].text not in _KEYS):
        it.name()
    if it.takes("foreign", "key"):
        return _copied(table, "ADD FOREIGN KEY")
    if it.takes("check"):
        return None if has(it.rest(), "not", "enforced") else _copied(table, "ADD CHECK")
    if it.is_done or (it.tokens[it.place].kind == "word" and it.tokens[it.place].text in _KEYS):
        return None
    it.takes("column")
    it.takes("if", "not", "exists")
    column, rest = it.name(), it.rest()
    if has(rest, "stored") or has(rest, "persistent"):
        return _copied(table, f"ADD COLUMN {column} GENERATED … STORED")
    default = after_words(rest, "default") or []
    if any(one.text in _VOLATILE and two == Token("mark", "(") for one, two in pairwise(default)):
        return _copied(table, f"ADD COLUMN {column} with a default that differs from row to row")
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
    "drop": dropped,
    **mass_changes.commands(Lock.ROW_EXCLUSIVE, "where", "limit", "join"),
}
