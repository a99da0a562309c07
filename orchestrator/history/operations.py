"""Operations for revisions that change data: `op.backfill`, `op.backfill_rows`, `op.backfill_sql`, `op.verify` and
`op.requires_backfill`.

They are registered when this module is imported: by Alembic 1.18 and newer (`history.plugin`), and otherwise by `import
orchestrator.operations` in env.py. A revision then runs under plain `alembic upgrade` as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from orchestrator.history import lives

if TYPE_CHECKING:
    from orchestrator.history.changes import Transform

KeyColumns = str | Sequence[str] | None


class _Backfill(MigrateOperation):
    """What the kinds of backfills have in common. `name`: of the operation."""

    name: str

    def __init__(self, table: str, schema: str | None, key: KeyColumns, batch_size: int, until_empty: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise CommandError(f"`batch_size` of the backfill of {table!r} is {batch_size!r}: it counts rows, from 1")
        self.table, self.schema = table, schema
        self.key = (key,) if isinstance(key, str) else tuple(key) if key is not None else None
        self.batch_size, self.until_empty = batch_size, until_empty

    def _refuse_endless(self, where: Any) -> None:
        if self.until_empty and where is None:
            raise CommandError(
                f"`until_empty` of the backfill of {self.table!r} needs a `where` that leaves out rows that are done"
            )

    def to_diff_tuple(self) -> tuple[str, str]:
        """For `alembic check`, where somebody put it among autogenerate's directives."""
        return self.name, self.table


