"""Masks what looks like a secret in the text of a schema: in functions, defaults and settings. Pure.

Tenants write that text. Nothing here may take longer than in proportion to its length: what has begun either matches,
or fails within a bounded number of characters.
"""

from __future__ import annotations

import re

from orchestrator.observe import redact, redact_calls, redact_names

_LITERALS = re.compile(r"'(?:[^']|'')*'")
_KEY = r"(?:key|pass|secret|token|credential|salt|pepper)"
_SETTING = re.compile(
    rf"""(?isx)(\bset_config\s*\(\s*'(?=[^']*?{_KEY})[^']*+'(?:::\w{{1,20}})?\s*,\s*
    |\bcurrent_setting\s*\(\s*'(?=[^']*?{_KEY})[^']*+'[^;']{{0,40}}
    |\bset\s+(?:local\s+|session\s+|global\s+)?(?=["\w.]{{0,60}}?{_KEY})["\w.]{{1,120}}+\s*(?:=|\bto\b)\s*){redact_names.LITERAL}"""
)
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization\W{1,8}(?:basic|digest|token|apikey|negotiate)\s+)[\w.~+/=:-]+")
_PRIVATE_KEY = re.compile(r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----).*?(?:-----END|\Z)")
# A header of a name as these in JSON; a value in double quotes; an option of a foreign table.
_HEADER = re.compile(
    r"""(?i)("[\w-]{0,40}?(?:auth|[a-z_-]key|signature|cookie|pass|token)[\w-]{0,40}"\s*:\s*)"[^"]*+"?"""
)
_PLAIN_HEADER = re.compile(
    r"(?i)(\b(?:x-[\w-]{0,40}?(?:auth|key|token|secret)[\w-]{0,40}|api-?key|cookie):\s{0,9})[^\s',;\"]++"
)
_IN_TWICE = r'"(?:[^"\\]|""|\\.){0,1000}+(?:"(?!\s?\.)|\\?\Z)'
_TWICE = re.compile(
    rf"""(?isx)({redact_names.WORD}\w{{0,60}}+["`]?(?:\s{{1,9}}|[\w\s()]{{0,60}}?(?::=|=>|=|\bdefault\b)\s{{0,9}})
    |(?:{redact_names.KEYS}|{redact_names.SHORT})\w{{0,40}}+[\w\s()]{{0,60}}?\bdefault\s{{1,9}}
    |(?:{redact_names.SHORT}|@\w{{0,40}}?key)\w{{0,40}}+\s{{0,9}}:?=\s{{0,9}}
    |\b(?:json_\w{{1,20}}|concat(?:_ws)?)\s?\([^;(]{{0,200}}?{redact_names.WORD}[^";]{{0,60}}["']\s{{0,9}},\s{{0,9}}){_IN_TWICE}"""
)
_OPTION = re.compile(
    r"""(?ix)(?:([{,]"\w{0,40}?(?:pass|pw|psw|salt|secret|token|_key)\w{0,40}+=)(?:[^"\\]|\\.){0,1000}+
    |([{,]\w{0,40}?(?:pass|pw|psw|salt|secret|token|_key)\w{0,40}+=)[^,}"]++
    |(\b\w{1,30}(?-i:Key|Signature|Secret)=)[^;,'"\s&]++)"""
)
# What is written to a table with such a column: all of it.
_INSERT = re.compile(
    rf"""(?isx)(\binsert\s{{1,9}}(?:into\s{{1,9}})?[\w."`]{{1,130}}+\s{{0,9}}
    \((?=[^()']{{0,2000}}?{redact_names.WORD})[^()']{{0,2000}}+\)[^;']{{0,500}}+)'(?:[^;]*'|[^;]*)"""
)
# Whoever knows the address may call it.
_URL = re.compile(r"(?i)\bhttps?://[^\s'\"]++")
_USER = re.compile(r"(//)[^/?#@:]+@")
_HOOK = re.compile(
    r"(?i)hook[^/]{0,60}/|/bot(?=\d)|[?&;][\w.-]{0,40}?(?:key|sig|token|auth|code|pass|secret)[\w.-]{0,40}="
)
# Keys that tell by how they begin.
_KNOWN = re.compile(
    r"""(?x)\b(?:(?:[spr]k_(?:live|test)_|gh[opsur]_|xox[abprs]-|xapp-|AKIA|ASIA|AIza|github_pat_|glpat-|npm_|pypi-|whsec_|shp(?:at|ss)_|hf_|dop_v1_)[\w-]{6,}
    |sk-[\w-]{12,}|SG\.[\w-]{8,}\.[\w-]{8,}|eyJ[\w-]{8,}(?:\.[\w-]+){0,2})"""
)

# The default of a column as MySQL tells it, after whether it may be NULL.
_UNQUOTED = re.compile(r"(\| (?:YES|NO) \| )(?!- \||NULL \|)[^|]+(?= \|)")


def text(value: str, column: str | None = None) -> str:
    """The text with its secrets masked; with a column whose name says that it holds one, all literals are.

    >>> text("perform set_config('app.key', 'x y', false); perform http('Authorization: Basic aHVu')")
    "perform set_config('app.key', ***, false); perform http('Authorization: Basic ***')"
    >>> text("http_post('https://hooks.slack.com/services/T0/B0/aHVu', headers => 'X-Auth: aHVu')")
    "http_post('https://hooks.slack.com/***', headers => 'X-Auth: ***')"
    >>> text("options | {sftp_pass=aHVu,host=db}"), text("if api_token <> 'it''s' then")
    ('options | {sftp_pass=***,host=db}', 'if api_token <> *** then')
    >>> text("column | t | - | api_key | text | 'a'::text", "api_key"), text("column | note | 'a'", "note")
    ('column | t | - | api_key | text | ***::text', "column | note | 'a'")
    """
    if column is not None and redact_names.COLUMN.search(column):
        value = _LITERALS.sub(redact.MASK, value)
        value = _UNQUOTED.sub(rf"\1{redact.MASK}", value)
    value = redact_names.masked(redact_calls.masked(_URL.sub(_without_key, value)))
    for pattern in (_SETTING, _AUTHORIZATION, _INSERT, _HEADER, _PLAIN_HEADER, _TWICE, _PRIVATE_KEY):
        value = pattern.sub(rf"\1{redact.MASK}", value)
    value = _OPTION.sub(lambda found: f"{found[1] or found[2] or found[3]}{redact.MASK}", value)
    return redact.text(_KNOWN.sub(redact.MASK, value))


def _without_key(address: re.Match[str]) -> str:
    told = _USER.sub(rf"\1{redact.MASK}@", address[0])
    found = _HOOK.search(told)
    return told if found is None or found.end() == len(told) else told[: found.end()] + redact.MASK
