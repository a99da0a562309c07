"""Steps that were recorded while env.py ran them: a revision that reads only the catalog does the same on every target
with the same heads and the same schema. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.plan.compiled import Mark, RenderedStep, Rendering
from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.statements import commands

# What is recorded on one target may hold what is its own: its name, an object's number. So it takes two.
LEAST = 2
MAY_BE = "where it reads the catalog only, it is recorded on the first targets"
# Commands that make of the data what they like: afterwards two schemas that were equal may differ. What is imported is
# another server's, and which version of an extension there is, too.
_AT_WILL = frozenset({"do", "call", "select", "with", "values", "execute", "import"})
_OF_EXTENSIONS = (["create", "extension"], ["alter", "extension"])
# What a function does that makes schemas differ, and where functions are called by what names none.
_MAKES = re.compile(r"\b(?:execute|create|alter|drop)\b", re.IGNORECASE)
_OF_TYPES = re.compile(r"(?:CREATE|DROP) (?:TYPE|DOMAIN) ")
_CALLING = ("trigger |", "event trigger |")
_ELSEWHERE = frozenset({"search_path", "schema", "role", "authorization"})


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """What one revision has sent to one target: statements in order, with the boundaries of autocommit blocks between
    them. `reason` says why nobody else may be sent the same. `schema`: what it began with, as lines, where what came
    before may make schemas differ. `at_will`: it may, too, by functions that what it sends need not name."""

    items: tuple[str | Mark, ...] = ()
    reason: str | None = None
    schema: tuple[str, ...] | None = None
    at_will: bool = False


Recording = Mapping[str, RecordedStep]


def filled(rendering: Rendering, recordings: Sequence[Recording]) -> Rendering:
    """The rendering with what was recorded in the place of steps that could not be rendered; `recordings` are those of
    several targets, whose schemas were equal before the plan.

    What comes after a step that runs online, or that makes of data what it likes, may find another schema on the next
    target. It is recorded all the same where it is known which one it found: its script has that for a gate.
    """
    steps: list[RenderedStep] = []
    gates: dict[int, str] = {}
    barrier: str | None = None
    known: tuple[int, str] | None = None  # the last step after a barrier whose schema is known, and that
    for place, step in enumerate(rendering.steps):
        if barrier is not None and (schema := _schema_before(step, rendering, recordings)) is not None:
            barrier, known = None, (place, schema)
        if step.asks and step.reason is not None:
            step = _filled(step, rendering, recordings, barrier)
            if step.reason is None and known is not None:
                gates[known[0]] = known[1]
        elif step.reason is None and any(one.asks and one.reason is None for one in steps):
            step = _as_seen(step, rendering, recordings)
        steps.append(step)
        if step.reason is not None:
            barrier, known = barrier or f"it comes after {step.revision}, which runs online", None
        elif _acts_at_will(step, recordings):
            barrier, known = f"it comes after {step.revision}, which may do otherwise where the data is another", None
    return replace(rendering, steps=tuple(replace(step, gate=gates.get(place)) for place, step in enumerate(steps)))


def digest(schema: Iterable[str]) -> str:
    """Of a schema's lines, equal for equal schemas."""
    return hashlib.sha256("\n".join(schema).encode()).hexdigest()


def _acts_at_will(step: RenderedStep, recordings: Sequence[Recording]) -> bool:
    found = [recording[step.revision] for recording in recordings if step.revision in recording]
    sent = (item for item in step.items if isinstance(item, str))
    return any(one.at_will for one in found) or any(map(acts_at_will, sent))


def _schema_before(step: RenderedStep, rendering: Rendering, recordings: Sequence[Recording]) -> str | None:
    """The schema that all have had before the step, where it can be told again: a transaction begins there."""
    found = {recording[step.revision].schema if step.revision in recording else None for recording in recordings}
    (schema,) = found if len(found) == 1 else (None,)
    return digest(schema) if schema is not None and not rendering.before else None


def told(rendering: Rendering) -> Rendering:
    """The rendering, of which each step that may be recorded says so: what it asks, nobody knows before it has run."""
    steps = (replace(one, reason=f"{one.reason}; {MAY_BE}") if one.asks else one for one in rendering.steps)
    return replace(rendering, steps=tuple(steps))


