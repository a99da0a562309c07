"""Where a backfill got to: a row beside the version table, written in each batch's own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from orchestrator.backfill.model import Direction
from orchestrator.backfill.naming import checkpoints_of
from orchestrator.history.direct import Direct
from orchestrator.history.keyset import Question

_SCHEMA = (
    "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid = pg_catalog.to_regclass(:t)"
)

_COLUMNS = (
    "SELECT CAST(attname AS text) FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(:t)"
    " AND attnum > 0 AND NOT attisdropped"
)
# Columns that count the rows that were changed.
_COUNTS = ("sweep_changed", "rows_changed")


@lru_cache(128)  # SQLAlchemy makes a statement anew for each table, also for one that is the same
def table_of(version_table: str, schema: str | None) -> sa.Table:
    """The table of checkpoints. `applied`: the version table was brought along after it, so what stands here is done
    with; `upper_key`: where this sweep ends; `sweep_changed`: rows that it has changed so far. `touched` and `numbers`:
    see `touched`."""
    return sa.Table(
        checkpoints_of(version_table),
        sa.MetaData(),
        sa.Column("revision", sa.String(255), primary_key=True),
        sa.Column("direction", sa.String(9), primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("definition", sa.String(64), nullable=False),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("applied", sa.Boolean, nullable=False),
        sa.Column("sweep", sa.Integer, nullable=False),
        sa.Column("sweep_changed", sa.BigInteger, nullable=False),
        sa.Column("last_key", sa.Text),
        sa.Column("upper_key", sa.Text),
        sa.Column("rows_seen", sa.BigInteger, nullable=False),
        sa.Column("rows_changed", sa.BigInteger, nullable=False),
        sa.Column("rows_estimated", sa.BigInteger),
        sa.Column("batch_size", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("touched", sa.Text, nullable=False),
        sa.Column("numbers", sa.Text),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        schema=schema,
        mysql_engine="InnoDB",
    )


def of_context(context: MigrationContext) -> sa.Table:
    """The table of checkpoints beside the version table that a run works on. Where that has no schema, it is the one in
    which PostgreSQL finds it: another's on the search path may have checkpoints, and ours none yet."""
    schema, connection = context.version_table_schema, context.connection
    if schema is None and connection is not None and connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.quote(context.version_table)
        schema = connection.execute(sa.text(_SCHEMA), {"t": quoted}).scalar()
    return table_of(context.version_table, schema)


def version_of(context: MigrationContext) -> sa.TableClause:
    """The version table that a run works on."""
    return sa.table(context.version_table, sa.column("version_num", sa.String()), schema=context.version_table_schema)


class TakenOverError(Exception):
    """Somebody else owns the checkpoint by now; the batch must not be committed."""


@dataclass(frozen=True, slots=True)
class Identity:
    revision: str
    direction: Direction
    ordinal: int


