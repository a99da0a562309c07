"""What a text of SQL may leave in its session, or ask of it, also from within function bodies. Pure.

Where env.py runs some revisions and others are replayed, they have two sessions. A word too many is taken for one here:
it costs no more than env.py's time.
"""

from __future__ import annotations

import re

# The target's lock is the session's, and goes with these, whoever's they are meant to be.
_LETS_GO = re.compile(r"pg_(?:try_)?advisory_(?:un)?lock\w*|\bdiscard\s+(?:all|temp|temporary|plans|sequences)\b", re.I)
_LINGERS = re.compile(
    r"""\b(?:
        currval | lastval | setseed | set_config | pg_(?:try_)?advisory_(?:un)?lock\w* | dblink_connect\w*
        | pg_temp\w* | pg_my_temp_schema
        | temp(?:orary)? \s+ (?:table|view|sequence|recursive) | into \s+ temp(?:orary)?
        | alter \s+ (?:database|role|user|system)
        | (?:prepare|deallocate) \s+ \w+ | discard \s+ \w+ | reset \s+ \w+ | with \s+ hold
    )\b
    | (?: ^ | ; | ['"(] | \$\w*\$ | \b(?:begin|then|else|loop|atomic)\b ) \s*
      (?: execute \s+ [a-z_]\w* \s* (?: \( [^|]* \) )? \s* (?: ; | $ )
        | set \s+ (?: session \s+ )? (?: (?!local\b) [\w.]+ \s* (?: = | \bto\b )
                                       | role\b | authorization\b | time \s+ zone\b | names\b | schema\b
                                       | characteristics\b ) )
    """,
    re.I | re.X,
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


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
    ('BEGIN SET timezone =', 'CURRVAL')
    >>> lingers("UPDATE t SET role = 1"), lingers("DO $$ BEGIN SET LOCAL role a; UPDATE t SET a = 1; END $$")
    (None, None)
    """
    for text in (sql, _COMMENTS.sub(" ", sql)):
        if found := _LINGERS.search(text):
            return " ".join(found[0].split()).strip("$ ;'\"(")[:40]
    return None
