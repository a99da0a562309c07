"""Opaque cursors: a place in a listing, as text that the client hands back unread."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Place = TypeVar("Place", int, str)

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

# What a place can be: a database looks up no other number or text, and some refuse to be asked.
_LARGEST, _LONGEST = 2**31 - 1, 1000
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class CursorError(ValueError):
    """The cursor is not one that this listing gave out."""


class PageQuery(BaseModel):
    """What every listing takes; parameters that do not exist are refused."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(None, max_length=2000, description="`next_cursor` of the page before.")


def encode(listing: str, place: str | int) -> str:
    """A cursor for the page of `listing` that follows `place`."""
    return base64.urlsafe_b64encode(json.dumps([listing, place]).encode()).decode().rstrip("=")


def decode(cursor: str, listing: str, kind: type[Place]) -> Place:
    """The place that `encode` was given. Raises CursorError, also for a cursor of another listing.

    >>> decode(encode("tenants", "acme"), "tenants", str)
    'acme'
    """
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        name, place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise CursorError("not a cursor of this API") from None
    if name != listing or type(place) is not kind:
        raise CursorError("the cursor belongs to another listing")
    if not is_possible(place):
        raise CursorError("not a cursor of this API")
    return place


def is_possible(place: object) -> bool:
    """Whether a database can be asked for it: PostgreSQL does not even look for a text with a NUL."""
    if isinstance(place, str):
        return len(place) <= _LONGEST and not _NO_TEXT.search(place)
    return isinstance(place, int) and -1 <= place <= _LARGEST


def cut(
    items: Sequence[Item], limit: int, listing: str, place: Callable[[Item], str | int]
) -> tuple[Sequence[Item], str | None]:
    """One page, and the cursor of the next: None at the end. `items` holds one more than `limit` if there are more."""
    page = items[:limit]
    return page, encode(listing, place(page[-1])) if len(items) > limit else None