class Checkpoint:
    """One backfill's row, held by `owner`. All that it does belongs to the transaction that the caller has begun."""

    def __init__(self, table: sa.Table, identity: Identity, owner: str) -> None:
        self._table, self._identity, self.owner = table, identity, owner
        self._made: dict[tuple[str, ...], Direct] = {}
        self._asking: dict[tuple[tuple[str, ...], sa.Select[Any]], Direct] = {}
        self._changing: dict[tuple[tuple[str, ...], sa.Update, sa.Select[Any]], Direct] = {}
        self._found: sa.RowMapping | None = None

    @property
    def name(self) -> str:
        return self._table.fullname

    def read(self, connection: Connection) -> sa.RowMapping | None:
        """The row, if there is one, kept from others until the transaction ends."""
        found = sa.select(self._table).where(*self._is_ours()).with_for_update()
        self._found = connection.execute(found).mappings().first()
        return self._found

    def begin(self, connection: Connection, **values: Any) -> None:
        """Write the row of a backfill that begins, instead of one that is done with, where `read` has found one. Raises
        TakenOverError where somebody else has begun since."""
        now = _now()
        if self._found is not None:
            same = self._table.c.owner == self._found["owner"]
            gone = connection.execute(self._table.delete().where(*self._is_ours(), same))
            if gone.rowcount != 1:
                raise TakenOverError
        identity = self._identity
        row = {
            "revision": identity.revision,
            "direction": identity.direction,
            "ordinal": identity.ordinal,
            "state": "running",
            "applied": False,
            "sweep": 0,
            "sweep_changed": 0,
            "rows_seen": 0,
            "rows_changed": 0,
            "owner": self.owner,
            "started_at": now,
            "updated_at": now,
        }
        try:
            connection.execute(self._table.insert().values(row | values))
        except IntegrityError:
            raise TakenOverError from None

    def others(self, connection: Connection) -> sa.RowMapping | None:
        """What the same revision's way back (or forth) has begun and not brought to its end."""
        it = self._table.c
        theirs = it.revision == self._identity.revision, it.direction != self._identity.direction
        begun = sa.select(self._table).where(*theirs, it.applied.is_(sa.false()), it.rows_changed > 0)
        return connection.execute(begun.order_by(it.ordinal)).mappings().first()

    def take(self, connection: Connection, numbers: str) -> None:
        """Become the owner of the row that an earlier run left."""
        new = {"owner": self.owner, "updated_at": _now(), "numbers": numbers}
        connection.execute(self._table.update().where(*self._is_ours()).values(new))

    def move(self, connection: Connection, place: Mapping[str, int], **values: Any) -> None:
        """Write what the transaction has done, from `place` on. Raises TakenOverError where the row is not ours any
        more, or stands elsewhere."""
        given, parameters = _given(place, values)
        names = tuple(given)
        if names not in self._made:
            self._made[names] = Direct(self._moving("", tuple(place), names))
        if self._made[names].changed(connection, parameters) != 1:
            raise TakenOverError

    def move_and_ask(
        self, connection: Connection, place: Mapping[str, int], question: Question[sa.Select[Any]], **values: Any
    ) -> Sequence[Any] | None:
        """The same, with a question in the same statement, which saves the way there and back where the server knows
        such statements (PostgreSQL). Returns the first row of the answer, which has no NULL; None where there is none.
        """
        given, parameters = _given(place, values)
        made = tuple(given), question.statement
        if made not in self._asking:
            self._asking[made] = Direct(self._moving_and_asking(tuple(place), *made))
        changed, *row = self._asking[made].one(connection, parameters | question.parameters)
        if changed != 1:
            raise TakenOverError
        return None if row[0] is None else row

    def change_move_and_ask(
        self,
        connection: Connection,
        place: Mapping[str, int],
        change: Question[sa.Update],
        question: Question[sa.Select[Any]],
        prefix: str,
        **values: Any,
    ) -> tuple[int, Sequence[Any] | None] | None:
        """The batch's own statement, the move and the question as one statement, which is a transaction by itself
        (PostgreSQL). Rows that are changed add to what is given of `_COUNTS`. `prefix`: how names of parameters begin
        that are none of the others'.

        Returns how many rows were changed, and the answer; None where it cannot be sent so. Where the row is not ours
        any more, the server divides by zero and takes all of it back.
        """
        given, parameters = _given(place, values, prefix)
        made = tuple(given), change.statement, question.statement
        if made not in self._changing:
            self._changing[made] = Direct(self._all_in_one(prefix, tuple(place), *made))
        row = self._changing[made].alone(connection, parameters | change.parameters | question.parameters)
        if row is None:
            return None
        changed, _, *found = row
        return changed, None if found[0] is None else found

    def accepting(self, connection: Connection, definition: str) -> str:
        """The SQL by which a person says that a backfill that goes by another text is the same."""
        table, ours = self._to_be_pasted(connection)
        return f"UPDATE {table} SET definition = '{definition}' WHERE {ours}"

    def deciding(self, connection: Connection) -> tuple[str, str]:
        """The SQL by which a person says that the rows are as this backfill has left them, and that they are not."""
        table, ours = self._to_be_pasted(connection)
        on = f"UPDATE {table} SET state = 'running', numbers = NULL WHERE {ours}"
        return on, f"DELETE FROM {table} WHERE {ours}"

    def _to_be_pasted(self, connection: Connection) -> tuple[str, str]:
        """The table, and the condition of its row, as a person sends them."""
        identity, preparer = self._identity, connection.dialect.identifier_preparer
        table = preparer.format_table(self._table)
        if preparer._double_percents:  # for the driver, which a person does not go through
            table = table.replace("%%", "%")
        revision = identity.revision.replace("'", "''")
        ours = f"revision = '{revision}' AND direction = '{identity.direction}' AND ordinal = {identity.ordinal}"
        return table, ours

    def _moving(
        self, prefix: str, place: tuple[str, ...], names: tuple[str, ...], more: sa.ColumnElement[int] | None = None
    ) -> sa.Update:
        """It takes longer to make than to send. `more`: what is added to `_COUNTS`."""
        it = self._table.c
        new: dict[str, Any] = {name: sa.bindparam(f"{prefix}new_{name}", type_=it[name].type) for name in names}
        if more is not None:
            new |= {name: new[name] + more for name in _COUNTS}
        stands = [it[name] == sa.bindparam(f"{prefix}old_{name}", type_=it[name].type) for name in place]
        return self._table.update().where(*self._is_ours(), it.owner == self.owner, *stands).values(new)

    def _moving_and_asking(
        self, place: tuple[str, ...], names: tuple[str, ...], select: sa.Select[Any]
    ) -> sa.Select[Any]:
        moved = self._moving("", place, names).returning(sa.literal(1)).cte("moved")
        changed = sa.select(sa.func.count().label("changed")).select_from(moved).subquery("counted")
        found = select.subquery("found")
        return sa.select(changed.c.changed, *found.c).select_from(changed.outerjoin(found, sa.true()))

    def _all_in_one(
        self, prefix: str, place: tuple[str, ...], names: tuple[str, ...], change: sa.Update, select: sa.Select[Any]
    ) -> sa.Select[Any]:
        one = sa.literal_column("1", sa.Integer())
        done = change.returning(one).cte(f"{prefix}done")
        counted = sa.select(sa.func.count().label("changed")).select_from(done).cte(f"{prefix}counted")
        more = sa.select(counted.c.changed).scalar_subquery()
        moved = self._moving(prefix, place, names, more).returning(one).cte(f"{prefix}moved")
        ours = sa.select(sa.func.count()).select_from(moved).scalar_subquery()
        found = select.subquery(f"{prefix}found")
        row = sa.select(counted.c.changed, one.op("/", return_type=sa.Integer())(ours), *found.c)
        return row.select_from(counted.outerjoin(found, sa.true()))

    def _is_ours(self) -> Sequence[sa.ColumnElement[bool]]:
        columns, identity = self._table.c, self._identity
        return (
            columns.revision == identity.revision,
            columns.direction == identity.direction,
            columns.ordinal == identity.ordinal,
        )


