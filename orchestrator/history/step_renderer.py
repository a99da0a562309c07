"""Collects what revisions render to in Alembic's offline mode, with the reasons why some must run online."""

from __future__ import annotations

import dis
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy.exc import CompileError

from orchestrator.history import failures
from orchestrator.history.bind import ReadsDatabaseError
from orchestrator.history.jobs import CompileJob
from orchestrator.history.mixed import asks_of_backfills, holds_backfill
from orchestrator.history.outside import outside, texts
from orchestrator.history.progress import steps_of
from orchestrator.history.sources import besides
from orchestrator.history.spoken import Spoken
from orchestrator.plan.compiled import IN_BATCHES, Mark, RenderedStep
from orchestrator.plan.lingering import lingers
from orchestrator.plan.objections import leaves_session, objection
from orchestrator.registry.model import MYSQL_DIALECTS

# A shorter value stands in too many texts by accident.
SHORTEST_SECRET = 8
_SOUNDS_SECRET = re.compile(r"passw|pwd|secret|token|credential|private|(?:^|_)(?:api)?_?key(?:$|_)", re.IGNORECASE)
_SHELLS = frozenset({"PWD", "OLDPWD"})  # where it is, and was


def _hidden(job: CompileJob) -> Sequence[tuple[str, str]]:
    """Variables of the track whose values are secrets, and those of ours that sound so: from them an installed package
    may take the project's settings."""
    tracks = [(name, value) for name, value in job.environment.items() if value in job.secrets]
    ours = ((name, value) for name, value in sorted(os.environ.items()) if len(value) >= SHORTEST_SECRET)
    return tracks + [(name, value) for name, value in ours if _SOUNDS_SECRET.search(name) and name not in _SHELLS]