@Operations.register_operation("backfill")
class BackfillOp(_Backfill):
    """Set columns, key range by key range."""

    name = "backfill"

    def __init__(
        self,
        table: str,
        set_: Mapping[str, Any],
        *,
        where: Any = None,
        key: KeyColumns = None,
        batch_size: int = 1000,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> None:
        super().__init__(table, schema, key, batch_size, until_empty)
        if not set_:
            raise CommandError(f"the backfill of {table!r} sets nothing: name columns and what they become, `set_=...`")
        self._refuse_endless(where)
        self.set_, self.where = dict(set_), where

    @classmethod
    def backfill(
        cls,
        operations: Operations,
        table: str,
        set_: Mapping[str, Any],
        where: Any = None,
        key: KeyColumns = None,
        batch_size: int = 1000,
        *,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> int:
        """Set columns of a table's rows in batches, each in a transaction of its own.

        `set_` maps columns to what they become: a text is SQL, as in `where`; anything else is a value, or a SQLAlchemy
        expression. `key`: the columns by which the rows are gone through; the primary key if left out. `batch_size`:
        rows of the first batch; later ones adapt. Rows that are added meanwhile are not among those that are changed,
        unless `until_empty` says to sweep again until nothing is as `where` says.

        Returns how many rows were changed. Raises CommandError for what cannot be.
        """
        op = cls(table, set_, where=where, key=key, batch_size=batch_size, until_empty=until_empty, schema=schema)
        return int(operations.invoke(op))


@Operations.register_operation("backfill_rows")
class BackfillRowsOp(_Backfill):
    """Rows through a Python function."""

    name = "backfill_rows"

    def __init__(
        self,
        table: str,
        columns: Sequence[str],
        transform: Transform,
        *,
        where: Any = None,
        key: KeyColumns = None,
        batch_size: int = 1000,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> None:
        super().__init__(table, schema, key, batch_size, until_empty)
        self._refuse_endless(where)
        self.columns, self.transform, self.where = tuple(columns), transform, where

    @classmethod
    def backfill_rows(
        cls,
        operations: Operations,
        table: str,
        columns: Sequence[str],
        transform: Transform,
        key: KeyColumns = None,
        batch_size: int = 1000,
        *,
        where: Any = None,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> int:
        """Change rows in batches, by a function that is given a batch's rows and says what becomes of them.

        `transform` is called with the rows of a batch, each a mapping with the key and the `columns`, which nobody else
        can change meanwhile. It returns, for each row in that order, a mapping of the columns to change, or None where
        the row stays as it is. It may be called again for the same rows, when a batch had to be rolled back. The rest
        is as in `backfill`.
        """
        op = cls(
            table,
            columns,
            transform,
            where=where,
            key=key,
            batch_size=batch_size,
            until_empty=until_empty,
            schema=schema,
        )
        return int(operations.invoke(op))


@Operations.register_operation("backfill_sql")
class BackfillSqlOp(_Backfill):
    """A statement with bounds, key range by key range."""

    name = "backfill_sql"

    def __init__(
        self,
        statement: str,
        table: str,
        *,
        key: KeyColumns = None,
        batch_size: int = 1000,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> None:
        super().__init__(table, schema, key, batch_size, until_empty)
        self.statement = statement

    @classmethod
    def backfill_sql(
        cls,
        operations: Operations,
        statement: str,
        table: str,
        key: KeyColumns = None,
        batch_size: int = 1000,
        *,
        until_empty: bool = False,
        schema: str | None = None,
    ) -> int:
        """Run a statement in batches, along the key of `table`.

        The statement must keep to the batch's rows: those with a key greater than `:after`, up to and with `:upto`; of
        a key of several columns, `:after_<column>` and `:upto_<column>` of each. It may copy these rows elsewhere, or
        delete them. The rest is as in `backfill`; `until_empty` sweeps again until the statement changes nothing.
        """
        op = cls(statement, table, key=key, batch_size=batch_size, until_empty=until_empty, schema=schema)
        return int(operations.invoke(op))


@Operations.register_operation("verify")
class VerifyOp(MigrateOperation):
    """A question that must be answered with true."""

    def __init__(self, sql: str, message: str) -> None:
        self.sql, self.message = sql, message

    def to_diff_tuple(self) -> tuple[str, str]:
        return "verify", self.sql

    @classmethod
    def verify(cls, operations: Operations, sql: str, message: str) -> None:
        """Ask the database, and fail with `message` unless it answers with one row whose first value is true; on MySQL
        and SQLite, which have no truth values, with the number 1."""
        operations.invoke(cls(sql, message))


@Operations.register_operation("requires_backfill")
class RequiresBackfillOp(MigrateOperation):
    """A barrier before a step that would lose what is not backfilled."""

    def __init__(self, revision: str, or_stamped: bool = False) -> None:
        self.revision, self.or_stamped = revision, or_stamped

    def to_diff_tuple(self) -> tuple[str, str]:
        return "requires_backfill", self.revision

    @classmethod
    def requires_backfill(cls, operations: Operations, revision: str, or_stamped: bool = False) -> None:
        """Fail unless the backfills of `revision` are finished in this database, and the revision was applied after
        them. To be called first, before what would not go well otherwise: `SET NOT NULL`, or dropping the old column.

        A database that was stamped with the revision, or a later one, has never begun its backfills, and nobody can
        tell whether it needs them: it is refused. To have them done, stamp it with the revision before and upgrade. If
        all databases that are stamped were made from metadata or a template that has the new column filled, say
        `or_stamped=True`: one in which no backfill of the revision has ever begun is then let through. A backfill that
        has begun and is not finished is refused all the same. Better still, ask the data as well, with `op.verify`.

        Raises CommandError, also for a revision that does not exist and for one that holds no backfill.
        """
        operations.invoke(cls(revision, or_stamped))


lives.install()


# What they do is imported when it is done: Alembic imports this module while it is itself being imported.


@Operations.implementation_for(BackfillOp)
def _backfill(operations: Operations, op: BackfillOp) -> int:
    from orchestrator.history import backfilling
    from orchestrator.history.changes import SetColumns

    return backfilling.run(operations, op, lambda keyset: SetColumns(keyset, op.set_, op.where))


@Operations.implementation_for(BackfillRowsOp)
def _backfill_rows(operations: Operations, op: BackfillRowsOp) -> int:
    from orchestrator.history import backfilling
    from orchestrator.history.changes import TransformRows

    return backfilling.run(operations, op, lambda keyset: TransformRows(keyset, op.columns, op.transform, op.where))


@Operations.implementation_for(BackfillSqlOp)
def _backfill_sql(operations: Operations, op: BackfillSqlOp) -> int:
    from orchestrator.history import backfilling
    from orchestrator.history.changes import Statement

    return backfilling.run(operations, op, lambda keyset: Statement(keyset, op.statement))


@Operations.implementation_for(VerifyOp)
def _verify(operations: Operations, op: VerifyOp) -> None:
    from orchestrator.history import backfilling

    backfilling.verify(operations, op.sql, op.message)


@Operations.implementation_for(RequiresBackfillOp)
def _requires_backfill(operations: Operations, op: RequiresBackfillOp) -> None:
    from orchestrator.history import requiring

    requiring.require(operations, op.revision, op.or_stamped)
