"""Names and texts as SQL. Pure."""

from __future__ import annotations


def quoted(identifier: str) -> str:
    """An SQL identifier.

    >>> quoted('O"Neil')
    '"O""Neil"'
    """
    return '"' + identifier.replace('"', '""') + '"'


def dotted(name: str) -> str:
    """A table's name, with its schema before a dot, as SQL.

    >>> dotted("sales.Orders")
    '"sales"."Orders"'
    """
    return ".".join(map(quoted, name.split(".")))


def backquoted(identifier: str) -> str:
    """An SQL identifier of MySQL, whatever its `sql_mode`.

    >>> backquoted('O`Neil')
    '`O``Neil`'
    """
    return "`" + identifier.replace("`", "``") + "`"


def literal(text: str) -> str:
    """
    >>> literal("it's")
    "'it''s'"
    """
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def plain_literal(text: str) -> str:
    """Where a backslash stands for itself (SQLite).

    >>> plain_literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def escaped_literal(text: str) -> str:
    """Where a backslash escapes (MySQL, but for `NO_BACKSLASH_ESCAPES`).

    >>> print(escaped_literal("it's a" + chr(92)))
    'it''s a\\\\'
    """
    return plain_literal(text.replace("\\", "\\\\"))
