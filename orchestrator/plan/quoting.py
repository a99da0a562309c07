"""How SQL's words and quotes are spelled, as regular expressions for readers of SQL, and where they end. Pure.

https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import re

WORD = r"(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)"
PLAIN, ESCAPED = r"'(?:[^']|'')*'", r"'(?:[^'\\]|\\.|'')*'"
TWICE, TWICE_ESCAPED = r'"(?:[^"]|"")*"', r'"(?:[^"\\]|\\.|"")*"'
BACKTICKS = r"`(?:[^`]|``)*`"
DOLLAR = r"(?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)"


def pattern(*kinds: str) -> re.Pattern[str]:
    """Matches a token of the first of these kinds that fits; its group is named after it."""
    return re.compile(" | ".join(kinds), re.VERBOSE | re.DOTALL)


class UnterminatedError(ValueError):
    """A quoted text or a comment does not end."""


def end(sql: str, found: re.Match[str], *, nested: bool) -> int | None:
    """Where a token ends of which the beginning was `found`; None where it does not. Its group is `open` for a quote
    that nothing closes, `dollar` for the beginning of a text in dollars. `nested`: comments may hold others."""
    if found.lastgroup == "open":
        return None
    if found.lastgroup == "dollar":
        close = sql.find(found[0], found.end())
        return None if close < 0 else close + len(found[0])
    if found[0] != "/*":
        return found.end()
    depth = 1
    for mark in re.finditer(r"/\*|\*/", sql[found.end() :]):
        depth += 1 if mark[0] == "/*" and nested else -1 if mark[0] == "*/" else 0
        if depth == 0:
            return found.end() + mark.end()
    return None


def after(sql: str, found: re.Match[str]) -> int:
    """As `end`, of comments that nest. Raises UnterminatedError."""
    if (place := end(sql, found, nested=True)) is not None:
        return place
    what = {"open": "quoted text", "dollar": "dollar-quoted text"}.get(found.lastgroup or "", "comment")
    raise UnterminatedError(f"it has a {what} that does not end")