class StepRenderer:
    """Collects what Alembic emits, step by step."""

    def __init__(self, job: CompileJob, scripts: ScriptDirectory) -> None:
        self.job, self.scripts = job, scripts
        self.before: list[Mark] = []
        self.steps: list[RenderedStep] = []
        self.create_version: str | None = None
        self.current: str | None = None
        self.everywhere = besides(str(Path(scripts.dir, "env.py")))
        self._hidden = _hidden(job)
        self.afterwards: str | None = None
        self._items: list[str | Mark] = []
        self._wire: list[str | Mark] = []
        self._reason: str | None = None
        self._asks = False
        self._heads: tuple[str, ...] = ()
        self._does_nothing = self.marked = False

    # What Alembic calls

    def walk(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        """Alembic's `fn`: the steps to render, each guarded so that a failure stays its own."""
        for step in steps_of(self.scripts, self.job.plan, heads):
            self.current, self._items, self._wire = step.revision.revision, [], []
            backfills = self._backfills(step.revision)
            self._reason = backfills or _opted_out(step.revision.module) or outside(step.revision.path)
            self._reason, self._asks = self._reason or self.everywhere, False
            self._does_nothing = _is_empty(step.migration_fn)
            # What will run online anyway is not run once more than it must: it may do anything.
            step.migration_fn = self._guarded(step.migration_fn) if self._reason is None else _nothing_of_it
            yield step
            self.steps.append(self._step(step.revision.path))
            self.current = None

    def _backfills(self, revision: Script) -> str | None:
        source = Path(revision.path).read_bytes()
        if holds_backfill(source, self.job.plan.direction):
            return IN_BATCHES
        asked = asks_of_backfills(source)
        return f"it asks the database (`op.{asked}`)" if asked else None

    def applied(self, ctx: Any, step: Any, heads: Any, run_args: Any, **_: Any) -> None:
        """Alembic's `on_version_apply`."""
        self._heads = tuple(sorted(heads))

    def mark(self, mark: Mark) -> None:
        self.marked = True
        if self.job.dialect in MYSQL_DIALECTS:
            self.everywhere = "env.py says that DDL is transactional, which it is not there"
            self.note(self.everywhere)
        elif self.job.dialect != "postgresql" and mark is Mark.BEGIN and Mark.COMMIT in self._items:
            self.note("it commits in the middle")
        if self.current is None and not self.steps:
            self.before.append(mark)
        else:
            self._items.append(mark)
            self._wire.append(mark)

    def note(self, reason: str) -> None:
        """Keep the first reason why the current revision has to run online."""
        self._reason, self._asks = self._reason or reason, False

    def asked(self, reason: str) -> None:
        """The current revision has asked its connection: where that is the only reason, it may be recorded."""
        self._asks = self._asks or (self._reason is None and self.job.dialect == "postgresql")
        self._reason = self._reason or reason

    def said(self, spoken: Spoken) -> None:
        for sql in spoken.texts:
            self.add(sql)
        self._wire += spoken.wire

    def add(self, sql: str) -> None:
        if self.current is None:
            self.everywhere = self.afterwards = "env.py sends statements of its own"
            return
        problem = self._objection(sql)
        if problem:
            self._follow([problem])
            self.note(problem)
        self._items.append(sql)

    def _follow(self, problems: Iterable[str | None]) -> None:
        """What comes after a revision that changes its session runs in that session."""
        if any(problem and leaves_session(problem) for problem in problems):
            self.everywhere = self.everywhere or f"{self.current} runs before it, and changes its session"

    def _objection(self, sql: str) -> str | None:
        if self.job.dialect != "postgresql":
            return objection(sql, self.job.dialect) if self.job.server is not None else None
        return objection(sql, "postgresql") or (None if self.marked else "env.py begins no transaction in offline mode")

    def _step(self, file: str) -> RenderedStep:
        assert self.current is not None
        if not self._asks and not self._does_nothing and all(isinstance(item, Mark) for item in self._items):
            self.note("it sends no SQL, so what it does is done elsewhere")
        items = tuple(self._items)
        sent = [item for item in items if not isinstance(item, Mark)]
        reason = self._reason and failures.redact(self._reason, self.job.secrets)
        if reason:
            own = tuple(texts(file))  # it need not have been rendered to its end
            sent += own
            if self.job.dialect == "sqlite":  # of other databases, see `lingers`
                self._follow(objection(text, "sqlite") for text in own)
            items = tuple(item for item in items if isinstance(item, Mark))
        if not reason and (named := self._secret(sent)) is not None:
            reason = f"it sends the value of {named}, which may be a secret"
            items = tuple(item for item in items if isinstance(item, Mark))
        lingering = next(filter(None, map(lingers, sent)), None)
        wire = items if reason else tuple(self._wire)
        return RenderedStep(self.current, self._heads, items, reason, self._asks, lingers=lingering, wire=wire)

    def _secret(self, sent: Iterable[str]) -> str | None:
        """The variable whose value stands in SQL, which all are shown who may look at plans."""
        text = "\n".join(sent)
        return next((name for name, value in self._hidden if failures.shows(text, value)), None)

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        def guarded(**options: Any) -> None:
            if options:
                self.note(f"env.py gives it arguments: {', '.join(sorted(options))}")
            try:
                function(**options)
            except ReadsDatabaseError as exc:
                self.asked(str(exc))
            except (Exception, SystemExit) as exc:
                self.note(_in_words(exc))

        return guarded


def _in_words(exc: BaseException) -> str:
    """Without the values that SQLAlchemy repeats when it has no literal for them."""
    text = "" if isinstance(exc, CompileError) else f": {' '.join(str(exc).split())[:200]}"
    return f"it cannot be rendered: {type(exc).__name__}{text}"


def _opted_out(module: Any) -> str | None:
    """A revision says `execution = "online"` at module level to have itself run by env.py."""
    return "it says `execution = 'online'`" if getattr(module, "execution", None) == "online" else None


def _nothing() -> None:
    pass


def _nothing_of_it(**options: Any) -> None:
    """In place of what is not to be rendered."""


_NOTHING = [step.opname for step in dis.get_instructions(_nothing)]


def _is_empty(function: Any) -> bool:
    """Whether the function's body is `pass`, a docstring, or both."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_names or code.co_freevars:
        return False
    return [step.opname for step in dis.get_instructions(code)] == _NOTHING
