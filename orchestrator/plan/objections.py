"""Why a statement is left to env.py rather than replayed. Pure.

PostgreSQL is sent scripts, where what may not stand in one is found command by command. MySQL and SQLite are sent
statements one by one, so what they are is known by their first words; what cannot be told for certain is left to
env.py.
"""

from __future__ import annotations

import re
from itertools import pairwise

from orchestrator.plan import statements
from orchestrator.plan.lingering import lets_go
from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.tokens import Token, commands

# `end` is COMMIT under another name; `prepare` may be PREPARE TRANSACTION.
_POSTGRESQL_OWN = frozenset({"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"})
_POSTGRESQL_SESSION = frozenset({"reset", "discard", "listen", "unlisten", "declare", "load", "deallocate"})
_SESSION_FUNCTIONS = ("set_config", "pg_advisory_", "pg_try_advisory_")
_SQLITE_OWN = frozenset({"begin", "commit", "end", "rollback", "savepoint", "release"})
_SQLITE_SESSION = frozenset({"pragma", "attach", "detach"})
_MYSQL_OWN = frozenset({"begin", "start", "commit", "rollback", "savepoint", "release", "xa"})
# They change the session, or tell nobody what they do: a procedure may set what it likes.
_MYSQL_SESSION = frozenset(
    {"set", "use", "lock", "unlock", "prepare", "execute", "deallocate", "handler", "call", "do", "flush", "reset"}
)
_MYSQL_CLIENT = frozenset({"load", "delimiter", "source"})
_SESSION_LOCKS = frozenset({"get_lock", "release_lock", "release_all_locks"})
_TEMPORARY = frozenset({"temp", "temporary"})
_SESSION, _CLIENT = "it changes its session: ", "its client has a part in it: "
# Their bodies hold semicolons.
_ROUTINES = frozenset({"procedure", "function", "trigger", "event", "package"})
# Code to some servers and a comment to others; and what is a comment only where a blank follows.
_DOUBTFUL = re.compile(r"/\*M?!|--(?![\s\x00-\x1f]|$)")


def objection(sql: str, dialect: str) -> str | None:
    """Why the text is not replayed; None when it is.

    >>> objection("PRAGMA foreign_keys = OFF", "sqlite"), objection("SET @a = 1", "mysql")
    ('it changes its session: PRAGMA', 'it changes its session: SET')
    >>> objection("UPDATE t SET a = 1; COMMIT", "postgresql")
    'it has a COMMIT of its own'
    >>> objection("UPDATE t SET a = 'commit;'", "mysql")
    """
    if dialect == "postgresql":
        return _of_postgresql(sql)
    try:
        found = list(commands(sql, dialect))
    except UnterminatedError as exc:
        return str(exc)
    if not found:
        return "it sends a statement without a word"
    of = _of_sqlite if dialect == "sqlite" else _of_mysql
    return of(sql, found)


def leaves_session(reason: str) -> bool:
    """Whether, by the reason, env.py's session is another one afterwards than it was.

    >>> leaves_session("it changes its session: SET"), leaves_session("it has a COMMIT of its own")
    (True, False)
    """
    return reason.startswith(_SESSION)


def _of_postgresql(sql: str) -> str | None:
    try:
        found = list(statements.commands(sql))
    except UnterminatedError as exc:
        return str(exc)
    if not found:
        return "it sends a statement without a word"
    if (what := lets_go(sql)) is not None:
        return f"it leaves something in its session, or lets go of its locks: {what}"
    for words in found:
        if words[0] in _POSTGRESQL_OWN:
            return f"it has a {words[0].upper()} of its own"
        if words[0] == "copy":  # it may wait for rows from the client
            return f"{_CLIENT}COPY"
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
    if first in ("create", "select") and not _TEMPORARY.isdisjoint(words):
        return first == "select" or "table" in words or "view" in words or "sequence" in words
    return first in _POSTGRESQL_SESSION or any(word.startswith(_SESSION_FUNCTIONS) for word in words)


def _of_sqlite(sql: str, found: list[list[Token]]) -> str | None:
    first = _words(found[0])
    if len(found) > 1 and "trigger" not in first[:3]:
        return "it sends several statements at once"
    if first[0] in _SQLITE_OWN:
        return f"it has a {first[0].upper()} of its own"
    if first[0] in _SQLITE_SESSION or (first[0] == "create" and _is_temporary(found[0])):
        return f"{_SESSION}{first[0].upper()}"
    if first[0] == "vacuum":  # https://sqlite.org/lang_vacuum.html
        return f"it cannot run in a transaction: {first[0].upper()}"
    return None


def _is_temporary(tokens: list[Token]) -> bool:
    """`CREATE TEMP …`, or something of the schema that is called so."""
    if not _TEMPORARY.isdisjoint(_words(tokens[1:2])):
        return True
    return any(one.text.lower() == "temp" and after == Token("mark", ".") for one, after in pairwise(tokens))


def _of_mysql(sql: str, found: list[list[Token]]) -> str | None:
    first = _words(found[0])
    if _DOUBTFUL.search(sql):
        return "it has a comment that servers read in different ways"
    if len(found) > 1 and not _is_routine(found):
        return "it sends several statements at once"
    if first[0] in _MYSQL_OWN:
        return f"it has a {first[0].upper()} of its own"
    if first[0] in _MYSQL_SESSION or (first[0] in ("create", "drop") and "temporary" in first[1:4]):
        return f"{_SESSION}{first[0].upper()}"
    if first[0] in _MYSQL_CLIENT:
        return f"{_CLIENT}{first[0].upper()}"
    if any(_has_variable(tokens) for tokens in found):
        return f"{_SESSION}a variable"
    if not _SESSION_LOCKS.isdisjoint(first):
        return f"{_SESSION}a lock"
    return None


def _words(tokens: list[Token]) -> list[str]:
    """Never empty."""
    return [token.text for token in tokens if token.kind == "word"] or [""]


def _is_routine(found: list[list[Token]]) -> bool:
    """Whether it makes one thing with a body of statements; the last of them ends it."""
    first, last = _words(found[0]), _words(found[-1])
    if first[0] != "create" or _ROUTINES.isdisjoint(first[:6]) or last[0] != "end":
        return False
    return not any(_words(tokens)[0] == "create" and not _ROUTINES.isdisjoint(_words(tokens)) for tokens in found[1:])


def _has_variable(tokens: list[Token]) -> bool:
    """Whether it has a variable of the session; `user`@`host` of a DEFINER is none, nor is one of the server (`@@`)."""
    marks = [number for number, token in enumerate(tokens) if token == Token("mark", "@")]
    for number in marks:
        before = [token.text for token in tokens[max(0, number - 3) : number]]
        doubled = number + 1 in marks or number - 1 in marks
        if not doubled and before[:2] != ["definer", "="]:
            return True
    return False
