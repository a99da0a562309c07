"""Random migration histories for SQLite and for MariaDB, as `tests.histories` makes them for PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.histories import AWKWARD, Lineage, Maker

IMPORTS = "import datetime, decimal, uuid\nfrom sqlalchemy.dialects import mysql\n"
TYPES = {
    "Integer": "sa.Integer()",
    "BigInteger": "sa.BigInteger()",
    "Text": "sa.Text()",
    "String": "sa.String(40)",
    "Boolean": "sa.Boolean()",
    "Date": "sa.Date()",
    "DateTime": "sa.DateTime()",
    "Float": "sa.Float()",
    "JSON": "sa.JSON()",
    "UUID": "sa.Uuid()",
}
DEFAULTS = {"Integer": "'7'", "BigInteger": "sa.text('0')", "String": "'it''s %'", "Boolean": "sa.false()"}
VALUES = {
    "Integer": "42",
    "BigInteger": "2 ** 40",
    "Boolean": "True",
    "Date": "datetime.date(2026, 2, 28)",
    "DateTime": "datetime.datetime(2026, 2, 28, 12, 30)",
    "UUID": "uuid.UUID('12345678-1234-5678-1234-567812345678')",
    "JSON": "{'a': [1, \"it's\", None, 'back\\\\slash %']}",
}


class Other(Maker):
    """What both can do."""

    types: ClassVar[Mapping[str, str]] = TYPES
    values: ClassVar[Mapping[str, str]] = VALUES
    imports, key = IMPORTS, "primary_key=True"
    defaults: ClassVar[Mapping[str, str]] = DEFAULTS

    def _common(self, lineage: Lineage) -> list:  # type: ignore[type-arg]
        return [
            self._create_table,
            self._add_column,
            self._rename_column,
            self._create_index,
            self._drop_index,
            self._insert,
            self._insert,
            self._bulk_insert,
            self._update,
            self._update_bound,
            self._view,
            self._trigger,
            self._reads_and_adds,
            self._session,
        ]

    def _possible(self, lineage: Lineage) -> list:  # type: ignore[type-arg]
        return self._common(lineage) if lineage.tables else [self._create_table]

    def _indexable(self, lineage: Lineage):  # type: ignore[no-untyped-def]
        table = self._table(lineage)
        names = [name for name, kind in table.columns.items() if kind not in ("JSON", "Text")]
        return table, self._chance.choice(names or ["id"])

    def _create_index(self, lineage: Lineage) -> list[str]:
        table, column = self._indexable(lineage)
        index = f"{lineage.name('ix')}_{column}"
        table.indexes.append(index)
        return [f"op.create_index({index!r}, {table.name!r}, [{column!r}])"]

    def _view(self, lineage: Lineage) -> list[str]:
        name = lineage.name("v")
        return [f"op.execute(\"CREATE VIEW {name} AS SELECT 'a %; b' AS a, id FROM {self._table(lineage).name}\")"]

    def _trigger(self, lineage: Lineage) -> list[str]:
        name, table = lineage.name("tr"), self._table(lineage)
        log = lineage.name("log")
        text = (
            f"CREATE TRIGGER {name} AFTER INSERT ON {table.name} FOR EACH ROW BEGIN\n"
            f"\tINSERT INTO {log} VALUES ('a; b');\n\tINSERT INTO {log} VALUES ('c'); -- done\nEND"
        )
        return [f"op.create_table({log!r}, sa.Column('a', sa.String(20)))", f"op.execute({text!r})"]

    def _session(self, lineage: Lineage) -> list[str]:
        """Changes its session, so it has to run online, and whatever follows."""
        if self._chance.random() < 0.9:
            return ["pass"]
        return [f"op.execute({self.session!r})"]

    session = ""


class SQLite(Other):
    session = "PRAGMA recursive_triggers = ON"

    def _view(self, lineage: Lineage) -> list[str]:
        """Of no table: one that is made anew must not be looked at by a view."""
        return [f"op.execute(\"CREATE VIEW {lineage.name('v')} AS SELECT 'a %; b' AS a, 1 AS id\")"]

    def _possible(self, lineage: Lineage) -> list:  # type: ignore[type-arg]
        if not lineage.tables:
            return [self._create_table]
        return [*self._common(lineage), self._drop_column, self._batch, self._decimal]

    def _drop_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        free = [name for name in table.columns if not any(index.endswith(name) for index in table.indexes)]
        if len(free) < 2 or table.columns[free[0]] == "Boolean":
            return ["pass"]
        del table.columns[free[0]]
        return [f"op.drop_column({table.name!r}, {free[0]!r})"]

    def _batch(self, lineage: Lineage) -> list[str]:
        """Reads the catalog, so it has to run online."""
        if self._chance.random() < 0.7:
            return ["pass"]
        table, name = self._table(lineage), lineage.name("c")
        table.columns[name] = "Text"
        return [
            f"with op.batch_alter_table({table.name!r}, recreate='always') as batch:",
            f"    batch.add_column(sa.Column({name!r}, sa.Text()))",
        ]

    def _decimal(self, lineage: Lineage) -> list[str]:
        if self._chance.random() < 0.7:
            return ["pass"]
        name = lineage.name("d")
        table = f"sa.table({name!r}, sa.column('a', sa.Numeric(12, 3)))"
        return [
            f"op.create_table({name!r}, sa.Column('a', sa.Numeric(12, 3)))",
            f"op.execute({table}.insert().values(a=decimal.Decimal('-12.125')))",
        ]


class MariaDB(Other):
    session = "SET foreign_key_checks = 0"
    types: ClassVar[Mapping[str, str]] = {
        **TYPES,
        "Numeric": "sa.Numeric(12, 3)",
        "Long": "mysql.LONGTEXT()",
        "Kind": "sa.Enum('new', \"it's\")",
    }
    values: ClassVar[Mapping[str, str]] = {**VALUES, "Numeric": "decimal.Decimal('-12.125')", "Kind": '"it\'s"'}
    defaults: ClassVar[Mapping[str, str]] = {
        **DEFAULTS,
        "DateTime": "sa.func.now()",
        "Numeric": "'1.5'",
        "Kind": "sa.func.lower('NEW')",
    }

    def _possible(self, lineage: Lineage) -> list:  # type: ignore[type-arg]
        if not lineage.tables:
            return [self._create_table]
        more = [self._drop_column, self._alter_column, self._check, self._procedure, self._comment, self._upsert]
        return [*self._common(lineage), *more]

    def _indexable(self, lineage: Lineage):  # type: ignore[no-untyped-def]
        table = self._table(lineage)
        names = [name for name, kind in table.columns.items() if kind not in ("JSON", "Text", "Long")]
        return table, self._chance.choice(names or ["id"])

    def _drop_index(self, lineage: Lineage) -> list[str]:
        for table in lineage.tables:
            if table.indexes:
                return [f"op.drop_index({table.indexes.pop()!r}, table_name={table.name!r})"]
        return ["pass"]

    def _rename_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        name = self._chance.choice(list(table.columns))
        if any(index.endswith(name) for index in table.indexes):
            return ["pass"]
        new, kind = lineage.name("c"), table.columns.pop(name)
        table.columns[new] = kind
        return [
            f"op.alter_column({table.name!r}, {name!r}, new_column_name={new!r}, existing_type={self.types[kind]}, "
            "existing_nullable=True)"
        ]

    def _alter_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        for name, kind in table.columns.items():
            if kind == "String":
                default = self._chance.choice(AWKWARD).replace(":", "")
                return [
                    f"op.alter_column({table.name!r}, {name!r}, type_=sa.String(80), server_default={default!r}, "
                    "existing_nullable=True)"
                ]
        return ["pass"]

    def _check(self, lineage: Lineage) -> list[str]:
        """Taken back in a way that hangs on the server."""
        table, name, column = self._table(lineage), lineage.name("ck"), lineage.name("n")
        lines = [
            f"op.add_column({table.name!r}, sa.Column({column!r}, sa.Integer()))",
            f"op.create_check_constraint({name!r}, {table.name!r}, '{column} % 7 <> -1')",
        ]
        if self._chance.random() < 0.5:
            return lines
        return [*lines, f"op.drop_constraint({name!r}, {table.name!r}, type_='check')"]

    def _procedure(self, lineage: Lineage) -> list[str]:
        name = lineage.name("p")
        text = f"CREATE PROCEDURE {name}(IN n int)\nBEGIN\n\tDECLARE m int; # it's\n\tSET m = n * 2;\nEND"
        return [f"op.execute({text!r})"]

    def _update_bound(self, lineage: Lineage) -> list[str]:
        found = self._texts(lineage)
        if found is None:
            return ["pass"]
        table, name = found
        statement = f"UPDATE {table.name} SET {name} = CONCAT({name}, :more)"
        return [f"op.get_bind().execute(sa.text({statement!r}), {{'more': {self._chance.choice(AWKWARD)!r}}})"]

    def _upsert(self, lineage: Lineage) -> list[str]:
        """Written otherwise for MySQL 8 than for MariaDB."""
        table = self._table(lineage)
        return [
            f"t = sa.table({table.name!r}, sa.column('id', sa.Integer()))",
            "insert = mysql.insert(t).values(id=1)",
            "op.execute(insert.on_duplicate_key_update(id=insert.inserted.id))",
        ]
