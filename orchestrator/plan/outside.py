"""What statements leave behind that no rollback takes back. Pure.

A process that dies says nothing of what it had done. Where a statement may be sent twice and comes to the same, its
revision is simply run again; where it may not, that it is about to be sent is written down first.
"""

from __future__ import annotations

import re

from orchestrator.plan.statements import UnterminatedError, builds_concurrently, commands

# They leave nothing behind, or only in their session.
_NOTHING = frozenset(
    {"set", "show", "reset", "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "discard"}
    | {"listen", "unlisten", "deallocate", "fetch", "move", "close", "declare", "lock"}
)
_FIRST = re.compile(r"\s*([a-z]+)", re.IGNORECASE)
_ENDS = re.compile(r"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:commit|end|prepare)\b", re.IGNORECASE | re.DOTALL)
_READS = frozenset({"select", "values", "table", "explain"})
# A second time, they come to the same.
_REPEATABLE = frozenset({"vacuum", "analyze", "analyse", "checkpoint", "cluster", "reindex", "comment"})


def may_leave(sql: str) -> bool:
    """Whether a statement, sent outside of transactions, leaves something that a second time would add to or fail at.

    A SELECT that calls a function may do anything. An index that is built concurrently is looked for before it is built
    again, so it is no such thing.

    >>> [may_leave(sql) for sql in ("SET a = 1", "SELECT a FROM t", "CREATE INDEX CONCURRENTLY i ON t (a)", "VACUUM t")]
    [False, False, False, False]
    >>> [may_leave(sql) for sql in ("INSERT INTO t VALUES (1)", "SELECT setval('s', 9)", "ALTER TYPE t ADD VALUE 'a'")]
    [True, True, True]
    >>> may_leave("ALTER TYPE t ADD VALUE IF NOT EXISTS 'a'")
    False
    """
    if builds_concurrently(sql) and sql.count(";") <= 1:
        return False
    try:
        return any(_may_leave(words, sql) for words in commands(sql))
    except UnterminatedError:
        return True


def changes(sql: str) -> bool:
    """Whether a statement leaves something when its transaction is committed; one that only reads does not, as far as
    its first word tells.

    >>> [changes(sql) for sql in ("SELECT 1", "SET a = 1; UPDATE t SET a = 1", "COMMIT")]
    [False, True, False]
    """
    first = _FIRST.match(sql)
    if first is not None and first[1].lower() not in _NOTHING | _READS:
        return True  # without reading on: it may be very long
    try:
        return any(words[0] not in _NOTHING | _READS for words in commands(sql))
    except UnterminatedError:
        return True


def commits(sql: str) -> bool:
    """Whether the text ends its transaction so that it stays.

    >>> [commits(sql) for sql in ("COMMIT", "INSERT INTO t VALUES (1); -- x\\n end", "UPDATE t SET a = '; commit'")]
    [True, True, False]
    """
    if not _ENDS.search(sql):
        return False
    try:
        return any(words[0] in ("commit", "end") or words[:2] == ["prepare", "transaction"] for words in commands(sql))
    except UnterminatedError:
        return True


def _may_leave(words: list[str], sql: str) -> bool:
    first = words[0]
    if first in _NOTHING | _REPEATABLE:
        return False
    if first in _READS:
        return "(" in sql or "into" in words or "analyze" in words
    if first == "refresh":
        return words[1:2] != ["materialized"]
    if first == "alter":
        return not (words[1:2] == ["type"] and _follows(words, "add", "value", "if", "not", "exists"))
    if first == "create":
        return not _follows(words, "if", "not", "exists")
    if first == "drop":
        return not _follows(words, "if", "exists")
    return True


def _follows(words: list[str], *wanted: str) -> bool:
    """Whether these words stand in this order, one after the other."""
    places = range(len(words) - len(wanted) + 1)
    return any(tuple(words[place : place + len(wanted)]) == wanted for place in places)
