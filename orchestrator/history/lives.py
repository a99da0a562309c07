"""What becomes of checkpoints when a database is led past the revisions that wrote them, back or forth.

A downgrade may take the columns away that a backfill has filled, and an upgrade make them again, empty: who went on
then from where it was would leave rows out, and who began anew might change others twice. So each downgrade looks at
the upgrades' checkpoints of all later revisions, and each upgrade at the downgrades' of all earlier ones: what is done
with, or gone with its columns, is forgotten, and of the rest is kept that nobody can tell. A stamp runs nothing: there,
only what has gone with its columns is forgotten. A revision that came into the history in front of a backfill that had
begun is none that it had; and where the version table is, before a step, not as the last one has left it, somebody has
led the database elsewhere unseen.

Alembic tells nobody of a revision that holds nothing of ours, but it makes an `Operations` for each run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
_COMMITS_DDL = "mysql", "mariadb"
_MARK = "_orchestrator_looks_at_steps"
_KEEPS_NOTHING = "SELECT", "SHOW", "SET ", "DESC", "EXPLAIN", "PRAGMA"
# MySQL's: the table, or a row, is newer than the picture that the transaction has of the database.
_NEWER = {1412, 1020}
# Runs in whose database there is nothing to look at.
_nothing: WeakSet[MigrationContext] = WeakSet()

_Doubt = sa.Update


def install() -> None:
    """From now on, in this process, wherever Alembic leads a database."""
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
    """Whether the version table still is as it was; and on MySQL and SQLite, a step that fails in its middle leaves
    what it has done."""
    steps: Any = getattr(context, "_migrations_fn", None)
    if steps is None:
        return
    # Now, since nobody may wait for it between a look at the heads and the first statement.
    from orchestrator.history import checkpoints, owners, session  # noqa: F401

    def looking(heads: Any, ctx: MigrationContext) -> Iterator[Any]:
        for step in steps(heads, ctx):
            if isinstance(ctx.connection, Connection):
                look = partial(_look, ctx, ctx.connection, step.info, before=True)
                step.migration_fn = _marking(step.migration_fn, ctx.connection, look)
            yield step

    context._migrations_fn = looking


def _marking(
    run: Callable[..., None], connection: Connection, look: Callable[[], Sequence[_Doubt]]
) -> Callable[..., None]:
    @wraps(run)
    def marked(*args: Any, **options: Any) -> None:
        takes_ddl_back = _takes_ddl_back(connection)
        doubts = look()
        if not doubts or takes_ddl_back:
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
    """PostgreSQL does; SQLite, where env.py has begun a transaction by itself."""
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))
    return connection.dialect.name not in _COMMITS_DDL


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
        rows = [row for row in _of(connection, table) if _concerns(row, step)]
        if not rows:  # a run leaves none such
            _nothing.add(context)
            return ()
        heads = touched.versions(connection, checkpoints.version_of(context))
        looks = _Looks(connection, table, owners.name(), step, before, heads)
        return [doubt for row in rows if (doubt := looks.judge(row)) is not None]


def _concerns(row: sa.RowMapping, step: MigrationInfo) -> bool:
    """What is unfinished; a step that runs may also lead past what the other way has done."""
    if row["applied"]:
        return not step.is_stamp and bool(step.is_upgrade) != (row["direction"] == "upgrade")
    return True


@dataclass(frozen=True, slots=True)
class _Looks:
    connection: Connection
    table: sa.Table
    owner: str
    step: MigrationInfo
    before: bool
    heads: touched.Versions

    def judge(self, row: sa.RowMapping) -> _Doubt | None:
        """What would put the row back, where it was doubted."""
        kept = json.loads(row["numbers"] or "{}")
        led_past = self._leads_past(row, kept)
        if led_past and self._is_done_with(row):
            self.connection.execute(self.table.delete().where(*_itself(self.table, row)))
            return None
        if row["applied"] or row["state"] == DOUBTED or self._is_its_own(row):
            return None
        led_past = led_past and not self.step.is_stamp and _has_changed(row)
        if led_past or (self.before and row["rows_seen"] and not self._stands(kept)):
            ours = self.table.update().where(*_itself(self.table, row))
            self.connection.execute(ours.values(state=DOUBTED, owner=self.owner))
            return ours.values(state=row["state"], owner=row["owner"])
        if not self.before and "versions" in kept:
            self._see(row, kept)
        return None

    def _leads_past(self, row: sa.RowMapping, kept: Mapping[str, Any]) -> bool:
        """A step back leads past upgrades, a step forth past downgrades. One forth to an upgrade that has begun shows
        that the database was led back unseen. To one that is unfinished, only what it had before it counts."""
        ids = set(self.step.up_revision_ids)
        if row["direction"] == "downgrade":
            return bool(self.step.is_upgrade) and row["revision"] in self._earlier(ids) - ids
        if row["revision"] in ids:
            return not self.step.is_upgrade
        if row["revision"] not in later(self.step.revision_map, ids):
            return False
        return row["applied"] or "follows" not in kept or not ids.isdisjoint(self._earlier(kept["follows"], ids))

    def _stands(self, kept: Mapping[str, Any]) -> bool:
        """Whether the version table is as it was kept, or was led on from there."""
        return "versions" not in kept or touched.is_only_on(
            kept["versions"], self.heads, lambda: self._earlier(self.heads)
        )

    def _see(self, row: sa.RowMapping, kept: Mapping[str, Any]) -> None:
        """That this step has written the version table means nothing to what is unfinished."""
        heads = self.heads
        if "follows" in kept:
            heads = touched.bearing(heads, kept["follows"], lambda head: self._earlier([head]))
        numbers = json.dumps({**kept, "versions": heads})
        self.connection.execute(self.table.update().where(*_itself(self.table, row)).values(numbers=numbers))

    def _earlier(self, ids: Iterable[str], unknown: Iterable[str] = ()) -> set[str]:
        """`unknown`: where the history has them no more."""
        from alembic.script.revision import RevisionError

        try:
            return earlier(self.step.revision_map, ids)
        except RevisionError:
            return set(unknown)

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


def earlier(revisions: RevisionMap, ids: Iterable[str]) -> set[str]:
    """These revisions, and all that they come after or depend on. Raises RevisionError for one that there is not."""
    heads = tuple(ids)
    return {one.revision for one in revisions.iterate_revisions(heads, "base")} if heads else set()
