"""Whether a question reads PostgreSQL's catalog only, and of it only what two equal schemas answer alike. Pure.

A question is understood word by word: its relations are catalogs that are known here, and so is each column, function
and type that it names. What is not known is in doubt, and so is what differs between databases of one schema: object
numbers, sizes, statistics, the last value of a sequence, owners, the name of the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.plan.catalog_words import (
    BY_ORDER,
    CATALOGS,
    COLUMNS,
    FUNCTIONS,
    HIDDEN,
    KEYWORDS,
    NUMBERS,
    TYPES,
    VIEWS,
)
from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.tokens import Reader, Token, Unread, commands

# Characters of a question that is read.
LONGEST = 20_000
UNREADABLE = "something that cannot be read"
_MARKS = frozenset(",.=<>!~*+-|:[]")
_JOINING = frozenset({"join", "left", "right", "inner", "full", "cross", "outer"})
_REGIONS = {"where": "where", "having": "where", "on": "where", "using": "where", "group": "where", "order": "order"}


def doubt(sql: str) -> str | None:
    """Why the answer may be another one in a database of the same schema; None where it cannot.

    >>> doubt("SELECT 1 FROM information_schema.tables WHERE table_name = 'users' LIMIT 1")
    >>> doubt("SELECT 1 FROM users")
    'it reads users'
    >>> doubt("SELECT oid FROM pg_class WHERE relname = 'users'")
    'it asks for oid'
    """
    if len(sql) > LONGEST:
        return "it asks a very long question"
    try:
        found = list(commands(sql, "postgresql"))
        if len(found) != 1:
            raise Unread("more than one statement")
        _Question(found[0]).read()
    except UnterminatedError as exc:
        return str(exc)
    except _ReadsError as exc:
        return f"it reads {exc}"
    except IndexError:
        return "its question is unfinished"
    except Unread as exc:
        stranger = strangers(sql)  # that tells more than which column of it
        return (
            f"it asks for {exc}"
            if stranger in (None, UNREADABLE) or str(stranger).startswith("pg_")
            else f"it reads {stranger}"
        )
    return None


class _ReadsError(Exception):
    """It reads a relation that is no catalog, or one that is not known here."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a question a word stands. `shown`: the answer may tell it."""

    region: str
    shown: bool

    @property
    def is_shown(self) -> bool:
        return self.shown and self.region in ("list", "order")


