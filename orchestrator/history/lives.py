"""What becomes of checkpoints when a database is led past the revisions that wrote them, back or forth.

A downgrade may take the columns away that a backfill has filled, and an upgrade make them again, empty: who went on
then from where it was would leave rows out, and who began anew might change others twice. So each downgrade looks at
the upgrades' checkpoints of all later revisions, and each upgrade at the downgrades' of all earlier ones: what is done
with, or gone with its columns, is forgotten, and of the rest is kept that nobody can tell. A stamp runs nothing: there,
only what has gone with its columns is forgotten.

Alembic tells nobody of a revision that holds nothing of ours, but it makes an `Operations` for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.history import touched

if TYPE_CHECKING:  # Alembic may be just importing them, and with them us
    from alembic.runtime.migration import MigrationContext, MigrationInfo
    from alembic.script.revision import RevisionMap

# In the place of `running` and `finished`: the rows may, or may not, still be as the backfill has left them.
DOUBTED = "doubted"
_MARK = "_orchestrator_looks_at_steps"
_KEEPS_DDL = "mysql", "mariadb", "sqlite"
_KEEPS_NOTHING = "SELECT", "SHOW", "SET ", "DESC", "EXPLAIN", "PRAGMA"
# MySQL's: the table, or a row, is newer than the picture that the transaction has of the database.
_NEWER = {1412, 1020}
# Runs in whose database there are no checkpoints of the other way.
_nothing: WeakSet[MigrationContext] = WeakSet()

_Doubt = sa.Update


def install() -> None:
    """From now on, in this process, whatever Alembic downgrades."""
    if getattr(Operations, _MARK, False):
        return
    make: Callable[..., None] = Operations.__init__

    @wraps(make)
    def made(operations: Operations, migration_context: MigrationContext, *args: Any, **options: Any) -> None:
        make(operations, migration_context, *args, **options)
        if _applied not in migration_context.on_version_apply_callbacks:
            callbacks = *migration_context.on_version_apply_callbacks, _applied
            migration_context.on_version_apply_callbacks = callbacks
            _look_before(migration_context)

    Operations.__init__ = made  # type: ignore[method-assign, assignment]
    setattr(Operations, _MARK, True)


def _look_before(context: MigrationContext) -> None:
    """On MySQL and SQLite, a step that fails in its middle leaves what it has done: there it is looked first."""
    steps: Any = getattr(context, "_migrations_fn", None)
    if steps is None or context.dialect.name not in _KEEPS_DDL:
        return

    def looking(heads: Any, ctx: MigrationContext) -> Iterator[Any]:
        for step in steps(heads, ctx):
            if isinstance(ctx.connection, Connection) and not step.info.is_stamp:
                look = partial(_look, ctx, ctx.connection, step.info, before=True)
                step.migration_fn = _marking(step.migration_fn, ctx.connection, look)
            yield step

    context._migrations_fn = looking


def _marking(
    run: Callable[..., None], connection: Connection, look: Callable[[], Sequence[_Doubt]]
) -> Callable[..., None]:
    @wraps(run)
    def marked(*args: Any, **options: Any) -> None:
        doubts = () if _takes_ddl_back(connection) else look()
        if not doubts:
            run(*args, **options)
            return
        connection.connection.commit()  # MySQL would do so with the first DDL; SQLite would take DDL into it
        done: list[str] = []

        def executed(*told: Any) -> None:
            if not told[2].lstrip().upper().startswith(_KEEPS_NOTHING):
                done.append(told[2])

        sa.event.listen(connection, "after_cursor_execute", executed)
        try:
            run(*args, **options)
        except BaseException:
            if not done:  # what is refused has committed the doubts all the same
                with suppress(DBAPIError):
                    _take_back(connection, doubts)
            raise
        finally:
            sa.event.remove(connection, "after_cursor_execute", executed)

    return marked


def _takes_ddl_back(connection: Connection) -> bool:
    """On SQLite, where env.py has begun a transaction by itself."""
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def _take_back(connection: Connection, doubts: Sequence[_Doubt]) -> None:
    for doubt in doubts:
        connection.execute(doubt)
    connection.connection.commit()


def _applied(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
    """Alembic's `on_version_apply`: the version table was brought along with a step."""
    if isinstance(ctx.connection, Connection):  # offline, it stands for one
        _look(ctx, ctx.connection, step)


