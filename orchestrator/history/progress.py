"""How one run of env.py comes along its plan: which revision is at work, and what is told and noticed of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationStep, StampStep
from alembic.script import Script, ScriptDirectory

from orchestrator.backfill.model import Answer, Report
from orchestrator.errors import HeadsChangedError, TargetError
from orchestrator.history import connections, failures, session, watching
from orchestrator.history.committed import Committed
from orchestrator.history.jobs import MigrateJob, Observed
from orchestrator.history.mixed import holds_backfill
from orchestrator.history.outside import outside
from orchestrator.history.revisions import argument
from orchestrator.history.step_recorder import StepRecorder
from orchestrator.history.traced import Traced, Tracer
from orchestrator.history.wire import INSTEAD, Wire
from orchestrator.plan import sanitise
from orchestrator.plan.lasting import Lasting
from orchestrator.plan.recorded import RecordedStep, Recording
from orchestrator.plan.steps import Plan

# SQLAlchemy's events by which SQL is changed or added, and how many listeners of them are ours.
_LISTENED = {
    "before_execute": 0,
    "after_execute": 0,
    "before_cursor_execute": 1,
    "after_cursor_execute": 1,
    "begin": 0,
    "commit": 1,
}
# Statements after which a session may work in another schema or database. What hides from this, in a function that an
# INSERT calls, say, is found after the last revision.
_MAY_MOVE = re.compile(r"^\W*(set|select|do|call|use|with|execute)\b|\bsearch_path\b", re.IGNORECASE)
# How SQLAlchemy asks SQLite and MySQL whether there is a table.
_LOOKS_FOR_TABLE = re.compile(r"PRAGMA \w+\.table_x?info\(|DESCRIBE ")
_CHANGES = re.compile(r"\b(insert|update|delete|merge|call|do)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Observer:
    """Told, from the thread that migrates: a backend id as soon as env.py connects; a revision and its seconds; of a
    job that is `observed`, what env.py does besides; of one that is `traced`, at its end, what was sent; and the
    revision that is about to do the first thing that stays whatever becomes of its transaction: `lasting` returns when
    that is written down. Of a job that is `paced`, `batch` is asked before batches of a backfill, and answers within
    a second or two."""

    backend: Callable[[int], None]
    step: Callable[[str, float], None]
    observed: Callable[[Observed], None] = lambda observed: None
    lasting: Callable[[str], None] = lambda revision: None
    batch: Callable[[Report], Answer] | None = None
    traced: Callable[[Traced], None] = lambda traced: None


class Progress:
    """Walks the plan's steps for Alembic and notes which one runs."""

    def __init__(self, job: MigrateJob, scripts: ScriptDirectory, observer: Observer) -> None:
        self.job, self.scripts, self.observer = job, scripts, observer
        self.current: str | None = None
        self.ran = self.walking = self.finished = False
        self.began = time.monotonic()
        self.state: dict[str, str] = {}
        self.remarks: list[str] = []
        self.lasting = Lasting.of(job.rules, job.plan.heads)
        self.committed = Committed(job.plan.heads, observer.lasting) if job.rules.dialect == "postgresql" else None
        self.may_have_moved = False
        self.tracer = Tracer(job.rules.dialect) if job.traced else None
        may_record = job.observed and job.schema is not None and job.plan.direction != "stamp"
        self.steps = StepRecorder(job.rules.schema, job.schema or "") if may_record else None
        self.wire = Wire(job.version_table, self.remark) if job.observed else None
        if self.wire is not None and self.steps is not None:
            self.wire.hears = self.steps.hears

    def walk(self, heads: Any, context: Any) -> Iterator[Any]:
        """Alembic's `fn`: given the heads it read on env.py's connection, the steps to run."""
        session.prove_schema(self.job.rules, context.connection)
        plan = self.job.plan
        found = tuple(sorted(heads or ()))
        if not self.ran and found != plan.heads:
            raise HeadsChangedError(
                f"the version table holds {_names(found)}, but the plan was made for {_names(plan.heads)}",
                retriable=True,
            )
        if self.lasting is not None and not self.ran:
            self.lasting.started()
        if self.ran:
            self.remark("env.py runs migrations more than once")
        self.ran = self.walking = True
        if self.job.observed:
            self._look_at(context)
        if self.wire is not None:
            self.wire.attach(context)
        if self.steps is not None:
            self.steps.attach(context)
        for step in steps_of(self.scripts, plan, heads):
            if self.lasting is not None and self.current is not None and _commits_each_step(context):
                self.lasting.committed()
            self.current, self.began = _name(step), time.monotonic()
            self.may_have_moved = False
            if self.committed is not None and plan.direction != "stamp":
                connection = context.connection
                written = connection.in_transaction() and connections.has_written(connection)
                self.committed.revision(self.current, id(connection), written)
            if self.steps is not None:
                self.steps.looks(context)
                step.migration_fn = self.steps.following(step.revision.revision, step.migration_fn, _alone(step))
            if self.wire is not None and not isinstance(step, StampStep):
                revision, in_batches = step.revision.revision, _is_backfill(step.revision, plan)
                step.migration_fn = self.wire.following(revision, step.migration_fn, in_batches=in_batches)
            yield step
        if self.wire is not None:
            self.wire.finished()
            self._look_for_listeners(context, recorded=self.steps is not None)  # a revision may bring some
        if self.job.observed and _commits_each_step(context):  # else SET LOCAL is not over yet
            last, self.current = self.current, None  # what is asked is not the revision's
            self._look_again(context)
            self.current = last
        self.walking, self.finished = False, True

    def begins(self, connection: int, sql: str, alone: bool, written: Callable[[], bool]) -> None:
        if self.lasting is not None:
            self.lasting.begins(sql)
        if self.committed is not None:
            self.committed.begins(connection, sql, alone, written)
        if self.tracer is not None:
            self.tracer.begins(connection, sql, self.current if self.walking else None)
        if self.steps is not None:
            self.steps.sends(connection, sql)
        if self.wire is not None:
            self.wire.begins(connection)

    def executed(self, connection: int, sql: str, alone: bool) -> None:
        if self.tracer is not None:
            self.tracer.executed(connection)
        if self.lasting is not None:
            self.lasting.executed(sql, alone)
        if self.committed is not None:
            self.committed.executed(connection, sql, alone)
        self.may_have_moved = self.may_have_moved or _MAY_MOVE.search(sql) is not None
        if self.job.observed and not self.walking and not self._is_alembics(sql):
            self.remark(f"env.py sends SQL of its own: {sanitise.shown(sql, self.job.rules.dialect)[:60]}")

    def commits(self, connection: int, written: Callable[[], bool]) -> None:
        if self.wire is not None:
            self.wire.ends(connection)
        if self.steps is not None:
            self.steps.ends()
        if self.committed is not None:
            self.committed.commits(connection, written)

    def rolled_back(self, connection: int) -> None:
        if self.wire is not None:
            self.wire.ends(connection)
        if self.steps is not None:
            self.steps.ends()
        if self.committed is not None:
            self.committed.rolled_back(connection)

    def _is_alembics(self, sql: str) -> bool:
        """Whether Alembic looks for the version table, reads it, or makes it."""
        name = self.job.version_table
        written = (name.replace('"', '""'), name.replace("`", "``").replace("%", "%%"))
        words = sql.split()
        if [word.upper() for word in words[:2]] == ["CREATE", "TABLE"]:
            return any(table in sql for table in written) and "version_num" in sql
        if _LOOKS_FOR_TABLE.match(sql):
            return any(table in sql for table in written)
        reads = words[:1] == ["SELECT"] and not _CHANGES.search(sql)
        return reads and ("pg_catalog.pg_class" in sql or sql.rstrip().rstrip('"`').endswith(written))

    def watching(self) -> AbstractContextManager[None]:
        """Within it, it is noticed whether a revision that is recorded reads the tenant's own variables."""
        return (
            watching.environ(self.job.environment, self.steps) if self.steps and self.job.environment else nullcontext()
        )

    def recording(self) -> Recording:
        """What each revision has sent, and why it may not be sent to others."""
        steps = self.steps.steps if self.steps is not None else {}

        def redacted(step: RecordedStep) -> RecordedStep:
            return replace(step, reason=step.reason and failures.redact(step.reason, self.job.secrets))

        return {revision: redacted(step) for revision, step in steps.items()}

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _look_at(self, context: Any) -> None:
        """The session that env.py made, and who changes what is sent on it."""
        connection = context.connection
        self.state = {"transaction_per_migration": str(_commits_each_step(context))}
        self.state |= self._settings(connection)
        self._look_for_listeners(context, recorded=False)

    def _look_for_listeners(self, context: Any, *, recorded: bool) -> None:
        """Those who may send more, past SQLAlchemy. `recorded`: our recorder listens as well."""
        connection = context.connection
        for name, ours in _LISTENED.items():
            ours += recorded and name == "before_execute"
            if len(getattr(connection.dispatch, name)) > ours:
                self.remark(f"somebody listens to SQLAlchemy's {name}, and may change what is sent")
        for name in INSTEAD:
            if len(getattr(connection.dialect.dispatch, name)):
                self.remark(f"somebody listens to SQLAlchemy's {name}, and may change what is sent")
        if (kind := connections.adapted(connection)) is not None:
            self.remark(
                f"values of type {kind} are sent by an adapter of somebody else's, which literals know nothing of"
            )

    def _look_again(self, context: Any) -> None:
        """At what revisions have left in the session, by whatever function: one that is replayed after one that is not
        would not find it."""
        connection = context.connection
        idle = not connection.in_transaction()
        for name, value in self._settings(connection).items():
            if self.state.get(name) not in (None, value):
                self.remark(f"a revision leaves {name} = {value} in its session")
        if idle:
            connection.rollback()

    def _settings(self, connection: Any) -> dict[str, str]:
        if self.job.rules.state is None:
            return {}
        try:
            with connection.begin_nested():  # what fails in it must not end env.py's transaction
                return dict(map(tuple, connection.exec_driver_sql(self.job.rules.state)))
        except Exception as exc:
            self.remark(f"the settings of env.py's session cannot be read: {type(exc).__name__}")
            return {}

    def applied(self, ctx: Any, step: Any, heads: Any, run_args: Any, **_: Any) -> None:
        """Alembic's `on_version_apply`: the version table was updated for one step."""
        if self.lasting is not None:
            self.lasting.stamped(tuple(sorted(heads)))
        if self.committed is not None:
            self.committed.stamped(id(ctx.connection), tuple(sorted(heads)))
        if self.may_have_moved or self.current == self.job.plan.steps[-1]:
            session.prove_schema(self.job.rules, ctx.connection, self.current)
        if self.current is not None:
            self.observer.step(self.current, time.monotonic() - self.began)

    def tell_traced(self, code: str | None) -> None:
        """`code`: what the server said to the statement that failed."""
        if self.tracer is not None:
            self.observer.traced(self.tracer.ended(code))

    def complete(self, failure: TargetError) -> None:
        """Tell with a revision's failure what stays of it."""

        def redact(text: str) -> str:
            return failures.redact(text, self.job.secrets)

        if self.committed is not None:
            self.committed.complete(failure, redact)  # also where only the last commit has failed
        elif self.lasting is not None and not self.finished and self.current is not None:
            self.lasting.complete(failure, redact)


