"""What a value is that a database answered with, and how much of it may be shown. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TypeGuard

LONGEST = 300
_NUMBERS = (int, float, Decimal)
_TRUTHS = {"true": True, "false": False}
# Characters of a number that is shown: longer ones are rather somebody's than a sum.
_LONGEST_NUMBER = 20
_LONGEST_TEXT = 60


def is_number(value: object) -> TypeGuard[int | float | Decimal]:
    """
    >>> is_number(1), is_number(Decimal("0.5")), is_number(True), is_number("1")
    (True, True, False, False)
    """
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def is_true(value: object, *, booleans: bool) -> bool:
    """`booleans`: the database has truth values, and a number is none, lest a count pass by being 1. Where there are
    none, the number 1 is true, and no other.

    >>> is_true(True, booleans=True), is_true(1, booleans=True), is_true(Decimal(1), booleans=False)
    (True, False, True)
    """
    return _truth(value, booleans) is True


def equals(value: object, wanted: str, *, booleans: bool) -> bool:
    """Whether a value is what the registry has as text. `booleans` as above.

    >>> equals(Decimal("3.00"), "3", booleans=True), equals(True, "true", booleans=True)
    (True, True)
    >>> equals(1, "true", booleans=False), equals(1, "true", booleans=True), equals(None, "", booleans=True)
    (True, False, False)
    """
    if value is None:
        return False
    if (truth := _truth(value, booleans)) is not None and wanted.lower() in _TRUTHS:
        return truth is _TRUTHS[wanted.lower()]
    if is_number(value):
        try:
            return Decimal(str(value)) == Decimal(wanted)
        except InvalidOperation:
            return False
    return value == wanted.encode() if isinstance(value, bytes) else str(value) == wanted


def _truth(value: object, booleans: bool) -> bool | None:
    """None: it is neither true nor false."""
    if isinstance(value, bool):
        return value
    return bool(value) if not booleans and is_number(value) and value in (0, 1) else None


def shown(value: object, *, texts: bool = False) -> str:
    """A value in one line, as it may be shown: numbers, truth values and what is no value. Text and the like may be a
    customer's data, and is shown only if `texts` says that it is not.

    >>> [shown(value) for value in (17, 0.1 + 0.2, False, None, "ann@example.org", b"x")]
    ['17', '0.3', 'false', 'NULL', 'a text of 15 characters', '1 byte']
    >>> shown("a  b", texts=True)
    "'a b'"
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _NUMBERS):
        return _number(value)
    if isinstance(value, bytes):
        return f"{len(value)} byte{'' if len(value) == 1 else 's'}"
    if texts:
        return repr(one_line(str(value), _LONGEST_TEXT))
    if isinstance(value, str):
        return f"a text of {len(value)} character{'' if len(value) == 1 else 's'}"
    return f"a value of type {type(value).__name__}"


def _number(value: float | Decimal) -> str:
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    if isinstance(value, Decimal) and len(text) > _LONGEST_NUMBER:
        text = f"{value:.10g}"  # a mean has as many digits as the server gives it
    return text if len(text) <= _LONGEST_NUMBER else f"a number of {len(text)} digits"


def one_line(text: str, longest: int = LONGEST) -> str:
    """
    >>> one_line("a\\n  b" * 3, 6)
    'a ba …'
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 2]} …"
