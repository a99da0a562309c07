"""What PostgreSQL does to which table for a statement. Pure.

What is not known for certain is left out: nobody is told of a lock or of work that may not come.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.plan import ddl_mysql, ddl_sqlite
from orchestrator.plan.alter_table import action, references
from orchestrator.plan.locks import DROP_INDEX, Command, Lock, NotNull, Touch, Work
from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.tokens import Reader, Table, Token, Unread, after_words, commands, has, outer

# Characters of a text that is read; a longer one holds data.
LONGEST = 100_000


def read(sql: str, dialect: str) -> tuple[Command, ...]:
    """What can be told of each command in the text; nothing of one that cannot be read, or is longer than `LONGEST`.

    >>> [(touch.lock.value, touch.work.value, touch.what) for one in read("CREATE INDEX i ON t (a)", "postgresql")
    ...     for touch in one.touches]
    [('SHARE', 'build', 'CREATE INDEX')]
    >>> read("CREATE FOO BAR", "postgresql") == (Command(),)
    True
    """
    if len(sql) > LONGEST:
        return ()
    known = _DIALECTS.get(dialect, {})
    try:
        return tuple(_command(tokens, known) for tokens in commands(sql, dialect))
    except UnterminatedError:
        return ()


def _command(tokens: list[Token], known: dict[str, Callable[[Reader], Command]]) -> Command:
    reader = Reader(tokens)
    first = tokens[0].text if tokens[0].kind == "word" else ""
    reader.place = 1
    try:
        return known[first](reader) if first in known else Command()
    except (Unread, IndexError):
        return Command()


def _create(it: Reader) -> Command:
    it.takes("or", "replace")
    if it.takes_one("temp", "temporary"):
        return Command()
    it.takes("unlogged")
    if it.takes("table"):
        return _create_table(it)
    if it.takes("materialized", "view"):
        it.takes("if", "not", "exists")
        return Command(creates=(it.table(),))
    unique = it.takes("unique")
    if it.takes("index"):
        return _create_index(it, "CREATE UNIQUE INDEX" if unique else "CREATE INDEX")
    it.takes("constraint")
    if it.takes("trigger"):
        on = after_words(it.rest(), "on")
        if on is None:
            raise Unread("a trigger on nothing")
        return Command((Touch(Reader(on).table(), Lock.SHARE_ROW_EXCLUSIVE, Work.NONE, "CREATE TRIGGER"),))
    return Command()


def _create_table(it: Reader) -> Command:
    it.takes("if", "not", "exists")
    table, rest = it.table(), it.rest()
    touches = list(references(rest, "CREATE TABLE"))
    if (parent := after_words(outer(rest), "partition", "of")) is not None:
        touches.append(Touch(Reader(parent).table(), Lock.ACCESS_EXCLUSIVE, Work.NONE, "CREATE TABLE … PARTITION OF"))
    return Command(tuple(touches), (table,))


def _create_index(it: Reader, what: str) -> Command:
    concurrently = it.takes("concurrently")
    it.takes("if", "not", "exists")
    name = None
    if not it.takes("on"):
        name = it.name()
        if not it.takes("on"):
            raise Unread("an index on nothing")
    it.takes("only")
    table, lock = it.table(), Lock.SHARE_UPDATE_EXCLUSIVE if concurrently else Lock.SHARE
    index = (Table(name, table.schema), table) if name is not None else None  # it lies in its table's schema
    touch = Touch(table, lock, Work.BUILD, f"{what} CONCURRENTLY" if concurrently else what)
    return Command((touch,), index=index)


def _drop(it: Reader) -> Command:
    if it.takes("index"):
        concurrently = it.takes("concurrently")
        it.takes("if", "exists")
        lock = Lock.SHARE_UPDATE_EXCLUSIVE if concurrently else Lock.ACCESS_EXCLUSIVE
        return Command(tuple(Touch(one, lock, Work.NONE, DROP_INDEX) for one in it.tables()))
    if not it.takes("table"):
        return Command()
    it.takes("if", "exists")
    return Command(tuple(Touch(one, Lock.ACCESS_EXCLUSIVE, Work.NONE, "DROP TABLE") for one in it.tables()))


def _truncate(it: Reader) -> Command:
    it.takes("table")
    return Command(tuple(Touch(one, Lock.ACCESS_EXCLUSIVE, Work.NONE, "TRUNCATE") for one in it.tables()))


def _vacuum(it: Reader) -> Command:
    if not it.takes("full") and not it.takes("(", "full", ")"):
        return Command()
    it.takes_one("verbose", "analyze")
    return Command(tuple(Touch(one, Lock.ACCESS_EXCLUSIVE, Work.REWRITE, "VACUUM FULL") for one in it.tables()))


def _cluster(it: Reader) -> Command:
    it.takes("verbose")
    return Command((Touch(it.table(), Lock.ACCESS_EXCLUSIVE, Work.REWRITE, "CLUSTER"),))


def _reindex(it: Reader) -> Command:
    if not it.takes("table"):
        return Command()
    concurrently = it.takes("concurrently")
    lock = Lock.SHARE_UPDATE_EXCLUSIVE if concurrently else Lock.SHARE
    return Command((Touch(it.table(), lock, Work.BUILD, "REINDEX TABLE"),))


def _update(it: Reader) -> Command:
    it.takes("only")
    return _all_rows(it, "UPDATE")


def _delete(it: Reader) -> Command:
    if not it.takes("from"):
        raise Unread("a DELETE from nothing")
    it.takes("only")
    return _all_rows(it, "DELETE")


def _all_rows(it: Reader, verb: str) -> Command:
    table, rest = it.table(), it.rest()
    work = Work.NONE if has(rest, "where") or has(rest, "limit") else Work.CHANGE
    return Command((Touch(table, Lock.ROW_EXCLUSIVE, work, f"{verb} without WHERE" if work is Work.CHANGE else verb),))


def _alter(it: Reader) -> Command:
    if not it.takes("table"):
        return Command()
    it.takes("if", "exists")
    it.takes("only")
    table = it.table()
    it.takes("*")
    touches: list[Touch] = []
    states: list[NotNull] = []
    validates = renames = None
    for part in it.parts():
        try:
            found = action(part, table)
        except (Unread, IndexError):
            continue
        touches += found.touches
        states += found.states
        validates, renames = found.validates or validates, found.renames or renames
    return Command(tuple(touches), renames=renames, states=tuple(states), validates=validates)


_COMMANDS: dict[str, Callable[[Reader], Command]] = {
    "create": _create,
    "drop": _drop,
    "alter": _alter,
    "truncate": _truncate,
    "vacuum": _vacuum,
    "cluster": _cluster,
    "reindex": _reindex,
    "update": _update,
    "delete": _delete,
}
_DIALECTS = {
    "postgresql": _COMMANDS,
    "mysql": ddl_mysql.COMMANDS,
    "mariadb": ddl_mysql.COMMANDS,
    "sqlite": ddl_sqlite.COMMANDS,
}
