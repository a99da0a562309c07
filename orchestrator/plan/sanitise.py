"""SQL as it may be shown to others: without literals, without comments, and not too long. Pure.

What cannot be told for certain to be no literal is taken for one. Where a literal might end at two places, nothing of
what follows is shown: a server may read backslashes in another way than we do (`standard_conforming_strings`,
`NO_BACKSLASH_ESCAPES`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from orchestrator.plan.quoting import BACKTICKS, DOLLAR, ESCAPED, PLAIN, TWICE, TWICE_ESCAPED, WORD, end, pattern

# Characters of a statement that are looked at, and those that are shown at most.
LOOKED_AT = 20_000
LONGEST = 2_000
CUT = " ..."

# A parameter is shown as it is: what it stands for is sent apart.
_REST = r"(?P<parameter>\$\d+|%\(\w+\)s|%s) | (?P<number>\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?) | (?P<space>\s+)"
_POSTGRESQL = pattern(
    r"(?P<comment>--[^\n\r]*|/\*)",
    rf"(?P<escaped>[eE]{ESCAPED})",
    rf"(?P<literal>{PLAIN})",
    rf"(?P<name>{TWICE})",
    DOLLAR,
    WORD,
    r"(?P<open>['\"])",
    _REST,
)
# Text between double quotes is a literal unless the server's mode says otherwise.
_MYSQL = pattern(
    r"(?P<comment>\#[^\n\r]*|--[^\n\r]*|/\*)",
    rf"(?P<literal>{ESCAPED}|{TWICE_ESCAPED})",
    rf"(?P<name>{BACKTICKS})",
    WORD,
    r"(?P<open>['\"`])",
    _REST,
)
# A name between double quotes is a literal to SQLite where nothing has that name.
_SQLITE = pattern(
    r"(?P<comment>--[^\n\r]*|/\*)",
    rf"(?P<literal>{PLAIN}|{TWICE})",
    rf"(?P<name>{BACKTICKS}|\[[^\]]*\])",
    WORD,
    r"(?P<open>['\"`\[])",
    _REST,
)
_DIALECTS = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL, "sqlite": _SQLITE}
_UNCERTAIN = re.compile(r"\\['\"]")

_ALL_VERBS = (
    "alter analyze begin call cluster comment commit copy create delete describe do drop execute explain grant insert "
    "lock merge pragma refresh reindex rename replace revoke rollback savepoint release select set show truncate "
    "update use vacuum values with"
)
_ALL_OBJECTS = (
    "aggregate collation column constraint database domain event extension function index language policy procedure "
    "publication role rule schema sequence statistics subscription table trigger type user view"
)
_VERBS, _OBJECTS = frozenset(_ALL_VERBS.split()), frozenset(_ALL_OBJECTS.split())
_OF_OBJECTS = frozenset({"alter", "comment", "create", "drop", "refresh", "reindex", "rename", "truncate"})
OTHER = "OTHER"


@lru_cache(maxsize=2_000)
def _shown(sql: str, dialect: str) -> str:
    tokens, out, place = _DIALECTS.get(dialect, _MYSQL), [], 0
    while place < len(sql):
        found = tokens.match(sql, place)
        if found is None:
            out.append(sql[place])
            place += 1
            continue
        after = end(sql, found, nested=dialect == "postgresql")
        literal = found.lastgroup in ("literal", "dollar", "number", "escaped")
        if after is None or (found.lastgroup in ("literal", "open") and _UNCERTAIN.search(found[0])):
            return _joined([*out, "?"]) + CUT
        if found.lastgroup in ("comment", "space"):
            out.append(" ")
        else:
            out.append("?" if literal else found[0])
        place = after
    return _joined(out)


def shown(sql: str, dialect: str) -> str:
    """The statement on one line, with `?` for each literal and number, at most `LONGEST` characters.

    `dialect` is SQLAlchemy's name of a kind of database.

    >>> shown("UPDATE t SET name = 'it''s', n = 0x1F -- for anna", "postgresql")
    'UPDATE t SET name = ?, n = ?'
    >>> shown("INSERT INTO t VALUES (%(a)s, $tag$ body $tag$, E'a\\\\'b')", "postgresql")
    'INSERT INTO t VALUES (%(a)s, ?, ?)'
    >>> shown('UPDATE `t` SET a = "secret"', "mysql")
    'UPDATE `t` SET a = ?'
    >>> shown("SELECT 'C:\\\\', 'secret'", "postgresql")
    'SELECT ? ...'
    """
    cut = len(sql) > LOOKED_AT
    text = _shown(sql[:LOOKED_AT], dialect)
    if len(text) > LONGEST:
        return text[: LONGEST - len(CUT)] + CUT
    return text + CUT if cut and not text.endswith(CUT) else text


def operation(sql: str) -> str:
    """What a statement does, in one or two words of a bounded set; given as it is `shown`.

    >>> [operation(sql) for sql in ("create unique index i on t (a)", "WITH a AS (SELECT ?) SELECT ?", "?")]
    ['CREATE INDEX', 'WITH', 'OTHER']
    """
    words = re.findall(r"[a-z_]+", sql[:200].lower())
    if not words or words[0] not in _VERBS:
        return OTHER
    thing = next((word for word in words[1:6] if word in _OBJECTS), None) if words[0] in _OF_OBJECTS else None
    return f"{words[0]} {thing}".upper() if thing else words[0].upper()


@lru_cache(maxsize=50)  # it keeps what it was given, at full length
def together(statements: tuple[str, ...], dialect: str) -> tuple[str, str]:
    """The operation and the text of statements that are sent in one go.

    >>> together(("DROP TABLE a", "DROP TABLE b;"), "postgresql")
    ('BATCH DROP TABLE', 'DROP TABLE a; DROP TABLE b')
    """
    texts = []
    for sql in statements:
        texts.append(shown(sql, dialect).rstrip("; "))
        if sum(map(len, texts)) > LONGEST:
            break
    text = "; ".join(texts)
    operations = {operation(one) for one in texts}
    name = f"BATCH {operations.pop()}" if len(operations) == 1 else "BATCH"
    return name, text if len(text) <= LONGEST else text[: LONGEST - len(CUT)] + CUT


def _joined(parts: list[str]) -> str:
    return " ".join("".join(parts).split())
