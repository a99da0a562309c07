"""What of a SQL text is code: neither comment nor quoted. Pure.

Read as each kind of server reads it in its usual mode (`standard_conforming_strings`, and without `ANSI_QUOTES` and
`NO_BACKSLASH_ESCAPES`). What does not end is no code.
https://www.postgresql.org/docs/current/sql-syntax-lexical.html, https://dev.mysql.com/doc/refman/8.4/en/comments.html,
https://www.sqlite.org/lang_keywords.html
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan.quoting import BACKTICKS, DOLLAR, ESCAPED, PLAIN, TWICE, TWICE_ESCAPED, WORD, end, pattern

_POSTGRESQL = pattern(
    r"(?P<line>--[^\n\r]*)",
    r"(?P<comment>/\*)",
    # A text goes on where another follows on a new line, and is read as the first.
    rf"(?P<text>[eE]{ESCAPED}(?:\s*[\n\r]\s*{ESCAPED})*|{PLAIN})",
    rf"(?P<name>{TWICE})",
    DOLLAR,
    r"(?P<open>['\"])",
    WORD,
)
# What stands in `/*! … */` is code; in one that names a version, it is code to some servers.
_MYSQL = pattern(
    r"(?P<line>\#[^\n]*|--(?=[\s\x00-\x1f]|$)[^\n]*)",
    r"(?P<inside>/\*!(?!\d))",
    r"(?P<comment>/\*)",
    rf"(?P<text>{ESCAPED}|{TWICE_ESCAPED})",
    rf"(?P<name>{BACKTICKS})",
    r"(?P<open>['\"`])",
    WORD,
)
_SQLITE = pattern(
    r"(?P<line>--[^\n]*)",
    r"(?P<comment>/\*)",
    rf"(?P<text>{PLAIN})",
    rf"(?P<name>{TWICE}|{BACKTICKS}|\[[^\]]*\])",
    r"(?P<open>['\"`\[])",
    WORD,
)
_DIALECTS = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL, "sqlite": _SQLITE}


def code(sql: str, dialect: str) -> str:
    """The text with a blank in place of each comment, quoted text and quoted name. `dialect`: SQLAlchemy's name.

    >>> code("UPDATE t SET a = 'it''s' /* all */ WHERE \\"b\\" > :after", "postgresql")
    'UPDATE t SET a =     WHERE   > :after'
    """
    return "".join(part for kind, part in _parts(sql, dialect) if kind in ("code", "word"))


def names(sql: str, dialect: str) -> frozenset[str]:
    """The words of the text, in lower case as PostgreSQL takes them, and what is quoted as a name.

    >>> sorted(names('SELECT "Id" FROM Other -- mine', "postgresql"))
    ['Id', 'from', 'other', 'select']
    """
    found = ((kind, part.strip()) for kind, part in _parts(sql, dialect))
    return frozenset(part.lower() if kind == "word" else part for kind, part in found if kind in ("word", "name"))


def _parts(sql: str, dialect: str) -> Iterator[tuple[str, str]]:
    """Code, words and names, and blanks for what is none of them."""
    place, tokens = 0, _DIALECTS[dialect]
    while found := tokens.search(sql, place):
        yield "code", sql[place : found.start()]
        after = end(sql, found, nested=dialect == "postgresql")
        place = len(sql) if after is None else after
        if found.lastgroup == "word":
            yield "word", found[0]
        else:
            yield "code", " "
            if found.lastgroup == "name":
                yield "name", _unquoted(found[0])
    yield "code", sql[place:]


def _unquoted(name: str) -> str:
    end = name[-1]
    return name[1:-1].replace(end * 2, end)
