"""Render a plan to SQL through the project's own env.py, in Alembic's offline mode.

Statements are taken where Alembic emits them, one by one and as they are (its own offline output turns tabs into
spaces, inside of quoted text too). What cannot be rendered faithfully runs online, each revision for itself, with the
reason. Runs the project's code, once more than an upgrade would: only ever called in a worker process.
"""

from __future__ import annotations

import dis
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CreateTable, DropTable

from orchestrator.errors import MigrationFailedError
from orchestrator.history import applications, failures, index_order, seen, session, tasklocal, watching
from orchestrator.history import config as configuration
from orchestrator.history.arguments import TENANT, Arguments
from orchestrator.history.bind import ReadsDatabaseError, SilentBind
from orchestrator.history.environment import settle, steps_of
from orchestrator.history.jobs import CompileJob
from orchestrator.history.literals import Literals, Pieces
from orchestrator.history.mixed import asks_of_backfills, holds_backfill
from orchestrator.history.outside import mentioned, outside, texts
from orchestrator.history.rehearsal import dialect_like
from orchestrator.history.sources import besides
from orchestrator.history.spoken import Speaker, Spoken
from orchestrator.plan.compiled import (
    IN_BATCHES,
    VERSION_SCHEMA,
    VERSION_TABLE,
    Mark,
    RenderedStep,
    Rendering,
    all_online,
)
from orchestrator.plan.lingering import lingers, type_made
from orchestrator.plan.objections import leaves_session, objection
from orchestrator.registry.model import MYSQL_DIALECTS


def render(job: CompileJob, scripts: ScriptDirectory) -> Rendering:
    """The plan's steps as SQL, or with the reason why they must run online.

    Raises TargetError when env.py itself cannot be run offline.
    """
    tasklocal.install()
    session.install()
    rendering = _Rendering(job, scripts)
    config = configuration.make(job.track, url=job.url, tenant=job.tenant)
    try:
        with (
            session.refused(),
            watching.environ(job.environment, rendering),
            applications.entered(scripts.dir),
            _Environment(config, scripts, job, rendering),
        ):
            scripts.run_env()
    except BaseException as exc:
        raise failures.translate(exc, rendering.current, scripts.dir, job.secrets) from exc
    if [step.revision for step in rendering.steps] != list(job.plan.steps):
        raise MigrationFailedError("env.py ended in offline mode without rendering all revisions")
    unmarked = job.dialect != "postgresql" and not rendering.marked
    found = Rendering(tuple(rendering.steps), tuple(rendering.before), rendering.create_version, unmarked)
    if rendering.afterwards is not None:
        return all_online(found, rendering.afterwards)
    return _sharing_types(found, scripts)


def _sharing_types(rendering: Rendering, scripts: ScriptDirectory) -> Rendering:
    """The rendering, of which each revision that runs online says so if it may name a type that another makes."""
    sent = (item for step in rendering.steps if step.reason is None for item in step.items if isinstance(item, str))
    made = set(filter(None, map(type_made, sent)))

    def told(step: RenderedStep) -> RenderedStep:
        if not made or step.reason is None or step.is_backfill or step.lingers is not None:
            return step
        name = mentioned(scripts.get_revision(step.revision).path, made)
        return step if name is None else replace(step, lingers=f"type {name}, which is made once in a run of env.py")

    return replace(rendering, steps=tuple(map(told, rendering.steps)))


class _Rendering:
    """Collects what Alembic emits, step by step."""

    def __init__(self, job: CompileJob, scripts: ScriptDirectory) -> None:
        self.job, self.scripts = job, scripts
        self.before: list[Mark] = []
        self.steps: list[RenderedStep] = []
        self.create_version: str | None = None
        self.current: str | None = None
        self.everywhere = besides(str(Path(scripts.dir, "env.py")))
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
        """The variable whose value stands in SQL, which all are shown who may look at plans: one of the track's, or of
        ours, from which an installed package may take the project's settings."""
        hidden = [(name, value) for name, value in self.job.environment.items() if value in self.job.secrets]
        ours = ((name, value) for name, value in sorted(os.environ.items()) if len(value) >= SHORTEST_SECRET)
        hidden += [(name, value) for name, value in ours if _SOUNDS_SECRET.search(name)]
        return next((name for sql in sent for name, value in hidden if failures.shows(sql, value)), None)

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


# A shorter value stands in too many texts by accident.
SHORTEST_SECRET = 8
_SOUNDS_SECRET = re.compile(r"passw|pwd|secret|token|credential|private|(?:^|_)(?:api)?_?key(?:$|_)", re.IGNORECASE)


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


