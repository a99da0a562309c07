"""SQL as tokens, so that what a statement does to which table can be told without running it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from orchestrator.plan.quoting import BACKTICKS, DOLLAR, ESCAPED, PLAIN, TWICE, TWICE_ESCAPED, WORD, after, pattern

Kind = Literal["word", "name", "literal", "mark"]

_REST = r"(?P<number>\.?\d[\w.]*) | (?P<space>\s+) | (?P<end>;) | (?P<mark>.)"
_POSTGRESQL = pattern(
    r"(?P<comment>--[^\n\r]*|/\*)",
    rf"(?P<quoted>[eE]{ESCAPED}|{PLAIN})",
    rf"(?P<name>{TWICE})",
    DOLLAR,
    WORD,
    r"(?P<open>['\"])",
    _REST,
)
_MYSQL = pattern(
    r"(?P<comment>\#[^\n\r]*|--[^\n\r]*|/\*)",
    rf"(?P<quoted>{ESCAPED}|{TWICE_ESCAPED})",
    rf"(?P<name>{BACKTICKS})",
    WORD,
    r"(?P<open>['\"`])",
    _REST,
)
_SQLITE = pattern(
    r"(?P<comment>--[^\n\r]*|/\*)",
    rf"(?P<quoted>{PLAIN})",
    rf"(?P<name>{TWICE}|{BACKTICKS}|\[[^\]]*\])",
    WORD,
    r"(?P<open>['\"`])",
    _REST,
)
_DIALECTS = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}


class Token(NamedTuple):
    """A word in small letters, a quoted name as it is meant, a literal (never its text), or a mark."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a statement names it: `name` and `schema` as the server has them, not quoted."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


def commands(sql: str, dialect: str) -> Iterator[list[Token]]:
    """The tokens of each command in the text, without comments. Raises UnterminatedError.

    >>> [[token.text for token in one] for one in commands('ALTER TABLE "A b" ADD c int DEFAULT 7; -- x', "postgresql")]
    [['alter', 'table', 'A b', 'add', 'c', 'int', 'default', '7']]
    """
    tokens = _DIALECTS.get(dialect, _MYSQL)
    found: list[Token] = []
    place = 0
    while match := tokens.match(sql, place):
        place = after(sql, match)
        if match["end"]:
            if found:
                yield found
            found = []
        elif token := _token(match):
            found.append(token)
    if found:
        yield found


def _token(match: re.Match[str]) -> Token | None:
    if match["word"]:
        return Token("word", match["word"].lower())
    if match["name"]:
        quote = match["name"][0]
        return Token("name", match["name"][1:-1].replace(quote * 2, quote))
    if match.lastgroup in ("quoted", "dollar", "number"):
        return Token("literal", match["number"] or "")
    return Token("mark", match["mark"]) if match["mark"] else None


class Unread(ValueError):
    """It is no statement that we know."""


class Reader:
    """Goes over the tokens of one command."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0

    @property
    def is_done(self) -> bool:
        return self.place >= len(self.tokens)

    def takes(self, *words: str) -> bool:
        """Whether these words, or marks, come next; then they are passed over."""
        ahead = self.tokens[self.place : self.place + len(words)]
        if [token.text if token.kind in ("word", "mark") else None for token in ahead] != list(words):
            return False
        self.place += len(words)
        return True

    def takes_one(self, *words: str) -> str | None:
        """The one of these words that comes next."""
        return next((word for word in words if self.takes(word)), None)

    def name(self) -> str:
        """Raises Unread where none comes."""
        if self.is_done or self.tokens[self.place].kind not in ("word", "name"):
            raise Unread("a name is missing")
        self.place += 1
        return self.tokens[self.place - 1].text

    def table(self) -> Table:
        """Raises Unread, also for a name of three parts."""
        first = self.name()
        if not self.takes("."):
            return Table(first)
        second = self.name()
        if self.takes("."):
            raise Unread("a name of three parts")
        return Table(second, first)

    def tables(self) -> list[Table]:
        """Names with commas between; ONLY and * do not count."""
        found = []
        while True:
            self.takes("only")
            found.append(self.table())
            self.takes("*")
            if not self.takes(","):
                return found

    def rest(self) -> list[Token]:
        """What is left, which is passed over."""
        left = self.tokens[self.place :]
        self.place = len(self.tokens)
        return left

    def parts(self) -> Iterator[Reader]:
        """What is left, cut at the commas that are in no parentheses."""
        depth, part = 0, list[Token]()
        for token in self.rest():
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0) if token.kind == "mark" else 0
            if depth == 0 and token == Token("mark", ","):
                yield Reader(part)
                part = []
            else:
                part.append(token)
        yield Reader(part)


def has(tokens: list[Token], *words: str) -> bool:
    """Whether these words stand there one after the other, outside of parentheses."""
    return _find(outer(tokens), words) >= 0


def after_words(tokens: list[Token], *words: str) -> list[Token] | None:
    """What follows these words, of which the first few that stand outside of parentheses count; None without them."""
    place = _find(tokens, words)
    return None if place < 0 else tokens[place + len(words) :]


def outer(tokens: list[Token]) -> list[Token]:
    """Those in no parentheses."""
    depth, found = 0, []
    for token in tokens:
        if token == Token("mark", ")"):
            depth -= 1
        if depth == 0:
            found.append(token)
        if token == Token("mark", "("):
            depth += 1
    return found


def _find(tokens: list[Token], words: tuple[str, ...]) -> int:
    texts = [token.text if token.kind == "word" else None for token in tokens]
    places = range(len(texts) - len(words) + 1)
    return next((place for place in places if tuple(texts[place : place + len(words)]) == words), -1)