@dataclass(slots=True)
class _Question:
    """Goes over one question, from its first word to its last."""

    tokens: list[Token]
    it: Reader = field(init=False)
    aliases: set[str] = field(default_factory=set)
    qualifiers: set[str] = field(default_factory=set)
    shows_columns: bool = False
    numbers: str | None = None
    compares: bool = False

    def __post_init__(self) -> None:
        self.it = Reader(self.tokens)

    def read(self) -> None:
        if not self.it.takes("select"):
            raise Unread(f"{self.tokens[0].text or 'something'} …")
        self._query(shown=True, outermost=True)
        if not self.it.is_done:
            raise Unread("a parenthesis too many")
        if unknown := self.qualifiers - self.aliases:
            raise Unread(min(unknown))
        if self.compares and self.numbers is not None:
            raise Unread(f"{self.numbers}, which has gaps where a column was dropped")
        if "pg_attribute" in self.aliases and not _leaves_out_dropped(self.tokens):
            raise Unread("columns that were dropped")

    def _query(self, *, shown: bool, outermost: bool = False, exists: bool = False) -> None:
        """What follows SELECT, up to the end or the parenthesis that closes it."""
        if exists:
            self.it.takes("*")
        region = "list"
        while not self.it.is_done and not self._is_next(")"):
            if self.it.takes_one("union", "except", "intersect"):
                self.it.takes("all")
                if not self.it.takes("select"):
                    raise Unread("a set that is no SELECT")
                region = "list"
            elif self.it.takes("from") or (region in ("from", "where") and self._takes_join(region)):
                region = "from"
                self._relation()
            elif (word := self._opens(region)) is not None:
                region = word
            elif self.it.takes("limit"):
                self._limit(outermost)
            else:
                self._one(_Place(region, shown))

    def _opens(self, region: str) -> str | None:
        """The region that the next word begins."""
        word = self.it.takes_one(*_REGIONS)
        if word in ("order", "group") and not self.it.takes("by"):
            raise Unread(word)
        if word in ("on", "using") and region != "from":  # DISTINCT ON: which of the rows, is chance
            raise Unread(word)
        return _REGIONS[word] if word is not None else None

    def _takes_join(self, region: str) -> bool:
        if region == "from" and self.it.takes(","):
            return True
        if not any(self._is_next(word) for word in _JOINING):
            return False
        while not self.it.takes("join"):
            if not self.it.takes_one(*_JOINING):
                raise Unread("a join of another kind")
        return True

    def _relation(self) -> None:
        if self.it.takes("(", "select"):
            self._query(shown=False)
            self._closes()
        else:
            table = self.it.table()
            name = str(table)
            if self._is_next("("):
                raise Unread(f"{name}()")
            if not _is_known(table.schema, table.name):
                raise _ReadsError(name)
            self.aliases.add(table.name)
        named = self.it.takes("as")
        if not self.it.is_done and self._ahead().kind != "mark" and (named or self._ahead().text not in KEYWORDS):
            self.aliases.add(self.it.name())

    def _limit(self, outermost: bool) -> None:
        """Which rows come first is chance: a limit is for questions whether there is anything."""
        if not outermost or self.shows_columns:
            raise Unread("some of the rows")
        if self._ahead().kind != "literal":
            raise Unread("a limit that is no number")
        self.it.place += 1

    def _one(self, place: _Place) -> None:
        """A word, a literal, a mark, or a group in parentheses."""
        token = self._ahead()
        if self.it.takes("("):
            self._group(place)
        elif token.kind == "mark":
            self._mark(token)
        elif token.kind == "literal":
            is_number = token.text not in ("", "0") and not self._is_subscript()
            self.compares = self.compares or (is_number and place.region == "where")
            self.it.place += 1
        else:
            self._word(place)

    def _group(self, place: _Place, *, exists: bool = False) -> None:
        if self.it.takes("select"):
            self._query(shown=place.is_shown and not exists, exists=exists)
        else:
            while not self._is_next(")"):
                if self.it.takes("order", "by"):
                    place = _Place("order", place.shown)
                self._one(place)
        self._closes()

    def _mark(self, token: Token) -> None:
        if token.text not in _MARKS or token.text in "*.":
            raise Unread(f"`{token.text}`")
        self.it.place += 1
        if token.text == ":" and self.it.takes(":"):
            self.it.takes("pg_catalog", ".")
            self._known(TYPES, "a cast to ")
            if self.it.takes("[") and not self.it.takes("]"):
                raise Unread("a cast")

    def _known(self, words: frozenset[str], what: str = "") -> str:
        name = self.it.name()
        if name not in words:
            raise Unread(f"{what}{name}")
        return name

    def _word(self, place: _Place) -> None:
        token = self._ahead()
        if token.kind == "word" and token.text in KEYWORDS:
            self._keyword(token.text, place)
            return
        name = self.it.name()
        if self.it.takes("."):
            if name == "pg_catalog":
                self._call(self._known(FUNCTIONS), place)
                return
            self.qualifiers.add(name)
            self._column(self.it.name(), place)
        elif self._is_next("("):
            if name not in FUNCTIONS:
                raise Unread(f"{name}()")
            self._call(name, place)
        elif place.region == "order" and name in self.aliases:
            return
        else:
            self._column(name, place)

    def _keyword(self, word: str, place: _Place) -> None:
        self.it.place += 1
        if word == "exists":
            if not self.it.takes("("):
                raise Unread("exists")
            self._group(place, exists=True)
        elif word == "as":
            self.aliases.add(self.it.name())

    def _call(self, name: str, place: _Place) -> None:
        if name == "count" and self.it.takes("(", "*", ")"):
            return
        if not self.it.takes("("):
            raise Unread(name)
        if name == "count":
            self.it.takes("distinct")
        self._group(place)

    def _column(self, name: str, place: _Place) -> None:
        hidden = name in HIDDEN or (name in BY_ORDER and place.region != "order")
        if name not in COLUMNS | HIDDEN | BY_ORDER or (hidden and place.is_shown):
            raise Unread(name)
        self.shows_columns = self.shows_columns or (place.shown and place.region == "list")
        if name in NUMBERS and place.region != "order":
            self.numbers = name
            self.compares = self.compares or self._is_next(":")

    def _is_subscript(self) -> bool:
        """Whether what comes next counts the values of an array."""
        before = self.tokens[max(0, self.it.place - 2) : self.it.place]
        return before[1:] == [Token("mark", "[")] and before[0] != Token("word", "array")

    def _closes(self) -> None:
        if not self.it.takes(")"):
            raise Unread("an open parenthesis")

    def _ahead(self) -> Token:
        return self.tokens[self.it.place]

    def _is_next(self, text: str) -> bool:
        if self.it.is_done:
            return False
        token = self._ahead()
        return token.text == text and token.kind in ("word", "mark")


