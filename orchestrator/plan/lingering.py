"""What a text of SQL may leave in its session, or ask of it, also from within function bodies. Pure.

Where env.py runs some revisions and others are replayed, they have two sessions. A word too many is taken for one here:
it costs no more than env.py's time.
"""

from __future__ import annotations

import re

# The target's lock is the session's, and goes with these, whoever's they are meant to be.
_LETS_GO = re.compile(r"pg_(?:try_)?advisory_(?:un)?lock\w*|\bdiscard\s+(?:all|temp|temporary|plans|sequences)\b", re.I)
# Words by which it may be told, and then what stands behind them, or before. Only what is near is looked at: a text may
# be very long.
_WORDS = re.compile(
    r"""\b(?: currval | lastval | setseed | set_config | dblink_connect\w* | pg_temp\w* | pg_my_temp_schema
        | pg_(?:try_)?advisory_(?:un)?lock\w* | last_insert_(?:row)?id
        | (?:found_rows | row_count | (?:total_)?changes) (?=\s*\(\s*\))
        | (?P<behind> temp(?:orary)? | into | alter | prepare | deallocate | discard | reset | with )
        | (?P<first> set | execute ) )\b""",
    re.I | re.X,
)
_BEHIND = re.compile(
    r"""temp(?:orary)? \s+ (?:table|view|sequence|recursive) \b | into \s+ temp(?:orary)? \b
    | alter \s+ (?:database|role|user|system) \b | (?:prepare|deallocate|discard|reset) \s+ \w+ | with \s+ hold \b
    | execute \s+ [a-z_]\w* \s* (?: \( [^|]* \)? )? \s* (?: ; | $ )
    | set \s+ (?: session \s+ )? (?: (?!local\b | message_text\b) [\w.@]+ \s* (?: = | \bto\b )
        | (?: role | authorization | time \s+ zone | names | schema | characteristics ) \b )""",
    re.I | re.X,
)
# Behind these a command begins, in a body or in a text that is executed.
_BEGINS = re.compile(r"""(?: ^ | ; | ['"(] | \$\w*\$ | \b(?:begin|then|else|loop|atomic) ) \s* $""", re.I | re.X)
_COMMENTS = re.compile(r"--[^\n]*(?:\n|$)|/\*.*?\*/", re.DOTALL)
_NEAR = 200
_NAME = r'(?:"(?:[^"]|"")*"|[^\W\d]\w*)'
_CREATES_TYPE = re.compile(rf"\s*CREATE\s+TYPE\s+(?:{_NAME}\s*\.\s*)?(?P<name>{_NAME})", re.I)


def lets_go(sql: str) -> str | None:
    """What lets go of locks that a session holds, or takes some that it keeps.

    >>> lets_go("DO $$ BEGIN PERFORM pg_advisory_unlock_all(); END $$"), lets_go("SELECT pg_advisory_xact_lock(1)")
    ('pg_advisory_unlock_all', None)
    """
    found = _LETS_GO.search(sql)
    return found[0] if found else None


def lingers(sql: str) -> str | None:
    """What outlives its transaction in the session, or is asked of the session.

    >>> lingers("DO $$ BEGIN SET timezone = 'Asia/Tokyo'; END $$"), lingers("INSERT INTO t VALUES (CURRVAL('s'))")
    ('SET timezone =', 'CURRVAL')
    >>> lingers("SET @a = 1"), lingers("INSERT INTO t VALUES (last_insert_id())"), lingers("INSERT INTO changes (a)")
    ('SET @a =', 'last_insert_id', None)
    >>> lingers("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'immutable'")
    >>> lingers("UPDATE t SET role = 1"), lingers("DO $$ BEGIN SET LOCAL role a; UPDATE t SET a = 1; END $$")
    (None, None)
    """
    for found in _WORDS.finditer(sql):
        if not found["behind"] and not found["first"]:
            return found[0]
        place = found.start()
        behind = _BEHIND.match(_COMMENTS.sub(" ", sql[place : place + _NEAR]))
        if behind and (found["behind"] or _begins(sql, place)):
            return " ".join(behind[0].split()).strip(" ;")[:40]
    return None


def type_made(sql: str) -> str | None:
    """The name of the type that a statement makes, in small letters. SQLAlchemy makes a type once in a run of env.py,
    whichever revisions name it; in another run it makes it again.

    >>> type_made('CREATE TYPE app."Mood" AS ENUM ()'), type_made("CREATE TABLE t (a mood)")
    ('mood', None)
    """
    found = _CREATES_TYPE.match(sql)
    return found["name"].strip('"').replace('""', '"').lower() if found else None


def _begins(sql: str, place: int) -> bool:
    start = max(0, place - _NEAR)
    before = sql[start:place]
    cut = " ..." if start else ""  # what is before need not be the text's beginning
    return any(_BEGINS.search(cut + text) is not None for text in (before, _COMMENTS.sub(" ", before)))
