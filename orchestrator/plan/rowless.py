"""What a server says of a failure, without values of a tenant's rows. Pure."""

from __future__ import annotations

import re

LEFT_OUT = "(the server's detail is left out, since it shows values of rows)"
# PostgreSQL's classes: a constraint, or a view's check, is violated, of which every detail shows the row; and a value
# is none of its type.
_CONSTRAINT, _DATA = ("23", "44"), "22"
_QUOTED = re.compile(r'".*"')
# MySQL's, and those of asyncpg for what it does not even send. The value may itself have quotes.
_DUPLICATE = "Duplicate entry '", "' for key"
_VALUE = " value: '", "'"
_ARGUMENT = re.compile(r"(input for query argument \$\d+): .*", re.DOTALL)


def left_out(said: str, code: str | None, in_backfill: bool) -> str:
    """What the server said without values of rows. `code`: its SQLSTATE, or MySQL's number; other revisions than
    backfills keep what it says of a value that is none, since that is mostly the revision's own.

    >>> print(left_out('null value in column "a"\\nDETAIL:  Failing row contains (anna).', "23502", False))
    null value in column "a" (the server's detail is left out, since it shows values of rows)
    >>> print(left_out("Duplicate entry 'anna' for key 'email'", "1062", False))
    Duplicate entry '...' for key 'email'
    """
    said = _emptied(said.strip(), *_DUPLICATE)
    kind = code[:2] if code and len(code) == 5 else None
    if kind in _CONSTRAINT or (kind == _DATA and in_backfill):
        first, *rest = said.splitlines() or [""]
        if kind == _DATA:
            first = _QUOTED.sub('"..."', first)
        said = f"{first} {LEFT_OUT}" if rest else first
    if in_backfill:
        said = _ARGUMENT.sub(r"\1: ...", _emptied(said, *_VALUE))
    return said


def _emptied(said: str, before: str, after: str) -> str:
    """Without what stands between the first and the last of two texts.

    >>> _emptied("a value: 'x'y' b", *_VALUE), _emptied("a value: 'x", *_VALUE)
    ("a value: '...' b", "a value: 'x")
    """
    start, end = said.find(before), said.rfind(after)
    if start < 0 or end < start + len(before):
        return said
    return f"{said[: start + len(before)]}...{said[end:]}"
