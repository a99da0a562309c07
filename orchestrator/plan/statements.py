"""Look at SQL text without running it, as far as replay needs to know. Pure.

Statements are never split for execution: what a revision sends as one text is sent as one text. They are looked at
command by command only to find what may not run inside a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.plan.lingering import lets_go
from orchestrator.plan.quoting import DOLLAR, ESCAPED, PLAIN, TWICE, WORD, UnterminatedError, after

_TOKEN = re.compile(
    rf"""
    (?P<comment>--[^\n\r]*|/\*)
    | (?P<quoted>[eE]{ESCAPED}|{PLAIN}|{TWICE})
    | {DOLLAR}
    | {WORD}
    | (?P<end>;)
    | (?P<open>['"])
    """,
    re.VERBOSE | re.DOTALL,
)
# `end` is COMMIT under another name; `prepare` may be PREPARE TRANSACTION. COPY may wait for rows from the client.
_OWN_TRANSACTION = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "copy"}
)
_SESSION = frozenset({"reset", "discard", "listen", "unlisten", "declare", "load", "deallocate"})
_SESSION_WORDS = frozenset({"temp", "temporary"})
_SESSION_FUNCTIONS = ("set_config", "pg_advisory_", "pg_try_advisory_")
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


def objection(sql: str) -> str | None:
    """Why the text cannot be part of a script; None when it can.

    >>> objection("UPDATE t SET a = 1; COMMIT")
    'it has a COMMIT of its own'
    >>> objection("CREATE TABLE t (a text DEFAULT 'x;')")
    """
    try:
        found = list(commands(sql))
    except UnterminatedError as exc:
        return str(exc)
    if not found:
        return "it sends a statement without a word"
    if (what := lets_go(sql)) is not None:
        return f"it leaves something in its session, or lets go of its locks: {what}"
    for words in found:
        if words[0] in _OWN_TRANSACTION:
            return f"it has a {words[0].upper()} of its own"
        if _outlives(words):
            return f"it leaves something in its session: {' '.join(words[:3]).upper()}"
    return None


def _outlives(words: list[str]) -> bool:
    """Whether the command changes its session beyond the transaction. What env.py's sessions then have, the replaying
    one has not, and the other way round; and the target's lock is its session's too.

    >>> [_outlives(sql.split()) for sql in ("set local lock_timeout", "set role", "create unlogged table")]
    [False, True, False]
    """
    first, second, *_ = [*words, ""]
    if first == "set":
        if "standard_conforming_strings" in words:
            return True  # the script was read whole before that
        return second not in ("local", "constraints", "transaction")
    if first in ("create", "select") and not _SESSION_WORDS.isdisjoint(words):
        return first == "select" or "table" in words or "view" in words or "sequence" in words
    return first in _SESSION or any(word.startswith(_SESSION_FUNCTIONS) for word in words)


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
