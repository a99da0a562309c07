"""Masks the literals among the arguments of functions that encrypt, hash or sign. Pure.

Text of a schema may be cut anywhere, may stand in a literal of other text (`EXECUTE 'select encrypt(x, ' || …`), and
does not say of which server it is. So a function is looked for by its name, wherever that stands, and its arguments are
read up to the bracket that closes them. Where it is not plain what of them is a literal, all from the first quote to
the last one is masked. Each character is read once, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.observe.redact import MASK

_CALL = re.compile(
    r"""(?ix)(?<![\w$])
    (?=[\w$]{0,60}?(?:crypt|cipher|hmac|digest|hash|md5|pgp_|password|passwd|jwt|keyring|kdf|scrypt|argon)
        | (?:[a-z0-9]{1,30}_){0,5}sha\d{0,3}(?:_[\w$]{0,30})?["`\]]?\s{0,20}\(
        | (?:sign|verify|encode|decode|dearmor|create_secret|create_digest|a?symmetric_[a-z]{1,20})["`\]]?\s{0,20}\()
    [\w$]++["`\]]?\s{0,20}\("""
)
_DOLLAR = re.compile(r"\$(?:[A-Za-z_]\w{0,62})?\$")
_TOKEN = re.compile(
    r"""(?xs)--[^\n]* | (?P<comment>/\*) | (?P<dollar>\$(?:[A-Za-z_]\w{0,62})?\$)
    | \\'[^'\\]*+\\'                             # as MySQL tells of generated columns
    | (?P<text>'(?:[^'\\]|''|\\.)*+'?) | "(?:[^"\\]|""|\\.)*+"? | `[^`]*+`?
    | (?P<bracket>[()]) | [^-/$\\'"`()]++ | ."""
)
# No part of a statement between two literals looks so; an empty one, or the beginning of one within another, might.
_INSIDE = r"(?:[^'\\();|,\s](?:[^'\\();|]*[^'\\();|,\s])?)"
_PLAIN = re.compile(
    rf"\\'{_INSIDE}?\\'|'{_INSIDE}?'(?:'{_INSIDE}?')+(?![\w$'])|'{_INSIDE}'(?![\w$'])|''(?=\s*(?:[,)]|::|\|\||\Z))"
)
# Words that choose how it is done, and hide nothing.
_HARMLESS = re.compile(r"(?i)\\?'(?:hex|base64|escape|utf-?8|sha-?\d{1,3}|md5|aes|bf)\\?'")
# Characters between a call in a literal and the literal's end.
_NEAR = 200
_TWICE = re.compile(r'(?s)"(?:[^"\\]|""|\\.)*+(?:"|\\?\Z)')
# `format('select encrypt(%I, %L)', …)`: the arguments of the call around it are its own.
_PLACES = re.compile(r"%(?:\d{1,2}\$)?[sIL]")
_NUMBER = re.compile(r"(?i)\b(?:0x[0-9a-f]+|\d{5,})\b")


def masked(text: str) -> str:
    """The text with these literals masked.

    >>> masked("public.pgp_sym_decrypt((people.enc)::bytea, 'key'::text), 'shown'")
    "public.pgp_sym_decrypt((people.enc)::bytea, ***::text), 'shown'"
    >>> masked("md5(((p.ssn)::text || 'it''s'::text)) <> 'shown'"), masked('`aes_encrypt` (`a`, "key")')
    ("md5(((p.ssn)::text || ***::text)) <> 'shown'", '`aes_encrypt` (`a`, ***)')
    >>> masked("format('select encrypt(%I, %L)', x, 'key')")
    "format('select encrypt(%I, %L)', x, ***)"
    >>> masked("EXECUTE 'select encrypt(x, ' || quote_literal('key') || ')'")
    "EXECUTE 'select encrypt(x, ***)'"
    """
    return "".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    ends = _Ends(text)
    place = 0
    while call := _CALL.search(text, place):
        yield text[place : call.end()]
        end = ends.closing(call.end())
        place = len(text) if end is None else end
        yield _without_literals(text[call.end() : place], is_closed=end is not None)
        quote = text.find("'", place, place + _NEAR) if _PLACES.search(text, call.end(), place) else -1
        if quote >= 0:
            yield text[place : quote + 1]
            end = ends.closing(quote + 1)
            place = len(text) if end is None else end
            yield _without_literals(text[quote + 1 : place], is_closed=end is not None)
    yield text[place:]


class _Ends:
    """Where what begins in a text ends."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._last = {found[0]: found.start() for found in _DOLLAR.finditer(text)}
        self._last["*/"] = text.rfind("*/")

    def closing(self, place: int) -> int | None:
        """Of arguments that begin here: their closing bracket. None where there is none, or it is not certain."""
        depth = 1
        while found := _TOKEN.match(self._text, place):
            place = self._after(found)
            if found["bracket"]:
                depth += 1 if found["bracket"] == "(" else -1
                if depth == 0:
                    return found.start()
            elif found["text"] and "\\'" in found["text"]:  # its end is another one to each kind of server
                return None
        return None

    def _after(self, found: re.Match[str]) -> int:
        mark = "*/" if found["comment"] else found["dollar"]
        if not mark or self._last.get(mark, -1) < found.end():
            return found.end()
        return self._text.find(mark, found.end()) + len(mark)


def _without_literals(text: str, *, is_closed: bool) -> str:
    return _NUMBER.sub(MASK, _TWICE.sub(_name_or_mask, _without_quotes(text, is_closed=is_closed)))


def _without_quotes(text: str, *, is_closed: bool) -> str:
    rest = _PLAIN.sub("", text)
    if is_closed and "'" not in rest and not _DOLLAR.search(rest):
        return _PLAIN.sub(lambda found: found[0] if _HARMLESS.fullmatch(found[0]) else MASK, text)
    quotes = [found.span() for found in re.finditer(rf"'|{_DOLLAR.pattern}", text)]
    if not quotes:
        return text
    return text[: quotes[0][0]] + MASK + (text[quotes[-1][1] :] if is_closed else "")


def _name_or_mask(found: re.Match[str]) -> str:
    """To MySQL it is a literal, to others a name, which often has a dot beside it, or a bracket after it."""
    text, (start, end) = found.string, found.span()
    return found[0] if text[max(0, start - 1) : start] == "." or text[end : end + 1] in (".", "(") else MASK
