"""A plan rendered to SQL, and cut into the segments that run one after the other. Pure.

A *segment* is what runs in one go: a script of SQL, sent as it stands, or a stretch of revisions that env.py must run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Heads


class Mark(StrEnum):
    """A transaction boundary, where env.py or an autocommit block put it."""

    BEGIN = "begin"
    COMMIT = "commit"


# Why a revision with backfills runs online. It commits after each batch, so it shares no transaction with others.
IN_BATCHES = "it changes rows in batches"


@dataclass(frozen=True, slots=True)
class RenderedStep:
    """One revision as SQL: statements in order, with the boundaries between them.

    `heads` is what the version table holds after it. `reason` says why it has to run online; then `items` holds
    boundaries only. `asks`: for no other reason than that it asks its connection something, so that what it does may
    be recorded (`plan.recorded`); without a reason, it was. `gate`: as of `Script`. `lingers` is what it may leave in
    its session or ask of it (`plan.lingering`). `wire`: as `items`, with digests of what env.py's driver is handed in
    the place of statements (`plan.sent`); None where it was recorded.
    """

    revision: str
    heads: Heads
    items: tuple[str | Mark, ...] = ()
    reason: str | None = None
    asks: bool = False
    gate: str | None = None
    lingers: str | None = None
    wire: tuple[str | Mark, ...] | None = field(default=(), repr=False)

    @property
    def is_backfill(self) -> bool:
        return self.reason == IN_BATCHES


@dataclass(frozen=True, slots=True)
class Rendering:
    """All steps of a plan. `before` holds the boundaries that come before the first step; `create_version` makes the
    version table, under a name that stands for the target's (see `VERSION_TABLE`). `unmarked`: there are no boundaries,
    and Alembic commits after each step."""

    steps: tuple[RenderedStep, ...]
    before: tuple[Mark, ...] = ()
    create_version: str | None = None
    unmarked: bool = False


# What is written in `Rendering.create_version` for a target's version table and its schema.
VERSION_TABLE = "orchestrator_version_table_name"
VERSION_SCHEMA = "orchestrator_version_schema_name"


@dataclass(frozen=True, slots=True)
class Begun:
    """From here on it is this revision's SQL."""

    revision: str


@dataclass(frozen=True, slots=True)
class Move:
    """The version table goes from holding `before` to holding `after`."""

    before: Heads
    after: Heads


@dataclass(frozen=True, slots=True)
class Script:
    """SQL that is sent as it stands. A `transactional` one is a transaction of its own; the statements of another are
    sent one by one, each for itself. `revisions` are those that it completes; `continues` is the one whose first part
    was committed before. `gate`: the digest of the schema that a target must have by then, where what follows was
    recorded on others, and what came before may make schemas differ."""

    transactional: bool
    before: Heads
    after: Heads
    items: tuple[str | Begun | Move, ...]
    _: KW_ONLY
    revisions: tuple[str, ...] = ()
    creates_version: bool = False
    continues: str | None = None
    gate: str | None = None


@dataclass(frozen=True, slots=True)
class Online:
    """Revisions that env.py runs, with the reason for each."""

    before: Heads
    after: Heads
    revisions: tuple[str, ...]
    reasons: tuple[str, ...]


