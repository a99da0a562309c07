"""Makes values that a line of the log can hold: valid JSON, whose texts are cut and which is not too long as a whole,
and one line on a terminal.

What tenants, databases and revisions are called, and what servers say in errors, is written by others. None of it may
end a line, begin another, or speak to the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice

from structlog.typing import EventDict, WrappedLogger

# Characters. A container's runtime cuts a line after 16 KiB, and half a line is no JSON.
LONGEST_LINE = 16_000
LONGEST_TEXT = 4_000
LONGEST_TRACE = 12_000
# Where a line is longer all the same, its texts are cut to the first of these with which it is not, and of lists and
# mappings only a tenth as many parts are kept.
_SHORTER = (2_000, 700, 200, 60)
_TRACES = ("exception", "stack")
# Without these, a value can be told from the key that follows it.
_AMBIGUOUS = frozenset(" =\"'")


class Shown:
    """Text that needs care: quoted as a value, and without quotes as the name of a line."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)

    def __str__(self) -> str:
        return escaped(self._text)


def bounded(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that makes plain values of JSON: short texts that are valid UTF-8, and finite numbers."""
    return {key: _bounded(value, LONGEST_TRACE if key in _TRACES else LONGEST_TEXT) for key, value in event.items()}


def _bounded(value: object, longest: int = LONGEST_TEXT) -> object:
    match value:
        case str():
            return cut(value, longest)
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {cut(str(key), longest): _bounded(inner, longest) for key, inner in value.items()}
        case list() | tuple():
            return [_bounded(inner, longest) for inner in value]
        case _:
            return value


def within(render: Callable[[WrappedLogger, str, EventDict], str | bytes]) -> Callable[..., str | bytes]:
    """As `render`, and what comes of it is no longer than a line may be."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str | bytes:
        line = render(logger, method, dict(event))
        for longest in _SHORTER:
            if len(line) <= LONGEST_LINE:
                break
            line = render(logger, method, {key: _shortened(value, longest) for key, value in event.items()})
        return line

    return rendered


def _shortened(value: object, longest: int) -> object:
    most = longest // 10
    match value:
        case str():
            return cut(value, longest)
        case Mapping():
            kept = {cut(str(key), longest): _shortened(inner, longest) for key, inner in islice(value.items(), most)}
            return kept | _left_out(len(value) - len(kept))
        case list() | tuple():
            kept_parts = [_shortened(inner, longest) for inner in value[:most]]
            return [*kept_parts, *_left_out(len(value) - len(kept_parts))]
        case _:
            return value


def _left_out(number: int) -> dict[str, object]:
    return {f"… {number} left out …": None} if number > 0 else {}


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text, without its middle where it is too long; half a surrogate pair, which no decoder takes, is escaped.

    >>> cut("abcdefghij" * 10, 60)
    'abcdefghijabcdefgh … 64 characters left out … cdefghijabcdefghij'
    >>> cut("caf\\udce9")
    'caf\\\\udce9'
    """
    if len(text) > longest:
        kept = longest * 3 // 10
        text = f"{text[:kept]} … {len(text) - 2 * kept} characters left out … {text[-kept:]}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor for terminals: what does not print is written as Python writes it, and the lines of a stack trace
    are set in, so that none of them looks like a line of the log."""
    return {key: _indented(value) if key in _TRACES else _shown(value) for key, value in event.items()}


def _shown(value: object) -> object:
    if isinstance(value, str) and (not value.isprintable() or not _AMBIGUOUS.isdisjoint(value)):
        return Shown(value)
    return value


def _indented(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "\n".join("    " + escaped(line.expandtabs()) for line in value.split("\n"))


def escaped(text: str) -> str:
    """
    >>> escaped("acme\\x1b[2K\\r2026-01-01 [info] all is well")
    'acme\\\\x1b[2K\\\\r2026-01-01 [info] all is well'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