def _is_backfill(revision: Script, plan: Plan) -> bool:
    return holds_backfill(Path(revision.path).read_bytes(), plan.direction)


def _alone(step: Any) -> str | None:
    """What of a revision's own source says that it runs online, as it does to the compiler."""
    if getattr(step.revision.module, "execution", None) == "online":
        return "it says `execution = 'online'`"
    return outside(step.revision.path)


def _commits_each_step(context: Any) -> bool:
    """Whether what came before is committed when Alembic goes on to the next step."""
    if context._in_external_transaction:
        return False
    return not context.impl.transactional_ddl or bool(context._transaction_per_migration)


def steps_of(scripts: ScriptDirectory, plan: Plan, heads: Any) -> Any:
    """The plan's steps as Alembic runs them; those that are left, where some have been run already."""
    goal: Any = argument(plan.goal)
    if plan.direction == "stamp":
        return scripts._stamp_revs(goal or "base", heads)
    if tuple(sorted(heads or ())) != plan.heads:  # env.py runs them once more
        walk = scripts._downgrade_revs if plan.direction == "downgrade" else scripts._upgrade_revs
        return walk(goal, heads)
    make = MigrationStep.downgrade_from_script if plan.direction == "downgrade" else MigrationStep.upgrade_from_script
    return [make(scripts.revision_map, _script(scripts, revision)) for revision in plan.steps]


def _script(scripts: ScriptDirectory, revision: str) -> Script:
    found = scripts.get_revision(revision)
    assert found is not None, "plans are made from this history"
    return found


def _name(step: Any) -> str | None:
    """The revision of a step; of a stamp, the one that is written, if any is."""
    if isinstance(step, StampStep):
        return step.to_revisions[0] if step.to_revisions else None
    name: str = step.revision.revision
    return name


def _names(heads: tuple[str, ...]) -> str:
    return ", ".join(heads) or "nothing"
