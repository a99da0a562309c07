"""What statements leave behind that no rollback takes back. Pure.

A process that dies says nothing of what it had done. Where a statement may be sent twice and comes to the same, its
revision is simply run again; where it may not, that it is about to be sent is written down first.
"""

from __future__ import annotations

import re

from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.statements import builds_concurrently, commands

# They leave nothing behind, or only in their session.
_NOTHING = frozenset(
    {"set", "show", "reset", "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "discard"}
    | {"listen", "unlisten", "deallocate", "fetch", "move", "close", "declare", "lock"}
)
_FIRST = re.compile(r"\s*([a-z]+)", re.IGNORECASE)
_ENDS = re.compile(r"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:commit|end|prepare)\b", re.IGNORECASE | re.DOTALL)
_READS = frozenset({"select", "values", "table", "explain"})
# What stands before a parenthesis in a query: a function's name, or a word of SQL.
_CALLED = re.compile(r'([\w$".]+)\s*\(')
_WORDS = (
    "select from where and or not in exists any all some as on using values union except intersect join lateral over "
    "filter array row case when then else having by limit offset distinct with materialized within like varchar char"
)
_FUNCTIONS = (
    "count sum min max avg round coalesce nullif greatest least cast extract lower upper length trim substring replace "
    "concat format to_char date_trunc now version row_number array_agg string_agg json_agg jsonb_agg bool_or bool_and "
    "unnest generate_series generate_subscripts current_schema current_schemas current_database current_setting "
    "to_regclass to_regtype to_regproc format_type obj_description col_description has_table_privilege "
    "has_schema_privilege currval lastval"
)
_ONLY_READ = frozenset(f"{_WORDS} {_FUNCTIONS}".split())
# Of the server's functions that begin with `pg_`, those that begin so leave something.
_CHANGE = ("pg_create", "pg_drop", "pg_copy", "pg_logical", "pg_replication", "pg_import", "pg_restore", "pg_extension")

# A second time, they come to the same.
_REPEATABLE = frozenset({"vacuum", "analyze", "analyse", "checkpoint", "cluster", "reindex", "comment"})


def may_leave(sql: str) -> bool:
    """Whether a statement, sent outside of transactions, leaves something that a second time would add to or fail at.

    A SELECT that calls a function may do anything, unless it is one of the server's that only read. An index that is
    built concurrently is looked for before it is built again, so it is no such thing.

    >>> [may_leave(sql) for sql in ("SET a = 1", "SELECT a FROM t", "CREATE INDEX CONCURRENTLY i ON t (a)", "VACUUM t")]
    [False, False, False, False]
    >>> [may_leave(sql) for sql in ("INSERT INTO t VALUES (1)", "SELECT setval('s', 9)", "ALTER TYPE t ADD VALUE 'a'")]
    [True, True, True]
    >>> may_leave("ALTER TYPE t ADD VALUE IF NOT EXISTS 'a'"), may_leave("SELECT count(*) FROM t WHERE a IN (1)")
    (False, False)
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
        return "into" in words or "analyze" in words or any(map(_may_change, _CALLED.findall(sql)))
    if first == "refresh":
        return words[1:2] != ["materialized"]
    if first == "alter":
        return not (words[1:2] == ["type"] and _follows(words, "add", "value", "if", "not", "exists"))
    if first == "create":
        return not _follows(words, "if", "not", "exists")
    if first == "drop":
        return not _follows(words, "if", "exists")
    return True


def _may_change(function: str) -> bool:
    """Whether a function that a query calls may change anything: ours to say of the server's own only."""
    name = function.replace('"', "").lower().removeprefix("pg_catalog.")
    return name not in _ONLY_READ and (not name.startswith("pg_") or name.startswith(_CHANGE))


def _follows(words: list[str], *wanted: str) -> bool:
    """Whether these words stand in this order, one after the other."""
    places = range(len(words) - len(wanted) + 1)
    return any(tuple(words[place : place + len(wanted)]) == wanted for place in places)
