"""The last net under secrets: masks what looks like one in anything about to be written.

Not a licence to pass secrets around. It rather masks too much than too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from orchestrator.events import timestamp

MASK = "***"
# Characters of a secret that is looked for in text: shorter ones would black out half of every message.
SHORTEST_SECRET = 3

# Up to the last `@` of the word: passwords with an unescaped `@`, `/` or `:` are real, and must not leak their tail.
_BEFORE_PASSWORD = re.compile(r"://[^\s:@/]*:(?=.)")
_WORD = re.compile(r"\S+")
_SECRET_WORD = r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|credentials?)"
_ASSIGNMENT = re.compile(rf"(?i)({_SECRET_WORD}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;\"')}}\]]+)")
_SQL_PASSWORD = re.compile(r"(?i)(\bpassword\s+)'[^']*'")
_BEARER = re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]+")
# Our own tokens, whatever stands around them; their public ids stay.
_TOKEN = re.compile(r"(\borc_[a-z2-7]{16}_)[A-Za-z0-9_-]{43}")
_SECRET_KEY = re.compile(rf"(?i)(?:^|[_.-]){_SECRET_WORD}s?$|^(?:set-)?cookie$|^(?:proxy-)?authorization$")


def text(value: str, *secrets: str | None) -> str:
    """Mask passwords in URLs and in `password=…` pairs, and these secrets wherever they stand.

    >>> text("cannot reach postgresql://migrator:hunter2@db:5432/acme")
    'cannot reach postgresql://migrator:***@db:5432/acme'
    >>> text("host=db password='a b' user=x")
    'host=db password=*** user=x'
    >>> text("no access for ann with s3cret", "s3cret", "a", None)
    'no access for ann with ***'
    """
    # The longest first: one may be a part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            value = value.replace(secret, MASK)
    if "://" in value:
        value = _WORD.sub(_without_password, value)
    value = _ASSIGNMENT.sub(rf"\1{MASK}", value)
    value = _SQL_PASSWORD.sub(rf"\1{MASK}", value)
    value = _TOKEN.sub(rf"\1{MASK}", value)
    return _BEARER.sub(rf"\1{MASK}", value)


def _without_password(word: re.Match[str]) -> str:
    end = word[0].rfind("@")
    before = _BEFORE_PASSWORD.search(word[0], 0, max(0, end))
    return word[0] if before is None else f"{word[0][: before.end()]}{MASK}{word[0][end:]}"


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret.

    >>> [key for key in ("PG_PASSWORD", "tokens_file", "token", "idempotency_key") if is_secret(key)]
    ['PG_PASSWORD', 'token']
    """
    return _SECRET_KEY.search(key) is not None


def value(item: object) -> object:
    """`item` as plain values for JSON, masked all the way down; a foreign object becomes its masked text."""
    match item:
        case None | bool() | int() | float():
            return item
        case str():
            return text(item)
        case datetime():
            return timestamp(item)
        case Mapping():
            return {str(key): pair(str(key), inner) for key, inner in item.items()}
        case list() | tuple() | set() | frozenset() if not hasattr(item, "_fields"):  # a URL is a tuple with names
            return [value(inner) for inner in item]
        case _:
            return text(str(item))


def pair(key: str, item: object) -> object:
    """The value to write for `key`."""
    return MASK if item is not None and is_secret(key) else value(item)
