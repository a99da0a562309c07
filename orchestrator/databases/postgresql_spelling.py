"""One spelling for two texts of the catalog that mean the same. Pure.

PostgreSQL keeps expressions as trees and writes them as text when asked. Some trees are written so that the text, read
again, makes another tree: `pg_dump | psql` gives a tenant another text for the same CHECK. These ways are known, and
what is written here is what stays as it is when it is read again:

- `x IN ('a', 'b')` over a varchar casts the array at first, and each of its elements afterwards. Of these a number is
  in brackets or not: `(1)::numeric`, `1.5::numeric(5,2)`;
- `x BETWEEN 1 AND 2 AND y` has an AND within an AND at first, and one AND afterwards.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeGuard

# A body in a text of its own is kept as it was written; so is a comment.
_BODY = re.compile(r"\nAS \$|\nAS '")
# What is in quotes is read in one way only: a name may have as many quotes in it as fit, and be of a tenant's making.
_TYPE = r"""(?:"(?:[^"]|"")*+"|[\w. ]){1,200}?(?:\(\d+(?:,\d+)?\))?"""
_TOKEN = re.compile(
    rf"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|[ ]AND[ ]|[ ]OR[ ]|,[ ]|::{_TYPE}\[\]|[()\[\]]|[^'"()\[\],: ]+|.""",
    re.DOTALL | re.VERBOSE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NUMBER_CAST = re.compile(r"\(\d+(?:\.\d+)?\)::")
_TEXT_CAST = re.compile(r"'(?:[^']|'')*+'(?:::[\w. ]{1,100}(?:\(\d+\))?)?")
_CONNECTIVES = (" AND ", " OR ")
_CLOSING = {"(": ")", "[": "]"}


class _Group(NamedTuple):
    """What stands in brackets. `connective`: the AND or OR between its parts; `elements`: of an array, where it is one;
    `array`: the same, where nothing else is in the brackets."""

    text: str
    inner: str = ""
    connective: str | None = None
    elements: tuple[str, ...] = ()
    array: tuple[str, ...] | None = None


def respelled(line: str) -> str:
    """
    >>> respelled("CHECK (((x)::text = ANY ((ARRAY['a'::character varying, 'b,'::character varying])::text[])))")
    "CHECK (((x)::text = ANY (ARRAY[('a'::character varying)::text, ('b,'::character varying)::text])))"
    >>> respelled("CHECK ((((x >= 1) AND (x <= 2)) AND (y OR z)))")
    'CHECK (((x >= 1) AND (x <= 2) AND (y OR z)))'
    >>> respelled("statistics | CREATE STATISTICS s ON (x = ANY (ARRAY['a'::varchar, 'b'::varchar]::text[])), y FROM t")
    "statistics | CREATE STATISTICS s ON (x = ANY (ARRAY['a'::varchar::text, 'b'::varchar::text])), y FROM t"
    >>> respelled("ROW('a'::text, ARRAY[(1.5)::numeric(5,2)], round(1)::text, '(1)::text')")
    "ROW('a'::text, ARRAY[1.5::numeric(5,2)], round(1)::text, '(1)::text')"
    >>> respelled("CHECK (((x AND y) OR z))"), respelled("comment | t | ((x AND y) AND z)")
    ('CHECK (((x AND y) OR z))', 'comment | t | ((x AND y) AND z)')
    """
    if line.startswith("comment | "):
        return line
    body = _BODY.search(line) if line.startswith("function | ") else None
    text, rest = (line[: body.start()], line[body.start() :]) if body is not None else (line, "")
    return _respelled(text) + rest if _is_worth_it(text) else line


def _is_worth_it(text: str) -> bool:
    """Most lines have nothing that might be written in two ways."""
    return (
        "(ARRAY[" in text
        or (")::" in text and _NUMBER_CAST.search(text) is not None)
        or ("((" in text and any(connective in text for connective in _CONNECTIVES))
    )


def _respelled(text: str) -> str:
    frames: list[list[str | _Group]] = [[]]
    opened: list[str] = []
    for token in _TOKEN.findall(text):
        if token in _CLOSING:
            opened.append(token)
            frames.append([])
        elif opened and token == _CLOSING[opened[-1]]:
            frames[-2].append(_closed(opened.pop(), frames.pop()))
        else:
            _append(frames[-1], token)
    unclosed = [bracket + _text(frame) for bracket, frame in zip(opened, frames[1:], strict=True)]
    return _text(frames[0]) + "".join(unclosed)


def _append(pieces: list[str | _Group], token: str) -> None:
    last = pieces[-1] if pieces else None
    if token.startswith("::") and token.endswith("[]") and isinstance(last, _Group) and last.array is not None:
        cast = token[:-2]
        pieces[-1] = f"ARRAY[{', '.join(f'{_bracketed(element)}{cast}' for element in last.array)}]"
    elif token.startswith("::") and token.endswith("[]") and pieces[-2:-1] == ["ARRAY"] and _is_of_texts(last):
        # Extended statistics are told with as few brackets as will do.
        pieces[-1] = f"[{', '.join(f'{element}{token[:-2]}' for element in last.elements)}]"
    elif token == ":" and isinstance(last, _Group) and _NUMBER.fullmatch(last.inner) and not _is_called(pieces[:-1]):
        pieces[-1:] = [last.inner, token]
    else:
        pieces.append(token)


def _bracketed(element: str) -> str:
    return element if _NUMBER.fullmatch(element) else f"({element})"


def _is_called(before: list[str | _Group]) -> bool:
    """Whether a bracket after these holds a function's arguments, or a type's length."""
    return isinstance(end := before[-1] if before else None, str) and (end[-1].isalnum() or end[-1] in '_$"')


def _is_of_texts(piece: str | _Group | None) -> TypeGuard[_Group]:
    """Whether it is the brackets of an array that has nothing but texts in it."""
    return (
        isinstance(piece, _Group)
        and piece.elements != ()
        and all(_TEXT_CAST.fullmatch(element) for element in piece.elements)
    )


def _closed(bracket: str, pieces: list[str | _Group]) -> _Group:
    if bracket == "[":
        inner = _text(pieces)
        return _Group(f"[{inner}]", elements=_split(pieces))
    connective = next((piece for piece in pieces if piece in _CONNECTIVES), None)
    first = pieces[0] if pieces else None
    if isinstance(first, _Group) and connective is not None and first.connective == pieces[1] == connective:
        pieces = [first.inner, *pieces[1:]]
    inner = _text(pieces)
    array = None
    if len(pieces) == 2 and pieces[0] == "ARRAY" and isinstance(pieces[1], _Group):
        array = pieces[1].elements
    return _Group(f"({inner})", inner, str(connective) if connective is not None else None, (), array)


def _split(pieces: list[str | _Group]) -> tuple[str, ...]:
    """What stands between commas."""
    parts: list[list[str | _Group]] = [[]]
    for piece in pieces:
        if piece == ", ":
            parts.append([])
        else:
            parts[-1].append(piece)
    return tuple(_text(part) for part in parts)


def _text(pieces: list[str | _Group]) -> str:
    return "".join(piece if isinstance(piece, str) else piece.text for piece in pieces)