def apply(connection: Connection, table: sa.Table, revision: str, direction: Direction, count: int) -> None:
    """The version table was brought along with the revision, which has so many backfills: what stands here of its way
    there is done with. Of the way back nothing is left, nor of backfills that it has had once, and has no more."""
    it = table.c
    gone = sa.or_(it.direction != direction, it.ordinal > count)
    connection.execute(table.delete().where(it.revision == revision, gone))
    connection.execute(table.update().where(it.revision == revision, it.direction == direction).values(applied=True))


def exists(connection: Connection, table: sa.Table) -> bool:
    """Also brings one along that an earlier release has made."""
    there = _columns(connection, table)
    if there and table.c.numbers.name not in there:
        preparer = connection.dialect.identifier_preparer
        connection.exec_driver_sql(f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN numbers TEXT")
    return bool(there)


def _columns(connection: Connection, table: sa.Table) -> set[str]:
    """None where there is no such table. What SQLAlchemy asks PostgreSQL takes many times as long, and each run of
    Alembic's asks this."""
    if connection.dialect.name == "postgresql":
        quoted = connection.dialect.identifier_preparer.format_table(table)
        if connection.dialect.identifier_preparer._double_percents:
            quoted = quoted.replace("%%", "%")
        return {str(name) for (name,) in connection.execute(sa.text(_COLUMNS), {"t": quoted})}
    try:
        return {one["name"] for one in sa.inspect(connection).get_columns(table.name, schema=table.schema)}
    except sa.exc.NoSuchTableError:
        return set()


def _given(
    place: Mapping[str, int], values: Mapping[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is written, and the parameters of it and of where the row must stand."""
    given = {"updated_at": _now(), **values}
    old = {f"{prefix}old_{name}": value for name, value in place.items()}
    return given, {f"{prefix}new_{name}": value for name, value in given.items()} | old


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
