"""A transaction's statements as squawk is given them, and what it says as findings of ours. Pure.

Each statement begins on a line of its own, so that a line tells the statement, and with it the revision.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.plan import ddl
from orchestrator.plan.ddl import LONGEST
from orchestrator.plan.findings import Finding, shown
from orchestrator.plan.parts import Part
from orchestrator.plan.statements import terminated
from orchestrator.plan.weighing import Verdict
from orchestrator.registry.findings import ON_REQUEST, SQUAWK, Findings, Level

DIALECT = "postgresql"
_SYNTAX = "syntax-error"
_NEWLINE = re.compile(r"\r\n?")
# It would hide what follows of other revisions; for the statement after it the author may still say so.
_WHOLE_FILE = re.compile("squawk-ignore-file")
# Of how long something takes, so of no weight on a small table.
_TIMES = (
    "adding-field-with-default adding-foreign-key-constraint adding-not-nullable-field constraint-missing-not-valid "
    "changing-column-type disallowed-unique-constraint require-concurrent-index-creation require-concurrent-reindex "
    "adding-serial-primary-key-field"
)
_OF_SIZE = frozenset(_TIMES.split())
# They count for tables that come with the plan, too.
_OF_OTHERS = "ban-concurrent-index-creation-in-transaction ban-char-field identifier-too-long require-table-schema"
_ALWAYS = frozenset(_OF_OTHERS.split())
_TASTE = "prefer-"


class Violation(NamedTuple):
    """What squawk has said. `line` counts from 0."""

    rule: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """What squawk is asked. `begins`: the line at which each statement begins."""

    text: str
    begins: tuple[int, ...]
    version: int | None
    include: tuple[str, ...]

    def statement(self, line: int) -> int:
        """The number of the statement that has this line."""
        return max(0, bisect_right(self.begins, line) - 1)


def question(
    part: Part, rules: Findings, version: int | None = None, unreadable: Collection[int] = frozenset()
) -> Question:
    """`version`: the server's major one, where it is known. In place of statements that squawk cannot read, it is given
    no more than the tables that they make.
    """
    # Said in SQL: told of a transaction by its option, squawk lets a lone CREATE INDEX CONCURRENTLY pass.
    begins, lines = [], ["BEGIN;"] if part.transactional else []
    for number, statement in enumerate(part.statements):
        begins.append(len(lines))
        text = _stand_in(statement.text) if number in unreadable else terminated(statement.text)
        lines += _WHOLE_FILE.sub("squawk-ignore", _NEWLINE.sub("\n", text)).split("\n")
    lines += ["COMMIT;"] if part.transactional else []
    return Question("\n".join(lines) + "\n", tuple(begins), version, wanted(rules))


def wanted(rules: Findings) -> tuple[str, ...]:
    """The rules that squawk must be asked for, by its own names."""
    return tuple(sorted(name for name in ON_REQUEST if rules.level(f"{SQUAWK}{name}") != "off"))


def arguments(asked: Question) -> list[str]:
    """squawk's command line; the text goes to its standard input. No configuration file of anybody's counts."""
    found = ["--reporter", "json", "--config", "/dev/null"]
    if asked.version is not None:
        found.append(f"--pg-version={asked.version}.0")
    return [*found, *(f"--include={name}" for name in asked.include)]


def answer(printed: bytes) -> list[Violation]:
    """Raises ValueError for what is not squawk's.

    >>> answer(b'[{"rule_name": "ban-drop-table", "line": 3, "message": "It may break.", "help": null}]')
    [Violation(rule='ban-drop-table', line=3, message='It may break.')]
    """
    try:
        return [Violation(str(one["rule_name"]), int(one["line"]), _message(one)) for one in json.loads(printed)]
    except (TypeError, KeyError, AttributeError) as exc:
        raise ValueError("this is not squawk's JSON") from exc


def unreadable(asked: Question, found: Sequence[Violation]) -> frozenset[int]:
    """The numbers of the statements that squawk cannot read; what it says beside them is not to be relied on."""
    return frozenset(asked.statement(one.line) for one in found if one.rule == _SYNTAX)


def too_long(part: Part) -> frozenset[int]:
    """The numbers of the statements that hold data rather than DDL."""
    return frozenset(number for number, one in enumerate(part.statements) if len(one.text) > LONGEST)


def unread(part: Part, numbers: Collection[int]) -> Iterator[Finding]:
    for number in sorted(numbers):
        revision, text = part.statements[number]
        why = "is not asked of so long a statement" if len(text) > LONGEST else "cannot read a statement of it"
        message = f"squawk {why}, so nobody has looked at that one"
        yield Finding("unread", revision, message, statement=shown(text, DIALECT))


def findings(
    asked: Question, part: Part, found: Sequence[Violation], verdicts: Sequence[Verdict], rules: Findings
) -> Iterator[Finding]:
    """`verdicts` are those of the part's statements. What concerns nobody is left out: a table that comes with the
    plan, and work that the catalog knows not to be done."""
    for one in found:
        number = asked.statement(one.line)
        verdict, (revision, text) = verdicts[number], part.statements[number]
        level = _level(one.rule, verdict, rules)
        if one.rule != _SYNTAX and level is not None:
            rule = f"{SQUAWK}{one.rule}"
            yield Finding(rule, revision, one.message, level, statement=shown(text, DIALECT))


def _level(rule: str, verdict: Verdict, rules: Findings) -> Level | None:
    level = rules.level(f"{SQUAWK}{rule}")
    if level == "off":
        return None
    if verdict.new and rule not in _ALWAYS and not rule.startswith(_TASTE):
        return None
    if verdict.filled and rule == "adding-not-nullable-field":
        return None
    if f"{SQUAWK}{rule}" in rules.rules:
        return level
    lighter = (verdict.small and rule in _OF_SIZE) or (verdict.alike and rule == "changing-column-type")
    return "info" if lighter else level


def _stand_in(text: str) -> str:
    made = [table for command in ddl.read(text, DIALECT) for table in (*command.creates, *command.provides)]
    return " ".join(f"CREATE TABLE {'.'.join(map(_quoted, filter(None, (one.schema, one.name))))} ();" for one in made)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("\n", " ") + '"'


def _message(one: Mapping[str, object]) -> str:
    parts = [str(part).strip() for part in (one["message"], one.get("help")) if part]
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)
