"""The catalog of a SQLite database as lines.

SQLite keeps each statement that made something as it was written, and hardly tells more than that. So the statements
are compared, word by word: spaces, comments, the way names are quoted and small letters do not count, nor does the
order of a table's columns.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.plan.catalog import Line

_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
_WORD = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|\s+   # says nothing
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<word>\w+)
    |(?P<sign>\|\||<<|>>|<=|>=|<>|!=|==|->>|->|.)""",
    re.VERBOSE | re.DOTALL,
)
# A table's elements that begin so tell of the table rather than of a column.
_OF_TABLES = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_CREATE_TABLE = ("create", "table")


def lines(connection: sqlite3.Connection, tables: Mapping[str, str]) -> list[Line]:
    """Raises sqlite3.Error."""
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    found = [Line(f"database | {encoding}", "database")]
    folded = {name.lower(): known for name, known in tables.items()}
    for kind, name, table, sql in connection.execute(_OBJECTS).fetchall():
        if sql is not None:  # an index that a constraint brings has none
            found += of_statement(kind, name, table, sql, folded)
    return found


def of_statement(kind: str, name: str, table: str, sql: str, tables: Mapping[str, str] | None = None) -> Iterator[Line]:
    """The lines for what one statement has made.

    >>> [line.text for line in of_statement("table", "t", "t", 'CREATE TABLE "t" (id INTEGER, CHECK (id>0)) STRICT')]
    ['table | t | strict', 'column | t | id integer', 'constraint | t | check ( id > 0 )']
    """
    words = [(tables or {}).get(word, word) for word in words_of(sql)]
    if kind == "table" and tuple(words[:2]) == _CREATE_TABLE and "(" in words:
        yield from _of_table(name, words)
        return
    part = "" if name == table else name
    yield Line(" | ".join([kind, name.lower(), " ".join(words)]), table, part)


def _of_table(name: str, words: Sequence[str]) -> Iterator[Line]:
    elements, rest = _elements(words)
    yield Line(f"table | {name.lower()} | {' '.join(rest)}", name)
    for element in elements:
        if element[:1] and element[0] in _OF_TABLES:
            named = element[1] if element[0] == "constraint" and len(element) > 1 else " ".join(element[:1])
            yield Line(f"constraint | {name.lower()} | {' '.join(element)}", name, named)
        elif element:
            yield Line(f"column | {name.lower()} | {' '.join(element)}", name, element[0])


def _elements(words: Sequence[str]) -> tuple[list[list[str]], Sequence[str]]:
    """What stands between the commas of the first parentheses, and what follows on these."""
    found: list[list[str]] = [[]]
    depth, first = 0, words.index("(")
    for number, word in enumerate(words[first:], first):
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return found, words[number + 1 :]
        if depth == 1 and word == ",":
            found.append([])
        elif number > first:
            found[-1].append(word)
    return found, ()


def words_of(sql: str) -> list[str]:
    """
    >>> words_of('CREATE TABLE [A b] ("x" TEXT DEFAULT \\'It\\') -- why')
    ['create', 'table', 'a b', '(', 'x', 'text', 'default', "'It'", ')']
    """
    found = []
    for match in _WORD.finditer(sql):
        if match["text"] is not None:
            found.append(match["text"])
        elif match["quoted"] is not None:
            quote = match["quoted"][-1]
            found.append(match["quoted"][1:-1].replace(quote * 2, quote).lower())
        elif match["word"] is not None or match["sign"] is not None:
            found.append((match["word"] or match["sign"]).lower())
    return found
