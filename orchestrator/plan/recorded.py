"""Steps that were recorded while env.py ran them: a revision that reads only the catalog does the same on every target
with the same heads and the same schema. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.plan.compiled import Mark, RenderedStep, Rendering
from orchestrator.plan.statements import UnterminatedError, commands

# What is recorded on one target may hold what is its own: its name, an object's number. So it takes two.
LEAST = 2
# Commands that make of the data what they like: afterwards two schemas that were equal may differ.
_AT_WILL = frozenset({"do", "call", "select", "with", "values", "execute"})


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """What one revision has sent to one target: statements in order, with the boundaries of autocommit blocks between
    them. `reason` says why nobody else may be sent the same."""

    items: tuple[str | Mark, ...] = ()
    reason: str | None = None


Recording = Mapping[str, RecordedStep]


def filled(rendering: Rendering, recordings: Sequence[Recording]) -> Rendering:
    """The rendering with what was recorded in the place of steps that could not be rendered; `recordings` are those of
    several targets, whose schemas were equal before the plan.

    What comes after a step that runs online, or that makes of data what it likes, may find another schema on the next
    target, and is not known to be what was recorded.
    """
    steps: list[RenderedStep] = []
    barrier: str | None = None
    for step in rendering.steps:
        if step.asks and step.reason is not None:
            step = _filled(step, rendering, recordings, barrier)
        steps.append(step)
        if barrier is None and step.reason is not None:
            barrier = f"it comes after {step.revision}, which runs online"
        if barrier is None and any(isinstance(item, str) and acts_at_will(item) for item in step.items):
            barrier = f"it comes after {step.revision}, which may do otherwise where the data is another"
    return replace(rendering, steps=tuple(steps))


def acts_at_will(sql: str) -> bool:
    """Whether a statement may change the schema as the data, or chance, tells it to.

    >>> [acts_at_will(sql) for sql in ("DO $$ … $$", "SELECT f()", "INSERT INTO t SELECT 1", "CREATE TABLE t (a int)")]
    [True, True, False, False]
    """
    try:
        return any(words[0] in _AT_WILL for words in commands(sql))
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
    if any(one != known[0] for one in known):
        return replace(step, reason="what was recorded of it on two targets differs")
    if barrier is not None:
        return replace(step, reason=f"{step.reason}; {barrier}")
    alone = not rendering.before
    if alone and step.items[:1] != (Mark.BEGIN,):
        return replace(step, reason="env.py begins no transaction in offline mode")
    items = (Mark.BEGIN, *known[0].items, Mark.COMMIT) if alone else known[0].items
    return replace(step, items=items, reason=None)
