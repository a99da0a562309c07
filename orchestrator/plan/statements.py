"""Look at SQL text without running it, as far as replay on PostgreSQL needs to know. Pure.

Statements are never split for execution: what a revision sends as one text is sent as one text. They are looked at
command by command only to find what may not run inside a script.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan.quoting import DOLLAR, ESCAPED, PLAIN, TWICE, WORD, UnterminatedError, after, pattern

_TOKEN = pattern(
    r"(?P<comment>--[^\n\r]*|/\*)",
    rf"(?P<quoted>[eE]{ESCAPED}|{PLAIN}|{TWICE})",
    DOLLAR,
    WORD,
    r"(?P<end>;)",
    r"(?P<open>['\"])",
)
_BUILDING = frozenset({"create", "drop", "reindex"})


def commands(sql: str) -> Iterator[list[str]]:
    """The words outside of quotes and comments of each command in the text, in lower case; blank commands left out.

    Raises UnterminatedError.

    >>> list(commands("SELECT 'a; b' -- ;\\n; DO $$ COMMIT; $$"))
    [['select'], ['do']]
    """
    words: list[str] = []
    place = 0
    while found := _TOKEN.search(sql, place):
        place = after(sql, found)
        if found["end"]:
            if words:
                yield words
            words = []
        elif found["word"]:
            words.append(found["word"].lower())
    if words:
        yield words


def builds_concurrently(sql: str) -> bool:
    """Whether it makes or takes away an index beside everybody else's work.

    Such a statement waits for all transactions of the database, other tenants' too, and keeps nobody waiting meanwhile;
    one that fails leaves an invalid index.

    >>> builds_concurrently('CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)')
    True
    >>> builds_concurrently("INSERT INTO notes VALUES ('create index concurrently')")
    False
    """
    if "concurrently" not in sql.lower():
        return False
    try:
        return any(words[0] in _BUILDING and "concurrently" in words for words in commands(sql))
    except UnterminatedError:
        return False


def builds_index(sql: str) -> bool:
    """Whether it builds an index, which takes as long as the table is large.

    >>> [builds_index(sql) for sql in ("create unique index i on t (a)", "REINDEX TABLE t", "DROP INDEX i")]
    [True, True, False]
    """
    if "index" not in sql.lower():
        return False
    try:
        return any(words[0] == "reindex" or _creates_index(words) for words in commands(sql))
    except UnterminatedError:
        return False


def _creates_index(words: list[str]) -> bool:
    return words[0] == "create" and "index" in words[1:3]


def terminated(sql: str) -> str:
    """The text with the semicolon that ends it, whatever comment it ends with.

    >>> terminated("SELECT 1 ;")
    'SELECT 1;'
    >>> terminated("SELECT 1 -- one")
    'SELECT 1 -- one\\n;'
    """
    text = sql.strip()
    last = text.rsplit("\n", 1)[-1]
    if "--" in last:
        return f"{text}\n;"
    return f"{text.rstrip('; ')};"
