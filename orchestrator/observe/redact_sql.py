"""Masks what looks like a secret in the text of a schema: in functions, defaults and settings. Pure.

Tenants write that text. Nothing here may take longer than in proportion to its length: what has begun either matches,
or fails within a bounded number of characters.
"""

from __future__ import annotations

import re

from orchestrator.observe import redact, redact_calls

_WORD = r"""(?:password|passwd|passphrase|pwd|secret|token|credential|identified\s+by|
    (?:api|access|private|signing|encryption|master|auth)[_-]?key)"""
_SECRET_NAME = re.compile(rf"(?ix){_WORD}")
_LITERALS = re.compile(r"'(?:[^']|'')*'")
_IN_QUOTES = r"""(?:[^'\\]|''|\\.)"""
# One that does not end is none where the text is soon over, and otherwise all the rest.
_QUOTED = rf"""'(?:{_IN_QUOTES}{{1001,}}+(?:'|\\?\Z)|{_IN_QUOTES}{{0,1000}}')"""
# Within another literal, with escapes as MySQL and E'…' have them, and in dollars.
_LITERAL = rf"""(?:''[^';]{{1,200}}''|e?{_QUOTED}|\$\w*\$[^$]*\$\w*\$)"""
# A name, a few other words, and then literals: to mask a list of states with them does less harm than to show one.
_GIVEN = re.compile(rf"(?isx)({_WORD}\w{{0,60}}+'?[^;'$]{{0,60}}?){_LITERAL}(?:\s*(?:\|\||,)\s*{_LITERAL})*")
_SETTING = re.compile(
    rf"(?is)(\bset_config\s*\(\s*'(?=[^']*?(?:key|pass|secret|token|credential))[^']*+'\s*,\s*){_LITERAL}"
)
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization\W{1,8}(?:basic|digest|token|apikey|negotiate)\s+)[\w.~+/=:-]+")
_PRIVATE_KEY = re.compile(r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END|\Z)")
# Keys that tell by how they begin.
_KNOWN = re.compile(
    r"\b(?:(?:[spr]k_(?:live|test)_|gh[opsur]_|xox[abprs]-|AKIA)[\w-]{6,}|eyJ[\w-]{8,}(?:\.[\w-]+){0,2})"
)

# The default of a column as MySQL tells it, after whether it may be NULL.
_UNQUOTED = re.compile(r"(\| (?:YES|NO) \| )(?!- \||NULL \|)[^|]+(?= \|)")


def text(value: str, column: str | None = None) -> str:
    """The text with its secrets masked; with a column whose name says that it holds one, all literals are.

    >>> text("perform set_config('app.key', 'x y', false); perform http('Authorization: Basic aHVu')")
    "perform set_config('app.key', ***, false); perform http('Authorization: Basic ***')"
    >>> text("if api_token <> 'it''s' then my_password text := 'b'")
    'if api_token <> *** then my_password text := ***'
    >>> text("column | t | - | api_key | text | 'a'::text", "api_key"), text("column | note | 'a'", "note")
    ('column | t | - | api_key | text | ***::text', "column | note | 'a'")
    """
    if column is not None and _SECRET_NAME.search(column):
        value = _LITERALS.sub(redact.MASK, value)
        value = _UNQUOTED.sub(rf"\1{redact.MASK}", value)
    value = redact_calls.masked(value)
    for pattern in (_GIVEN, _SETTING, _AUTHORIZATION, _PRIVATE_KEY):
        value = pattern.sub(rf"\1{redact.MASK}", value)
    return redact.text(_KNOWN.sub(redact.MASK, value))