def _notice_arguments(options: Any, asked: Callable[[], None]) -> None:
    """Notice whoever looks for `-x` where Alembic's command line keeps it."""

    class Watched(type(options)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name == "x" and not watching.is_library(sys._getframe(1).f_globals.get("__name__", "")):
                asked()
            return super().__getattribute__(name)

    options.__class__ = Watched


class _Environment(watching.WatchedEnvironment):
    """Offline mode, with our bind, our literals, and statements taken where they are emitted."""

    def __init__(self, config: Config, scripts: ScriptDirectory, job: CompileJob, rendering: _Rendering) -> None:
        starting: Any = list(job.plan.heads) or "base"
        destination: Any = list(job.plan.goal) or "base"
        options = {"starting_rev": starting, "destination_rev": destination, "tag": None}
        self._job, self._rendering = job, rendering
        _notice_arguments(config.cmd_opts, self._by_tenant)
        super().__init__(config, scripts, fn=rendering.walk, as_sql=True, **options)

    def get_x_argument(self, as_dictionary: bool = False) -> Any:
        found = super().get_x_argument(as_dictionary)
        if as_dictionary:
            return Arguments(found, lambda key: self._by_tenant() if key == TENANT else None)
        self._by_tenant()
        return found

    def _by_tenant(self) -> None:
        self._rendering.everywhere = "env.py asks which tenant it is for, and may treat one unlike another"

    def asked(self, what: str) -> None:
        if self._rendering.current is not None:
            self._rendering.note(f"it asks {what}")

    def configure(self, connection: Any = None, *args: Any, **options: Any) -> None:
        if connection is not None:
            raise MigrationFailedError("env.py gives Alembic a connection in offline mode too")
        settle(self._job, options)
        options["version_table"] = VERSION_TABLE
        if options.get("version_table_schema") is not None:
            options["version_table_schema"] = VERSION_SCHEMA
        if options.get("on_version_apply"):
            self._rendering.everywhere = "env.py has `on_version_apply` callbacks, which only run online"
        options["on_version_apply"] = (self._rendering.applied,)
        options["literal_binds"] = True
        # Other styles double each percent sign, also in texts.
        options["dialect_opts"] = {**(options.get("dialect_opts") or {}), "paramstyle": "named"}
        options["output_buffer"] = io.StringIO()
        super().configure(None, *args, **options)
        context = self.get_context()
        if context.dialect.name != self._job.dialect:
            raise MigrationFailedError(f"env.py is set up for {context.dialect.name} in offline mode")
        _meet(context.dialect, self._job)
        _take_over(context, self._rendering)


def _drops(construct: Any, table: Any) -> bool:
    """So Alembic does to the version table, offline only, when no revision is left."""
    return isinstance(construct, DropTable) and construct.element is table


def _meet(dialect: Dialect, job: CompileJob) -> None:
    """Let it render for the job's server, where that makes a difference."""
    if job.server and job.dialect in MYSQL_DIALECTS:
        seen.meet(dialect, job.server)


class _Output:
    """Takes what Alembic would write to its output, statement by statement."""

    def __init__(self, context: MigrationContext, rendering: _Rendering) -> None:
        self._impl, self._rendering, self._version = context.impl, rendering, context._version
        self._dialect, self._literals = context.dialect, Literals(context.dialect)
        rehearsed = dialect_like(context.dialect, context.opts.get("dialect_opts") or {})
        _meet(rehearsed, rendering.job)
        self._speaker = Speaker(self._literals, rehearsed)
        self._insert_rows = self._impl.bulk_insert
        self._gathered: list[Pieces] | None = None

    def take(self, construct: Any, parameters: Mapping[str, Any]) -> None:
        if getattr(construct, "table", None) is self._version or _drops(construct, self._version):
            return  # the version table is our own business
        if isinstance(construct, CreateTable) and construct.element is self._version:
            self._rendering.create_version = self._literals.render(construct, {})
            return
        if seen.hangs_on_version(construct, self._dialect):
            self._rendering.note("its SQL hangs on the server's version")
        pieces = self._speaker.pieces(construct, parameters)
        if self._gathered is not None:
            self._gathered.append(pieces)
        else:
            self._rendering.said(self._speaker.spoken([pieces], construct, parameters))

    # In the place of the implementation's methods of these names

    def execute(
        self, construct: Any, execution_options: Any = None, multiparams: Any = None, params: Any = None
    ) -> None:
        if execution_options or multiparams:
            self._rendering.note("it gives options or many sets of parameters with a statement")
        self.take(construct, params or {})

    def static_output(self, written: str) -> None:
        if not written.startswith("-- Running "):
            self._rendering.note("it writes to Alembic's output")

    def bulk_insert(self, table: Any, rows: Any, multiinsert: bool = True) -> None:
        """Alembic renders each row; online they are executed together."""
        if len({frozenset(row) for row in rows}) > 1:
            self._rendering.note(
                "it inserts rows with different columns: executed together, all have those of the first"
            )
        if not rows or not multiinsert:
            return self._insert_rows(table, rows, multiinsert)
        gathered: list[Pieces] = []
        self._gathered = gathered
        try:
            self._insert_rows(table, rows)
        finally:
            self._gathered = None
        self._rendering.said(self._speaker.spoken(gathered, table.insert().inline(), rows))


def _take_over(context: MigrationContext, rendering: _Rendering) -> None:
    """Let everything that Alembic would write to its output come to us."""
    output = _Output(context, rendering)
    index_order.settle(context.impl)
    bind = SilentBind(context.dialect, output.take, rendering.asked)
    bind.version_table = context._version
    replaced: Any = context.impl  # and what else is changed from outside, as its type does not foresee
    named: Any = context
    hidden: Any = context.dialect
    named.connection = replaced.connection = bind
    replaced._exec, replaced.static_output = output.execute, output.static_output
    replaced.bulk_insert = output.bulk_insert
    replaced.emit_begin = lambda: rendering.mark(Mark.BEGIN)
    replaced.emit_commit = lambda: rendering.mark(Mark.COMMIT)
    named.version_table = rendering.job.version_table
    named.version_table_schema = rendering.job.version_table_schema
    named.__class__ = watching.watched(type(named), rendering, watching.CONTEXT)
    replaced.__class__ = watching.watched(type(replaced), rendering, watching.IMPLEMENTATION)
    hidden.__class__ = watching.watched(type(hidden), rendering, watching.DIALECT)