def acts_at_will(sql: str) -> bool:
    """Whether a statement may change the schema as the data, chance, or a server's installation tells it to.

    >>> [acts_at_will(sql) for sql in ("DO $$ … $$", "SELECT f()", "INSERT INTO t SELECT 1", "CREATE TABLE t (a int)")]
    [True, True, False, False]
    """
    try:
        return any(words[0] in _AT_WILL or words[:2] in _OF_EXTENSIONS for words in commands(sql))
    except UnterminatedError:
        return True


def goes_by_data(schema: Iterable[str], *, whole: bool) -> bool:
    """Whether any statement may change this schema as the data tells it to: there are functions that do. `whole`: the
    lines are all of a database's, so that there are none elsewhere.

    >>> goes_by_data(["function | CREATE FUNCTION f() … EXECUTE format('CREATE TABLE %s', NEW.name)"], whole=True)
    True
    >>> [goes_by_data(["trigger | CREATE TRIGGER t … EXECUTE FUNCTION f()"], whole=whole) for whole in (True, False)]
    [False, True]
    """
    return any(
        _makes_more(line) if line.startswith("function |") else not whole and line.startswith(_CALLING)
        for line in schema
    )


def brings_such(sql: str) -> bool:
    """Whether a statement makes a function of that kind.

    >>> [brings_such(f"CREATE OR REPLACE FUNCTION f() … {body}") for body in ("DROP TABLE t", "RETURN NEW")]
    [True, False]
    """
    try:
        return any(_makes_function(words) for words in commands(sql)) and _makes_more(sql)
    except UnterminatedError:
        return True


def _makes_function(words: list[str]) -> bool:
    kind = words[3:4] if words[:3] == ["create", "or", "replace"] else words[1:2]
    return words[0] == "create" and kind in (["function"], ["procedure"])


def _makes_more(function: str) -> bool:
    """Beside itself."""
    return len(_MAKES.findall(function)) > 1


def looks_elsewhere(sql: str) -> bool:
    """Whether a statement lets names mean something else, or another role ask, until its transaction ends.

    >>> [looks_elsewhere(f"SET LOCAL {what}") for what in ("search_path = a", "ROLE b", "lock_timeout = 1")]
    [True, True, False]
    """
    try:
        return any(words[0] == "set" and not _ELSEWHERE.isdisjoint(words) for words in commands(sql))
    except UnterminatedError:
        return True


def _filled(
    step: RenderedStep, rendering: Rendering, recordings: Sequence[Recording], barrier: str | None
) -> RenderedStep:
    found = [recording.get(step.revision) for recording in recordings]
    known = [one for one in found if one is not None]
    if len(known) < LEAST or len(known) < len(found):
        return replace(step, reason=f"{step.reason}; it was not recorded")
    if (why := next((one.reason for one in known if one.reason is not None), None)) is not None:
        return replace(step, reason=why)
    if any(one.items != known[0].items for one in known):
        return replace(step, reason="what was recorded of it on two targets differs")
    if barrier is not None:
        return replace(step, reason=f"{step.reason}; {barrier}")
    if not rendering.before and step.items[:1] != (Mark.BEGIN,):
        return replace(step, reason="env.py begins no transaction in offline mode")
    return replace(step, items=_whole(known[0], rendering), reason=None, wire=None)


def _as_seen(step: RenderedStep, rendering: Rendering, recordings: Sequence[Recording]) -> RenderedStep:
    """A step that could be rendered, as it was sent after one that could not: Alembic makes no type of the same name
    twice in one run, and the rendering does not know of those that it has not come to."""
    found = [recording.get(step.revision) for recording in recordings]
    known = {one.items for one in found if one is not None and one.reason is None}
    if len(known) != 1 or any(one is None or one.reason is not None for one in found):
        return step
    (items,) = known
    whole = _whole(RecordedStep(items), rendering)
    return replace(step, items=whole, wire=None) if _but_for_types(step.items, whole) else step


def _but_for_types(rendered: Sequence[str | Mark], seen: Sequence[str | Mark]) -> bool:
    """Whether it was sent as it was rendered, without some types that it would have made, or dropped, again. Another
    difference is left to whoever compares what was sent: nobody was shown that SQL."""
    ahead = list(seen)
    for item in rendered:
        if ahead and ahead[0] == item:
            ahead.pop(0)
        elif isinstance(item, Mark) or not _OF_TYPES.match(item):
            return False
    return not ahead and tuple(rendered) != tuple(seen)


def _whole(recorded: RecordedStep, rendering: Rendering) -> tuple[str | Mark, ...]:
    """With the transaction that env.py makes of each revision, where it does."""
    return recorded.items if rendering.before else (Mark.BEGIN, *recorded.items, Mark.COMMIT)