def _leaves_out_dropped(tokens: list[Token]) -> bool:
    """Whether a question after columns says that it means those that are there: one that was dropped has its row."""
    texts = [token.text for token in tokens]
    places = [place for place, text in enumerate(texts) if text == "attisdropped"]
    return bool(places) and all(
        texts[place - 1] == "not"
        or (texts[place - 1] == "." and texts[place - 3] == "not")
        or (texts[place + 1 : place + 3] in (["=", "false"], ["is", "false"]))
        for place in places
    )


def _is_known(schema: str | None, name: str) -> bool:
    if schema == "information_schema":
        return name in VIEWS
    return schema in (None, "pg_catalog") and name in CATALOGS


def strangers(sql: str) -> str | None:
    """The first relation that SQLAlchemy's reflection reads outside of the catalog; None: it reads nothing else. What
    it asks of the catalog is the reflection's own business.

    >>> strangers("SELECT c.relname FROM pg_catalog.pg_class c JOIN (SELECT 1) AS x ON c.a IS DISTINCT FROM x.b")
    >>> strangers("SELECT a FROM pg_catalog.pg_class, users")
    'users'
    """
    try:
        found = list(commands(sql, "postgresql"))
        return next((name for tokens in found if (name := _stranger(tokens)) is not None), None)
    except (UnterminatedError, Unread):
        return UNREADABLE


def _stranger(tokens: list[Token]) -> str | None:
    """Each parenthesis has a clause of its own: whether it is at the relations of a SELECT."""
    clauses = [""]
    for place, token in enumerate(tokens):
        before = tokens[place - 1].text if place else ""
        if token.kind == "mark" and token.text in "()":
            clauses = [*clauses, ""] if token.text == "(" else clauses[:-1]
        elif token.kind == "word" and (clause := _clause(token.text, before, clauses[-1])) is not None:
            clauses[-1] = clause
        names = token.text in ("from", "join") or token == Token("mark", ",")
        if names and clauses[-1] == "from" and before != "distinct" and (found := _named(tokens, place + 1)):
            return found
    return None


def _clause(word: str, before: str, clause: str) -> str | None:
    """The clause that the word begins: FROM may also belong to a function, or to a comparison."""
    if word == "join" or (word == "from" and clause == "select" and before != "distinct"):
        return "from"
    return word if word in ("select", "where", "group", "order", "on") else None


def _named(tokens: list[Token], place: int) -> str | None:
    """The relation that stands there, unless it is a catalog's, or none."""
    reader = Reader(tokens)
    reader.place = place
    reader.takes("lateral")
    if reader.takes("("):
        return None
    table = reader.table()
    return None if table.schema in ("pg_catalog", "information_schema") else str(table)
