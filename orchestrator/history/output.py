"""What takes the place of Alembic's output in offline mode, and gets every statement as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateTable, DropTable

from orchestrator.history import dialects, index_order, watching
from orchestrator.history.bind import SilentBind
from orchestrator.history.jobs import CompileJob
from orchestrator.history.literals import Literals, Pieces
from orchestrator.history.spoken import Speaker
from orchestrator.history.step_renderer import StepRenderer
from orchestrator.plan.compiled import Mark
from orchestrator.registry.model import MYSQL_DIALECTS


def _drops(construct: Any, table: Any) -> bool:
    """So Alembic does to the version table, offline only, when no revision is left."""
    return isinstance(construct, DropTable) and construct.element is table


def _meet(dialect: Dialect, job: CompileJob) -> None:
    """Let it render for the job's server, where that makes a difference."""
    if job.server and job.dialect in MYSQL_DIALECTS:
        dialects.meet(dialect, job.server)


class _Output:
    """Takes what Alembic would write to its output, statement by statement."""

    def __init__(self, context: MigrationContext, rendering: StepRenderer) -> None:
        self._impl, self._rendering, self._version = context.impl, rendering, context._version
        self._dialect, self._literals = context.dialect, Literals(context.dialect)
        rehearsed = dialects.like(context.dialect, context.opts.get("dialect_opts") or {})
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
        if dialects.hangs_on_version(construct, self._dialect):
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


def take_over(context: MigrationContext, rendering: StepRenderer) -> None:
    """Let everything that Alembic would write to its output come to us."""
    _meet(context.dialect, rendering.job)
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
