"""Label selectors: which targets are meant, in one line.

    tier=free,region in (eu,us),!legacy

Requirements are joined by commas, and all must hold: `key`, `!key`, `key=value` (or `==`), `key!=value`,
`key in (a,b)`, `key notin (a,b)`. `!=` and `notin` also hold where the label is missing. Keys are labels, or one of
`tenant`, `shard` and `track`. Values may be globs (`*`, `?`, `[abc]`); in quotes they are taken literally, and may
hold spaces, commas and whatever else.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from orchestrator.errors import SelectorError
from orchestrator.registry.model import Target

KEY = re.compile(r"\w[\w./-]*")
BUILT_IN_KEYS = ("tenant", "shard", "track")
EXAMPLE = "tier=free,region in (eu,us),!legacy"

Operator = Literal["exists", "absent", "in", "notin"]

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"""[^\s,()"'=!][^\s,()"'=]*""")
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)""", re.DOTALL)
_EQUALITY = re.compile(r"==|=|!=")
_SET = re.compile(r"(?:in|notin)(?![\w./-])")


@dataclass(frozen=True, slots=True)
class Value:
    """One value to compare with: a literal text, or a glob."""

    text: str
    is_glob: bool = False

    def matches(self, text: str) -> bool:
        return fnmatch.fnmatchcase(text, self.text) if self.is_glob else text == self.text

    def __str__(self) -> str:
        if self.is_glob or (_WORD.fullmatch(self.text) and not _is_glob(self.text)):
            return self.text
        escaped = self.text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold for one key. `values` is empty for `exists` and `absent`."""

    key: str
    operator: Operator
    values: tuple[Value, ...] = ()

    def matches(self, target: Target) -> bool:
        actual: str | None = getattr(target, self.key) if self.key in BUILT_IN_KEYS else target.labels.get(self.key)
        if self.operator == "exists":
            return actual is not None
        if self.operator == "absent":
            return actual is None
        found = actual is not None and any(value.matches(actual) for value in self.values)
        return found is (self.operator == "in")

    def __str__(self) -> str:
        if self.operator in ("exists", "absent"):
            return self.key if self.operator == "exists" else f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == 'in' else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, target: Target) -> bool:
        return all(requirement.matches(target) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def parse(text: str) -> Selector:
    """Read a selector; empty text selects all targets. Raises SelectorError, which shows the place.

    >>> str(parse("tier == free , region in (eu)"))
    'tier=free,region=eu'
    """
    return _Parser(text).selector()


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")


@dataclass
class _Parser:
    text: str
    at: int = 0

    def selector(self) -> Selector:
        if not self.text.strip():
            return Selector()
        requirements = [self._requirement()]
        while self._take(","):
            requirements.append(self._requirement())
        if self._rest():
            self._refuse("a comma is expected between requirements")
        return Selector(tuple(requirements))

    def _requirement(self) -> Requirement:
        if self._take("!"):
            return Requirement(self._key(), "absent")
        key = self._key()
        if sign := self._match(_EQUALITY):
            return Requirement(key, "notin" if sign == "!=" else "in", (self._value(),))
        if word := self._match(_SET):
            return Requirement(key, "in" if word == "in" else "notin", self._values())
        return Requirement(key, "exists")

    def _key(self) -> str:
        return self._match(KEY) or self._refuse("a label's key is expected")

    def _values(self) -> tuple[Value, ...]:
        if not self._take("("):
            self._refuse("a list of values in parentheses is expected")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        if not self._take(")"):
            self._refuse("a comma or a closing parenthesis is expected")
        return tuple(values)

    def _value(self) -> Value:
        self._rest()
        start = self.at
        if quoted := _QUOTED.match(self.text, self.at):
            self.at = quoted.end()
            return Value(re.sub(r"\\(.)", r"\1", quoted["text"], flags=re.DOTALL))
        if self.text[self.at : self.at + 1] in ('"', "'"):
            self._refuse("this quote is not closed")
        word = self._match(_WORD) or self._refuse('a value is expected; "" is the empty one')
        value = Value(word, _is_glob(word))
        if value.is_glob and not _is_possible(word):
            self.at = start
            self._refuse("this pattern cannot be read; quote it when it is meant literally")
        return value

    def _match(self, pattern: re.Pattern[str]) -> str:
        """Take what `pattern` finds here, after white space; empty when it finds nothing."""
        self._rest()
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match[0] if match else ""

    def _take(self, sign: str) -> bool:
        taken = self._rest().startswith(sign)
        self.at += len(sign) if taken else 0
        return taken

    def _rest(self) -> str:
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at :]

    def _refuse(self, problem: str) -> NoReturn:
        shown = "".join(character if character.isprintable() else "·" for character in self.text)
        raise SelectorError(f"{problem}\n  {shown}\n  {' ' * self.at}^", remedy=f"for example: {EXAMPLE}")


def _is_possible(glob: str) -> bool:
    try:
        re.compile(fnmatch.translate(glob))
    except re.error:
        return False
    return True
