"""How SQL's words and quotes are spelled, as regular expressions for readers of SQL. Pure."""

from __future__ import annotations

WORD = r"(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)"
PLAIN, ESCAPED = r"'(?:[^']|'')*'", r"'(?:[^'\\]|\\.|'')*'"
TWICE, TWICE_ESCAPED = r'"(?:[^"]|"")*"', r'"(?:[^"\\]|\\.|"")*"'
BACKTICKS = r"`(?:[^`]|``)*`"
DOLLAR = r"(?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)"
