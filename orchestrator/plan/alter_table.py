"""What PostgreSQL does for each subcommand of ALTER TABLE. Pure.

Those that its page does not name otherwise take ACCESS EXCLUSIVE (https://www.postgresql.org/docs/current/sql-altertable.html).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from orchestrator.plan.column_types import written
from orchestrator.plan.locks import Command, Lock, NotNull, Touch, Work
from orchestrator.plan.tokens import Reader, Table, Token, after_words, has

# Of the server and of what it is often shipped with: a default that calls one differs from row to row, so that adding
# it writes each row anew. Functions of others are not known, and so are not told of.
_FUNCTIONS = (
    "gen_random_uuid uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7 random random_normal nextval "
    "clock_timestamp timeofday setval gen_random_bytes"
)
_TYPES = "serial serial2 serial4 serial8 smallserial bigserial"
_VOLATILE, _SERIAL = frozenset(_FUNCTIONS.split()), frozenset(_TYPES.split())
_ENDS_TYPE = frozenset({"using", "collate"})


def action(it: Reader, table: Table) -> Command:
    """One subcommand of ALTER TABLE."""

    def does(what: str, lock: Lock = Lock.ACCESS_EXCLUSIVE, work: Work = Work.NONE) -> Command:
        return Command((Touch(table, lock, work, what),))

    if it.takes("add"):
        return _add(it, table)
    if it.takes("alter"):
        it.takes("column")
        return _alter_column(it, table, it.name())
    if it.takes("validate", "constraint"):
        name = it.name()
        touch = Touch(table, Lock.SHARE_UPDATE_EXCLUSIVE, Work.SCAN, f"VALIDATE CONSTRAINT {name}")
        return Command((touch,), validates=(table, name))
    if it.takes("rename"):
        return _rename(it, table)
    if it.takes("drop"):
        return does("DROP CONSTRAINT" if it.takes("constraint") else "DROP COLUMN")
    if it.takes("attach", "partition"):
        return does("ATTACH PARTITION", Lock.SHARE_UPDATE_EXCLUSIVE)
    if it.takes("detach", "partition"):
        concurrently = has(it.rest(), "concurrently")
        return does("DETACH PARTITION", Lock.SHARE_UPDATE_EXCLUSIVE if concurrently else Lock.ACCESS_EXCLUSIVE)
    if it.takes_one("enable", "disable"):
        if it.takes_one("trigger") or it.takes("always", "trigger") or it.takes("replica", "trigger"):
            return does("ENABLE or DISABLE TRIGGER", Lock.SHARE_ROW_EXCLUSIVE)
        return does("ENABLE or DISABLE")
    if it.takes("cluster") or it.takes("set", "without", "cluster"):
        return does("CLUSTER ON", Lock.SHARE_UPDATE_EXCLUSIVE)
    if it.takes("set"):
        return _set(it, does)
    if it.takes("reset"):
        return does("RESET", Lock.SHARE_UPDATE_EXCLUSIVE)
    return does("ALTER TABLE")


def _set(it: Reader, does: Callable[..., Command]) -> Command:
    if it.takes("("):
        return does("SET", Lock.SHARE_UPDATE_EXCLUSIVE)
    if rewriting := it.takes_one("tablespace", "logged", "unlogged", "access"):
        return does(f"SET {rewriting.upper()}", work=Work.REWRITE)
    return does("SET")


def _rename(it: Reader, table: Table) -> Command:
    if it.takes("to"):
        return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, Work.NONE, "RENAME"),), renames=(table, _beside(it, table)))
    what = "RENAME CONSTRAINT" if it.takes("constraint") else "RENAME COLUMN"
    return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, Work.NONE, what),))


def _beside(it: Reader, table: Table) -> Table:
    return Table(it.name(), table.schema)


def _add(it: Reader, table: Table) -> Command:
    name = it.name() if it.takes("constraint") else ""
    kind = it.takes_one("check", "foreign", "unique", "primary", "exclude", "not")
    rest = it.rest() if kind else []
    if kind == "check":
        return _add_check(rest, table, name)
    lazily = has(rest, "not", "valid")
    if kind == "foreign":
        work = Work.NONE if lazily else Work.SCAN
        touch = Touch(table, Lock.SHARE_ROW_EXCLUSIVE, work, "ADD FOREIGN KEY")
        return Command((touch, *references(rest, "ADD FOREIGN KEY")))
    if kind == "not":
        return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, Work.NONE if lazily else Work.SCAN, "ADD NOT NULL"),))
    if kind is not None:
        work = Work.NONE if has(rest, "using", "index") else Work.BUILD
        return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, work, f"ADD {kind.upper()}"),))
    it.takes("column")
    it.takes("if", "not", "exists")
    return _add_column(it, table, it.name())


def _add_check(rest: list[Token], table: Table, name: str) -> Command:
    lazily = has(rest, "not", "valid")
    touch = Touch(table, Lock.ACCESS_EXCLUSIVE, Work.NONE if lazily else Work.SCAN, "ADD CHECK")
    column = _not_null(rest)
    states = (NotNull(table, column, name, not lazily),) if column is not None else ()
    return Command((touch,), states=states)


def _not_null(check: list[Token]) -> str | None:
    """The column of `(a IS NOT NULL)`."""
    inner = [token for token in check if token.text not in ("(", ")")]
    words = [token.text for token in inner[1:4]]
    ended = [token.text for token in inner[4:]] in ([], ["not", "valid"])
    return inner[0].text if words == ["is", "not", "null"] and ended else None


def _add_column(it: Reader, table: Table, column: str) -> Command:
    rest = it.rest()
    kind = rest[0].text if rest else ""
    default = after_words(rest, "default") or []
    work, why = Work.NONE, "ADD COLUMN"
    if kind in _SERIAL or has(rest, "as", "identity"):
        work, why = Work.REWRITE, f"ADD COLUMN {column} with numbers of a sequence"
    elif has(rest, "stored"):
        work, why = Work.REWRITE, f"ADD COLUMN {column} GENERATED … STORED"
    elif _calls(default):
        work, why = Work.REWRITE, f"ADD COLUMN {column} with a default that differs from row to row"
    elif has(rest, "unique") or has(rest, "primary", "key"):
        work, why = Work.BUILD, f"ADD COLUMN {column} with an index"
    elif has(rest, "check"):
        work, why = Work.SCAN, f"ADD COLUMN {column} with a check"
    return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, work, why), *references(rest, "ADD COLUMN")))


def _calls(default: list[Token]) -> bool:
    """Whether a default calls a function that is known to give something else for each row."""
    pairs = pairwise(default)
    return any(one.text in _VOLATILE and two == Token("mark", "(") for one, two in pairs if one.kind != "literal")


def _alter_column(it: Reader, table: Table, column: str) -> Command:
    if it.takes("set", "not", "null"):
        return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, Work.SCAN, f"SET NOT NULL of {column}", column),))
    if it.takes("set", "data", "type") or it.takes("type"):
        return Command((_retyped(it, table, column),))
    if it.takes("set", "statistics") or it.takes("set", "(") or it.takes("reset", "("):
        return Command((Touch(table, Lock.SHARE_UPDATE_EXCLUSIVE, Work.NONE, f"ALTER COLUMN {column}"),))
    return Command((Touch(table, Lock.ACCESS_EXCLUSIVE, Work.NONE, f"ALTER COLUMN {column}"),))


def _retyped(it: Reader, table: Table, column: str) -> Touch:
    rest = it.rest()
    ends = next((place for place, one in enumerate(rest) if one.kind == "word" and one.text in _ENDS_TYPE), len(rest))
    type_, using = rest[:ends], after_words(rest, "using") or []
    cast = [Token("word", column), Token("mark", ":"), Token("mark", ":"), *type_]
    plain = not using or [one.text for one in using] == [one.text for one in cast]
    stored = written(type_) if plain and not has(rest, "collate") else ""
    return Touch(table, Lock.ACCESS_EXCLUSIVE, Work.REWRITE, f"new type of {column}", column, stored)


def references(tokens: list[Token], what: str) -> Iterator[Touch]:
    """The tables that foreign keys of a new table or column refer to."""
    while (tokens := after_words(tokens, "references") or []) != []:
        yield Touch(Reader(tokens).table(), Lock.SHARE_ROW_EXCLUSIVE, Work.NONE, f"{what} … REFERENCES")