Segment = Script | Online


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan's segments; `digest` covers every statement in them. `per_migration`: each revision has a transaction.
    `rendering`: as it was before it was cut; `asks`: there are revisions in it that may be recorded; `recorded`: those
    that were."""

    plan: Plan
    segments: tuple[Segment, ...]
    create_version: str | None = None
    per_migration: bool = False
    digest: str = field(default="", compare=False)
    asks: bool = field(default=False, compare=False)
    recorded: tuple[str, ...] = ()
    rendering: Rendering | None = field(default=None, compare=False, repr=False)

    @property
    def replayable(self) -> bool:
        """Whether some of it is SQL."""
        return any(isinstance(segment, Script) for segment in self.segments)


def agreed(first: Rendering, second: Rendering) -> Rendering:
    """What two renderings, made for two tenants, have in common. A step that differs must run online.

    It holds something that was made up while it was rendered (a random id, the time, the tenant's name): replayed, one
    tenant's value would reach all others.
    """
    if first.before != second.before or first.create_version != second.create_version:
        reason = "env.py sets up its transactions or its version table differently from run to run"
        return all_online(first, reason)
    if [step.revision for step in first.steps] != [step.revision for step in second.steps]:
        return all_online(first, "env.py runs other revisions from run to run")
    pairs = zip(first.steps, second.steps, strict=True)
    return replace(first, steps=tuple(_agreed(*pair) for pair in pairs))


def _agreed(first: RenderedStep, second: RenderedStep) -> RenderedStep:
    if first == second:
        return first
    if first.reason is not None:
        return replace(first, asks=first.asks and second.asks)
    reason = second.reason or "its SQL differs from run to run or from tenant to tenant"
    return replace(first, items=_boundaries(first.items), reason=reason)


def all_online(rendering: Rendering, reason: str) -> Rendering:
    steps = (replace(step, items=_boundaries(step.items), reason=step.reason or reason) for step in rendering.steps)
    return Rendering(tuple(steps))


def _boundaries(items: Iterable[str | Mark]) -> tuple[Mark, ...]:
    return tuple(item for item in items if isinstance(item, Mark))


def compiled(plan: Plan, rendering: Rendering) -> Compiled:
    """Cut the rendering into segments. Raises ValueError when it is not of this plan."""
    if tuple(step.revision for step in rendering.steps) != plan.steps:
        raise ValueError("the rendering is not of this plan")
    rendering = _each_alone(rendering) if rendering.unmarked else rendering
    whole = _in_one_session(_of_whole_transactions(rendering))
    segments = cut(plan, whole)
    create = whole.create_version if not plan.provisioned else None
    asks = any(step.asks for step in rendering.steps)
    recorded = tuple(step.revision for step in whole.steps if step.asks and step.reason is None)
    digest = _digest(segments, create)
    return Compiled(plan, segments, create, not rendering.before, digest, asks, recorded, rendering)


def _each_alone(rendering: Rendering) -> Rendering:
    """Each step of SQL in a transaction of its own."""
    steps = [
        step if step.reason is not None else replace(step, items=(Mark.BEGIN, *step.items, Mark.COMMIT))
        for step in rendering.steps
    ]
    return replace(rendering, steps=tuple(steps))


def cut(plan: Plan, rendering: Rendering) -> tuple[Segment, ...]:
    """The rendering's segments as they would be if each revision could run in its own way: to be looked at."""
    walk = _Cut(plan, creates_version=not plan.provisioned)
    walk.follow(rendering.before)
    for step in rendering.steps:
        walk.add(step)
    return walk.finished()


def stretches(segments: Sequence[Segment]) -> Iterator[Online | tuple[Script, ...]]:
    """Scripts that follow each other are sent together, up to the next gate."""
    together: list[Script] = []
    for segment in segments:
        if together and (isinstance(segment, Online) or segment.gate is not None):
            yield tuple(together)
            together = []
        if isinstance(segment, Online):
            yield segment
        else:
            together.append(segment)
    if together:
        yield tuple(together)


def _of_whole_transactions(rendering: Rendering) -> Rendering:
    """Where env.py has one transaction for all revisions, it stays one: if one of them runs online, all do. A backfill
    ends it, and another begins after it, so those before and those after it stand for themselves."""
    if not rendering.before or all(step.reason is None for step in rendering.steps):
        return rendering
    together = [list(steps) for _, steps in groupby(rendering.steps, key=lambda step: step.is_backfill)]
    parts = [Rendering(tuple(steps), rendering.before, rendering.create_version) for steps in together]
    steps = tuple(step for one in map(_undivided, parts) for step in one.steps)
    if all(step.reason is not None for step in steps):
        return Rendering(steps)
    return replace(rendering, steps=steps)


def _in_one_session(rendering: Rendering) -> Rendering:
    """Where some revisions run online and others do not, there are two sessions: what one of the revisions may leave in
    its session, or ask of it, is for all of env.py's."""
    online = next((step for step in rendering.steps if step.reason is not None), None)
    lingering = next((step for step in rendering.steps if step.lingers is not None), None)
    if online is None or lingering is None:
        return rendering
    which = "it" if online is lingering else f"{online.revision} runs online, and {lingering.revision}"
    return all_online(rendering, f"{which} may leave something in its session, or ask for it: {lingering.lingers}")


def _undivided(rendering: Rendering) -> Rendering:
    """Of the steps of one transaction, or of backfills."""
    online = next((step for step in rendering.steps if step.reason is not None), None)
    if online is None or online.is_backfill:
        return rendering
    return all_online(rendering, f"it shares a transaction with {online.revision}, which runs online")


def _digest(segments: Sequence[Segment], create_version: str | None) -> str:
    """SHA-256 over all that the segments would send; not over the reasons, which may be worded by anybody."""
    sent = [replace(segment, reasons=()) if isinstance(segment, Online) else segment for segment in segments]
    return hashlib.sha256(repr((sent, create_version)).encode()).hexdigest()


class _Cut:
    """Walks over the steps and closes a segment where a transaction or a way of running ends."""

    def __init__(self, plan: Plan, creates_version: bool) -> None:
        self._segments: list[Segment] = []
        self._heads = self._before = plan.heads
        self._items: list[str | Begun | Move] = []
        self._revisions: list[str] = []
        self._in_transaction = False
        self._creates_version = creates_version
        self._continues: str | None = None
        self._gate: str | None = None

    def follow(self, marks: Iterable[str | Mark]) -> None:
        for mark in marks:
            if isinstance(mark, Mark):
                self._close_script()
                self._in_transaction = mark is Mark.BEGIN

    def add(self, step: RenderedStep) -> None:
        if step.reason is not None:
            self._close_script()
            self._add_online(step, step.reason)
            self.follow(step.items)
            return
        self._gate = step.gate
        tail = list(step.items)
        ending = []
        while tail and tail[-1] is Mark.COMMIT:  # the version table is written before the step's transaction ends
            ending.append(tail.pop())
        begun = sent = False
        for item in tail:
            if isinstance(item, Mark):
                self.follow([item])
                begun = False
                self._continues = step.revision if sent else None
                continue
            sent = True
            if not begun:
                self._items.append(Begun(step.revision))
                begun = True
            self._items.append(item)
        self._items.append(Move(self._heads, step.heads))
        self._heads = step.heads
        self._revisions.append(step.revision)
        self.follow(ending)

    def finished(self) -> tuple[Segment, ...]:
        self._close_script()
        return tuple(self._segments)

    def _add_online(self, step: RenderedStep, reason: str) -> None:
        last = self._segments[-1] if self._segments else None
        self._creates_version = False  # env.py makes it
        if isinstance(last, Online):
            revisions, reasons = (*last.revisions, step.revision), (*last.reasons, reason)
            self._segments[-1] = Online(last.before, step.heads, revisions, reasons)
        else:
            self._segments.append(Online(self._heads, step.heads, (step.revision,), (reason,)))
        self._heads = self._before = step.heads

    def _close_script(self) -> None:
        if self._items:
            script = Script(
                self._in_transaction,
                self._before,
                self._heads,
                tuple(self._items),
                revisions=tuple(self._revisions),
                creates_version=self._creates_version,
                continues=self._continues,
                gate=self._gate,
            )
            self._segments.append(script)
            self._creates_version, self._continues, self._gate = False, None, None
        self._before = self._heads
        self._items, self._revisions = [], []
