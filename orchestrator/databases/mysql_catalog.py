"""Reads the catalog of a MySQL or MariaDB database as lines, and with it the heads that it claims to be at.

Left out is what differs without meaning anything, or for each tenant: numbers of rows, the next AUTO_INCREMENT, row
formats, times, the order of columns, privileges, and how clients that made views compared texts. What is not shown to
the shard's user (the text of a routine, say) is not compared.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import anyio.to_thread
from asyncmy.connection import Connection

from orchestrator.databases import catalogs
from orchestrator.databases.base import Place
from orchestrator.databases.mysql_connecting import Row, ask, is_mariadb
from orchestrator.databases.quoting import backquoted
from orchestrator.plan.catalog import Line, of_tenant
from orchestrator.plan.roles import marked

# Each question names its database by a parameter, so that the server looks into no other.
_TABLES = """SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, TABLE_COMMENT FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = %s"""
_COLUMNS = """SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, COLLATION_NAME,
    GENERATION_EXPRESSION, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s"""
_INDEXES = """SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, INDEX_TYPE, INDEX_COMMENT, {hidden}, {expression}, SUB_PART,
    COLLATION FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s ORDER BY 1, 2, SEQ_IN_INDEX"""
# Two questions: joined in one, MariaDB looks into every database of the server, which took 200 ms instead of 0.4.
_KEYS = """SELECT TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, COLUMN_NAME,
    REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE
    WHERE TABLE_SCHEMA = %s AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY 1, 2, ORDINAL_POSITION"""
_KEY_RULES = """SELECT TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE
    FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = %s"""
_CHECKS_MARIADB = """SELECT TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE, LEVEL FROM information_schema.CHECK_CONSTRAINTS
    WHERE CONSTRAINT_SCHEMA = %s"""
_CHECKS_MYSQL = """SELECT t.TABLE_NAME, t.CONSTRAINT_NAME, c.CHECK_CLAUSE, t.ENFORCED
    FROM information_schema.TABLE_CONSTRAINTS t JOIN information_schema.CHECK_CONSTRAINTS c
    ON c.CONSTRAINT_SCHEMA = t.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = t.CONSTRAINT_NAME
    WHERE t.CONSTRAINT_TYPE = 'CHECK' AND t.TABLE_SCHEMA = %s"""
_PARTITIONS = """SELECT TABLE_NAME, PARTITION_NAME, SUBPARTITION_NAME, PARTITION_METHOD, PARTITION_EXPRESSION,
    PARTITION_DESCRIPTION, SUBPARTITION_METHOD, SUBPARTITION_EXPRESSION FROM information_schema.PARTITIONS
    WHERE TABLE_SCHEMA = %s AND PARTITION_NAME IS NOT NULL"""
_VIEWS = """SELECT TABLE_NAME, VIEW_DEFINITION, CHECK_OPTION, SECURITY_TYPE, DEFINER FROM information_schema.VIEWS
    WHERE TABLE_SCHEMA = %s"""
_TRIGGERS = """SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER,
    ACTION_STATEMENT, SQL_MODE, DEFINER FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s"""
_ROUTINES = """SELECT SPECIFIC_NAME, ROUTINE_TYPE, DTD_IDENTIFIER, IS_DETERMINISTIC, SQL_DATA_ACCESS, SECURITY_TYPE,
    ROUTINE_DEFINITION, ROUTINE_COMMENT, SQL_MODE, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s"""
_PARAMETERS = """SELECT SPECIFIC_NAME, PARAMETER_NAME, ROUTINE_TYPE, ORDINAL_POSITION, PARAMETER_MODE, DTD_IDENTIFIER
    FROM information_schema.PARAMETERS WHERE SPECIFIC_SCHEMA = %s"""
_EVENTS = """SELECT EVENT_NAME, EVENT_TYPE, INTERVAL_VALUE, INTERVAL_FIELD, STATUS, ON_COMPLETION, EVENT_DEFINITION,
    EVENT_COMMENT, SQL_MODE, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s"""
_ORDER = """SELECT TABLE_NAME, COLUMN_NAME, ORDINAL_POSITION FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = DATABASE()"""
_DATABASE = """SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA
    WHERE SCHEMA_NAME = %s"""
# Of a question: something could not be read, since it is locked or being changed. Then the rows are not all there are.
_NOT_READ = frozenset({1146, 1205, 1213, 1412, 1684, 3572})


class _Kind(NamedTuple):
    """Rows of one question as lines: `part`: whether the second value names what is within the first; `person`: the
    last one names who made it."""

    name: str
    question: str
    part: bool = True
    person: bool = False


def _kinds(mariadb: bool) -> Iterator[_Kind]:
    yield _Kind("table", _TABLES, part=False)
    yield _Kind("column", _COLUMNS)
    yield _Kind("check", _CHECKS_MARIADB if mariadb else _CHECKS_MYSQL)
    yield _Kind("partition", _PARTITIONS)
    yield _Kind("view", _VIEWS, part=False, person=True)
    yield _Kind("trigger", _TRIGGERS, person=True)
    yield _Kind("routine", _ROUTINES, part=False, person=True)
    yield _Kind("parameter", _PARAMETERS)
    yield _Kind("event", _EVENTS, part=False, person=True)


def _indexes(mariadb: bool) -> str:
    if mariadb:
        return _INDEXES.format(hidden="IGNORED", expression="COLUMN_NAME")
    return _INDEXES.format(hidden="IS_VISIBLE", expression="coalesce(EXPRESSION, COLUMN_NAME)")


def questions(*, mariadb: bool) -> Iterator[str]:
    """All that is asked of information_schema, each with the database as its parameter."""
    yield from (kind.question for kind in _kinds(mariadb))
    yield from (_indexes(mariadb), _KEYS, _KEY_RULES, _DATABASE)


async def lines(connection: Connection, place: Place, tables: Mapping[str, str]) -> Sequence[Line]:
    """The catalog of the session's database. Raises TargetLockedError where a part of it cannot be read just now, and
    the driver's errors."""
    mariadb = is_mariadb(connection)
    ((database, user),) = await ask(connection, "SELECT DATABASE(), CURRENT_USER()")
    if database is None:
        raise catalogs.changing(place, "its database was dropped meanwhile")
    found: dict[str, list[Row]] = {}
    for kind in _kinds(mariadb):
        found[kind.name] = await _rows(connection, place, kind.question, database)
    found["index"] = await _rows(connection, place, _indexes(mariadb), database)
    rules = await _rows(connection, place, _KEY_RULES, database)
    found["foreign key"] = _with_rules(await _rows(connection, place, _KEYS, database), rules)
    found["sequence"] = await _sequences(connection, place, found["table"])
    found["database"] = await _rows(connection, place, _DATABASE, database)
    written = _Writing(database, user, of_tenant(catalogs.names_of(place)), tables)
    return await anyio.to_thread.run_sync(written.lines, found, mariadb)


