"""Masks the literals that are given to what is called like a secret: `api_key text := 'a'`, `token <> 'b'`. Pure.

A name may itself stand in a literal, so that the quote after it ends one: each name is looked at on its own, also where
what an earlier one was given seems to hold it. Each has a bounded number of characters after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.observe.redact import MASK

WORD = r"""(?:password|passwd|passphrase|passcode|pwd|secret|token|credential|bearer|identified\s+(?:by|via|with)|
    authorization(?!_)|
    (?:api|access|private|signing|encryption|master|auth|enc|encrypt|crypto|cipher|aes|hmac|jwt|session|service|
    shared|ssh|pgp|gpg|sym|symmetric|data|license|client|app|account|deploy|bot|webhook|hash|sign|kek|dek)[_-]?key)"""
_EDGES = r"(?<![a-z0-9])(?:{})(?![a-z0-9])"
# Words that mean a secret where something is given to them, and hardly where they are compared.
SHORT = rf"(?:pass(?![a-z]){'|' + _EDGES.format('pw|psw|pswd|pin|otp|salt|pepper|hmac|webhook|cipher')})"
KEYS = rf"(?:{_EDGES.format('key|iv|kek|dek')}|@\w{{0,40}}key)"
COLUMN = re.compile(rf"(?ix){WORD}|{SHORT}")

_IN_QUOTES = r"""(?:[^'\\]|''|\\.)"""
# One that does not end is none where the text is soon over, and otherwise all the rest.
_QUOTED = rf"""'(?:{_IN_QUOTES}{{1001,}}+(?:'|\\?\Z)|{_IN_QUOTES}{{0,1000}}')"""
# As MySQL tells of checks, within another literal, with escapes as MySQL and E'…' have them, and in dollars.
LITERAL = rf"""(?:(?<=\\)'[^'\\]{{0,1000}}\\'|''[^';]{{1,200}}''|e?{_QUOTED}|\$\w*\$[^$]*\$\w*\$)"""
# With casts, as PostgreSQL writes them.
_CAST = r"(?:\)|::[\w. ]{1,40}(?:\(\d{1,6}\))?(?:\[\])?){0,6}"
_MORE = rf"(?:{_CAST}\s*(?:\|\||,)\s*\({{0,3}}{LITERAL})*"
# A text that ends here, and goes on with another one.
_JOINED = r"(?:'\s{0,9}(?:\|\||,)\s{0,9}(?:\w{1,30}\s?\(\s?)?)?"
_GAP = r"(?:[^;'$]|\$\d){0,60}?"
_TYPE = r"[\w\s(),.\"`\[\]]{0,60}?"
_BY_NAME = [
    # A name, a few other words, and then literals: to mask a list of states does less harm than to show one secret.
    (rf"{WORD}\w{{0,60}}+'?", rf"{_GAP}{_JOINED}"),
    (rf"{SHORT}\w{{0,60}}+[\"'`]?", rf"{_TYPE}(?::=|=>|=|\bdefault\b){_GAP}"),
    (rf"{KEYS}\w{{0,60}}+[\"`]?", rf"{_TYPE}(?::=|=>|\bdefault\b){_GAP}"),
    (rf"'\w{{0,20}}?{SHORT}\w{{0,20}}+'", r"\s*,\s*(?!'fail)"),
    (r"\bx-[\w-]{0,40}?(?:auth|key|token|secret|signature)[\w-]{0,40}+'?", rf"{_GAP}{_JOINED}"),
    (r"@\w{0,40}key\w{0,40}+", rf"\s*=\s*{_GAP}"),
]
_NAMES = [
    (
        re.compile(rf"(?isx){name}"),
        re.compile(rf"(?isx){between}({LITERAL}){_MORE}"),
        re.compile(rf"(?isx){between}({LITERAL})"),
    )
    for name, between in _BY_NAME
]


def masked(text: str) -> str:
    """The text with these literals masked.

    >>> masked("if api_token <> 'it''s' then my_password text := 'b'")
    'if api_token <> *** then my_password text := ***'
    >>> masked("x := '{\\"token\\": 1}'; api_key := 'b'; v_pass text := 'c'")
    'x := \\'{"token": 1}***; v_pass text := ***'
    """
    parts, place = list[str](), 0
    for start, end in sorted(_spans(text)):
        if end <= place:
            continue
        if start > place or not parts:
            parts += [text[place:start], MASK]
        place = end
    return "".join(parts) + text[place:]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for name, given, first in _NAMES:
        done = 0
        for found in name.finditer(text):
            # What stands among another's literals is read for its first one only: else all would be read again.
            value = (first if found.start() < done else given).match(text, found.end())
            if value is None:
                continue
            yield value.start(1), value.end()
            if value.end() == len(text):
                break
            done = max(done, value.end())
