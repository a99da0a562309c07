"""The catalog of a SQLite database as lines.

SQLite keeps each statement that made something as it was written, and hardly tells more than that. So the statements
are compared, word by word: spaces, comments, the way names are quoted and small letters do not count, nor does the
order of a table's columns. A text in double quotes, as SQLite allows it where no such name is, keeps its capitals.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from orchestrator.databases import catalogs
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
_COLUMN = "column | "
_CREATE_TABLE = ("create", "table")
_BEFORE_NAMES = frozenset({"constraint", "references", "collate"})


def lines(connection: sqlite3.Connection, tables: Mapping[str, str]) -> list[Line]:
    """Raises sqlite3.Error."""
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    found = [Line(f"database | {encoding}", "database")]
    folded = {name.lower(): known for name, known in tables.items()}
    rows = [
        row for row in connection.execute(_OBJECTS).fetchall() if row[3] is not None
    ]  # a constraint's index has none
    names = {name.lower() for row in rows for name in row[1:3]}.union(*(_named(words_of(row[3])) for row in rows))
    for kind, name, table, sql in rows:
        found += of_statement(kind, name, table, sql, folded, names)
    return found


def exactly(connection: sqlite3.Connection, tables: Mapping[str, str]) -> tuple[str, ...]:
    """The lines in one order for all databases, each column with its place in its table. Raises sqlite3.Error."""
    found: list[str] = []
    places: Counter[str] = Counter()
    for line in lines(connection, tables):
        text = catalogs.known(line, tables)
        if text.startswith(_COLUMN):
            places[line.relation] += 1
            text = f"{text} | {places[line.relation]}"
        found.append(text)
    return tuple(sorted(found))


def of_statement(
    kind: str,
    name: str,
    table: str,
    sql: str,
    tables: Mapping[str, str] | None = None,
    names: Collection[str] | None = None,
) -> Iterator[Line]:
    """The lines for what one statement has made. `names`: what in double quotes is a name; None: everything is.

    >>> [line.text for line in of_statement("table", "t", "t", 'CREATE TABLE "t" (id INTEGER, CHECK (id>0)) STRICT')]
    ['table | t | strict', 'column | t | id integer', 'constraint | t | check ( id > 0 )']
    """
    words = [(tables or {}).get(word, word) for word in words_of(sql, names)]
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


def _named(words: Sequence[str]) -> Iterator[str]:
    """The names of a table's columns and constraints, and of what these refer to."""
    for before, word in pairwise(words):
        if before in _BEFORE_NAMES:
            yield word
    if tuple(words[:2]) == _CREATE_TABLE and "(" in words:
        yield from (element[0] for element in _elements(words)[0] if element)


def words_of(sql: str, names: Collection[str] | None = None) -> list[str]:
    """Its words, in small letters but for texts.

    >>> words_of('x TEXT DEFAULT "Open" CHECK ("X" <> "No")', {"x"})
    ['x', 'text', 'default', '"Open"', 'check', '(', 'x', '<>', '"No"', ')']
    >>> words_of('CREATE TABLE [A b] ("x" TEXT DEFAULT \\'It\\') -- why')
    ['create', 'table', 'a b', '(', 'x', 'text', 'default', "'It'", ')']
    """
    found: list[str] = []
    for match in _WORD.finditer(sql):
        if match["text"] is not None:
            found.append(match["text"])
        elif match["quoted"] is not None:
            found.append(_unquoted(match["quoted"], names if found[-1:] != ["default"] else ()))
        elif match["word"] is not None or match["sign"] is not None:
            found.append((match["word"] or match["sign"]).lower())
    return found


def _unquoted(quoted: str, names: Collection[str] | None) -> str:
    quote = quoted[-1]
    word = quoted[1:-1].replace(quote * 2, quote)
    is_name = names is None or quote != '"' or word.lower() in names
    return word.lower() if is_name or word == word.lower() else quoted