async def exactly(connection: Connection, place: Place, tables: Mapping[str, str]) -> tuple[str, ...]:
    """The lines in one order for all databases, with the order of columns. Raises as `lines`."""
    rows = await _rows(connection, place, _ORDER)
    order = (f"order | {tables.get(str(table), table)} | {number} | {name}" for table, name, number in rows)
    return tuple(sorted([*order, *(catalogs.known(line, tables) for line in await lines(connection, place, tables))]))


async def _rows(connection: Connection, place: Place, question: str, *arguments: object) -> list[Row]:
    rows = await ask(connection, question, *arguments)
    for _level, number, _said in await ask(connection, "SHOW WARNINGS LIMIT 100"):
        if number in _NOT_READ:
            raise catalogs.changing(place, f"a table of it is locked, or being changed (warning {number})")
    return rows


def _with_rules(columns: Sequence[Row], rules: Sequence[Row]) -> list[Row]:
    """The columns of foreign keys with what happens when what they refer to is changed or goes."""
    by_key = {tuple(row[:2]): tuple(row[2:]) for row in rules}
    return [(*row[:2], *by_key.get(tuple(row[:2]), ("-", "-")), *row[2:]) for row in columns]


async def _sequences(connection: Connection, place: Place, tables: Sequence[Row]) -> list[Row]:
    """How each sequence was made: not its next number. MariaDB has them."""
    names = [str(row[0]) for row in tables if row[1] == "SEQUENCE"]
    return [row for name in names for row in await _rows(connection, place, f"SHOW CREATE SEQUENCE {backquoted(name)}")]


class _Writing:
    """Writes rows as lines: the database is `<database>`, whoever asks `<migrator>`."""

    def __init__(self, database: str, user: str, own: re.Pattern[str], tables: Mapping[str, str]) -> None:
        self._database, self._user, self._own = database, user, own
        self._qualifying = re.compile(rf"{re.escape(backquoted(database))}(?=\s*\.)")
        self._tables = {backquoted(name): known for name, known in tables.items()}

    def lines(self, found: Mapping[str, Sequence[Row]], mariadb: bool) -> list[Line]:
        lines = [Line(self._text("database", row), "database") for row in found["database"]]
        for kind in _kinds(mariadb):
            lines += [self._line(kind, row) for row in found[kind.name]]
        lines += [Line(self._text("sequence", row), str(row[0])) for row in found["sequence"]]
        lines += self._joined("index", found["index"], 6)
        lines += self._joined("foreign key", [self._at_home(row) for row in found["foreign key"]], 6)
        return lines

    def _line(self, kind: _Kind, row: Row) -> Line:
        if kind.person:
            row = (*row[:-1], self._person(row[-1]))
        return Line(self._text(kind.name, row), str(row[0]), str(row[1] or "") if kind.part else "")

    def _joined(self, kind: str, rows: Sequence[Row], fixed: int) -> Iterator[Line]:
        """One line for the rows that are alike in their first values: those of an index, a column each."""
        parts: dict[Row, list[str]] = defaultdict(list)
        for row in rows:
            parts[row[:fixed]].append(" ".join(str(value) for value in row[fixed:] if value is not None))
        for head, columns in parts.items():
            yield Line(self._text(kind, (*head, ", ".join(columns))), str(head[0]), str(head[1]))

    def _at_home(self, row: Row) -> Row:
        return (*row[:4], "<database>" if row[4] == self._database else row[4], *row[5:])

    def _person(self, name: Any) -> str:
        return "<migrator>" if name == self._user else marked(str(name), self._own.sub("<tenant>", str(name)))

    def _text(self, kind: str, row: Row) -> str:
        text = " | ".join([kind, *("-" if value is None else str(value) for value in row)])
        text = self._qualifying.sub("`<database>`", text)
        for name, known in self._tables.items():
            text = text.replace(name, known)
        return text