def _look(
    context: MigrationContext, connection: Connection, step: MigrationInfo, *, before: bool = False
) -> Sequence[_Doubt]:
    """Whoever is at such a backfill just then finds that it is not its own any more. `before`: the step has not run
    yet, and may fail. Returns what would put back what was doubted."""
    # Plain Alembic imports this module, and needs the rest for this only.
    from orchestrator.history import checkpoints, owners, session

    if context in _nothing:
        return ()
    with session.resumable():
        table = checkpoints.of_context(context)
        rows = _of(connection, table)
        if step.is_stamp:
            _see_stamped(connection, table, rows, checkpoints.version_of(context))
        rows = [row for row in rows if _may_be_passed(row, step)]
        if not rows:  # a run leaves none such
            if not step.is_stamp:
                _nothing.add(context)
            return ()
        back, forth = _beyond(step)
        passed = [row for row in rows if row["revision"] in (back if row["direction"] == "upgrade" else forth)]
        looks = _Looks(connection, table, owners.name(), step, before)
        return [doubt for row in passed if (doubt := looks.judge(row)) is not None]


def _may_be_passed(row: sa.RowMapping, step: MigrationInfo) -> bool:
    """A step back leads past upgrades. One forth leads past downgrades; and where it leads up to an upgrade that has
    begun, the database was led back unseen."""
    if not step.is_upgrade:
        return bool(row["direction"] == "upgrade")
    return row["direction"] == "downgrade" or not (row["applied"] or step.is_stamp)


def _beyond(step: MigrationInfo) -> tuple[Collection[str], Collection[str]]:
    """The revisions whose upgrades, and whose downgrades, a step leads past."""
    ids = step.up_revision_ids
    after = later(step.revision_map, ids)
    if not step.is_upgrade:
        return after, ()
    earlier = {one.revision for one in step.revision_map.iterate_revisions(ids, "base")}
    return set(after) - set(ids), earlier - set(ids)


def _see_stamped(
    connection: Connection, table: sa.Table, rows: Iterable[sa.RowMapping], version: sa.FromClause
) -> None:
    """That the version table was written by it means nothing to what is unfinished."""
    for row in rows:
        if not row["applied"] and row["numbers"]:
            numbers = touched.seen_stamped(row["numbers"], connection, version)
            connection.execute(table.update().where(*_itself(table, row)).values(numbers=numbers))


@dataclass(frozen=True, slots=True)
class _Looks:
    connection: Connection
    table: sa.Table
    owner: str
    step: MigrationInfo
    before: bool

    def judge(self, row: sa.RowMapping) -> _Doubt | None:
        """What would put the row back, where it was doubted."""
        if self._is_done_with(row):
            self.connection.execute(self.table.delete().where(*_itself(self.table, row)))
            return None
        left = row["applied"] or not _has_changed(row) or row["state"] == DOUBTED
        if left or self.step.is_stamp or self._is_its_own(row):
            return None
        ours = self.table.update().where(*_itself(self.table, row))
        self.connection.execute(ours.values(state=DOUBTED, owner=self.owner))
        return ours.values(state=row["state"], owner=row["owner"])

    def _is_done_with(self, row: sa.RowMapping) -> bool:
        if self.before or (self.step.is_upgrade and row["direction"] == "upgrade"):
            return False
        if not self.step.is_stamp and (row["applied"] or not _has_changed(row)):
            return True
        return not row["applied"] and touched.is_gone(self.connection, row["touched"], row["numbers"])

    def _is_its_own(self, row: sa.RowMapping) -> bool:
        """Before a step is run, what it goes on with."""
        return self.before and row["revision"] in self.step.up_revision_ids


def _of(connection: Connection, table: sa.Table) -> Sequence[sa.RowMapping]:
    from orchestrator.history import checkpoints

    if not checkpoints.exists(connection, table):
        return ()
    try:
        return connection.execute(sa.select(table)).mappings().all()
    except DBAPIError as exc:
        number = getattr(exc.orig, "args", None) or (None,)
        if number[0] not in _NEWER:
            raise
        raise CommandError(
            "somebody else has migrated this database meanwhile: there are backfills that began after this run did. "
            "See what is left to do, and run it again"
        ) from exc


def _itself(table: sa.Table, row: sa.RowMapping) -> Sequence[sa.ColumnElement[bool]]:
    it = table.c
    return it.revision == row["revision"], it.direction == row["direction"], it.ordinal == row["ordinal"]


def _has_changed(row: sa.RowMapping) -> bool:
    """A statement may do more than it counts."""
    counted = "rows_seen" if touched.read(row["touched"])["columns"] is None else "rows_changed"
    return bool(row[counted])


def later(revisions: RevisionMap, ids: Iterable[str]) -> Collection[str]:
    """These revisions, and all that come after them or depend on them."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            script = revisions.get_revision(one)
            waiting += script._all_nextrev if script is not None else ()
    return found
