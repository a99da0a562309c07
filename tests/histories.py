"""Random migration histories: revisions that do what real ones do, valid whatever came before them.

Every revision is Python source for `tests.environments`. Each lineage works on tables of its own, so that branches can
be merged in any order.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests import environments

AWKWARD = [
    "plain",
    "it's",
    'a "quoted" word',
    "back\\slash \\n",
    "tab\there",
    "line\nbreak",
    "100 % of %s and %(x)s",
    "a:b ::c :name",
    "-- no comment; /* none */",
    "$$ dollar $tag$",
    "Zürich 東京 🐘",
    "",
    "?",
    "{braces}",
]
TYPES = {
    "Integer": "sa.Integer()",
    "BigInteger": "sa.BigInteger()",
    "Text": "sa.Text()",
    "String": "sa.String(40)",
    "Numeric": "sa.Numeric(12, 3)",
    "Boolean": "sa.Boolean()",
    "Date": "sa.Date()",
    "DateTime": "sa.DateTime(timezone=True)",
    "Float": "sa.Float()",
    "JSON": "postgresql.JSONB()",
    "UUID": "sa.Uuid()",
    "Array": "postgresql.ARRAY(sa.Integer())",
}
DEFAULTS = {
    "Integer": "'7'",
    "BigInteger": "sa.text('0')",
    "Text": "'it''s %'",
    "String": "'x'",
    "Numeric": "'1.5'",
    "Boolean": "sa.false()",
    "DateTime": "sa.func.now()",
    "JSON": "sa.text(\"'{}'::jsonb\")",
}
VALUES = {
    "Integer": "42",
    "BigInteger": "2 ** 40",
    "Numeric": "decimal.Decimal('-12.125')",
    "Boolean": "True",
    "Date": "datetime.date(2026, 2, 28)",
    "UUID": "uuid.UUID('12345678-1234-5678-1234-567812345678')",
}
IMPORTS = "import datetime, decimal, uuid\nfrom sqlalchemy.dialects import postgresql\n"


@dataclass
class Table:
    name: str
    columns: dict[str, str] = field(default_factory=dict)
    indexes: list[str] = field(default_factory=list)


@dataclass
class Lineage:
    """One line of descent, and the tables it made."""

    prefix: str
    tables: list[Table] = field(default_factory=list)
    made: int = 0

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{self.prefix}_{kind}{self.made}"


class Maker:
    """Writes random revisions of a lineage, for PostgreSQL."""

    types: ClassVar[Mapping[str, str]] = TYPES
    defaults: ClassVar[Mapping[str, str]] = DEFAULTS
    values: ClassVar[Mapping[str, str]] = VALUES
    imports, key = IMPORTS, "sa.Identity(), primary_key=True"

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def body(self, lineage: Lineage) -> str:
        lines = [self.imports]
        for _ in range(self._chance.randint(1, 4)):
            operation = self._chance.choice(self._possible(lineage))
            lines += operation(lineage)
        return "\n".join(lines)

    def _possible(self, lineage: Lineage) -> list:  # type: ignore[type-arg]
        if not lineage.tables:
            return [self._create_table]
        return [
            self._create_table,
            self._add_column,
            self._drop_column,
            self._alter_column,
            self._rename_column,
            self._create_index,
            self._create_index_concurrently,
            self._drop_index,
            self._check,
            self._function,
            self._enum,
            self._insert,
            self._insert,
            self._bulk_insert,
            self._update,
            self._update_bound,
            self._comment,
            self._reads_and_adds,
        ]

    def _table(self, lineage: Lineage) -> Table:
        return self._chance.choice(lineage.tables)

    def _column_source(self, name: str, kind: str) -> str:
        default = self.defaults.get(kind)
        if default is not None and self._chance.random() < 0.5:
            return f"sa.Column({name!r}, {self.types[kind]}, server_default={default}, nullable=False)"
        return f"sa.Column({name!r}, {self.types[kind]})"

    def _create_table(self, lineage: Lineage) -> list[str]:
        table = Table(lineage.name("t"))
        columns = [f"sa.Column('id', sa.Integer(), {self.key})"]
        for _ in range(self._chance.randint(1, 4)):
            name, kind = lineage.name("c"), self._chance.choice(list(self.types))
            table.columns[name] = kind
            columns.append(self._column_source(name, kind))
        if lineage.tables and self._chance.random() < 0.4:
            other = self._table(lineage)
            columns.append(
                f"sa.Column('parent_id', sa.Integer(), sa.ForeignKey('{other.name}.id', ondelete='CASCADE'))"
            )
        comment = f", comment={self._chance.choice(AWKWARD)!r}" if self._chance.random() < 0.3 else ""
        lineage.tables.append(table)
        return [f"op.create_table({table.name!r}, {', '.join(columns)}{comment})"]

    def _add_column(self, lineage: Lineage) -> list[str]:
        table, name, kind = self._table(lineage), lineage.name("c"), self._chance.choice(list(self.types))
        table.columns[name] = kind
        return [f"op.add_column({table.name!r}, {self._column_source(name, kind)})"]

    def _drop_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        if len(table.columns) < 2:
            return ["pass"]
        name = self._chance.choice(list(table.columns))
        del table.columns[name]
        table.indexes = [index for index in table.indexes if not index.endswith(name)]
        return [f"op.drop_column({table.name!r}, {name!r})"]

    def _alter_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        for name, kind in table.columns.items():
            if kind == "Integer":
                table.columns[name] = "BigInteger"
                return [f"op.alter_column({table.name!r}, {name!r}, type_=sa.BigInteger(), existing_type=sa.Integer())"]
            if kind == "String":
                table.columns[name] = "Text"
                default = self._chance.choice(AWKWARD).replace(":", "")
                return [f"op.alter_column({table.name!r}, {name!r}, type_=sa.Text(), server_default={default!r})"]
        return ["pass"]

    def _rename_column(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        name = self._chance.choice(list(table.columns))
        if any(index.endswith(name) for index in table.indexes):
            return ["pass"]
        new = lineage.name("c")
        table.columns[new] = table.columns.pop(name)
        return [f"op.alter_column({table.name!r}, {name!r}, new_column_name={new!r})"]

    def _indexable(self, lineage: Lineage) -> tuple[Table, str]:
        table = self._table(lineage)
        names = [name for name, kind in table.columns.items() if kind not in ("JSON",)]
        return table, self._chance.choice(names or ["id"])

    def _create_index(self, lineage: Lineage) -> list[str]:
        table, column = self._indexable(lineage)
        index = f"{lineage.name('ix')}_{column}"
        table.indexes.append(index)
        where = ", postgresql_where=sa.text('id > 10')" if self._chance.random() < 0.3 else ""
        return [f"op.create_index({index!r}, {table.name!r}, [{column!r}]{where})"]

    def _create_index_concurrently(self, lineage: Lineage) -> list[str]:
        table, column = self._indexable(lineage)
        index = f"{lineage.name('ix')}_{column}"
        table.indexes.append(index)
        return [
            "with op.get_context().autocommit_block():",
            f"    op.create_index({index!r}, {table.name!r}, [{column!r}], postgresql_concurrently=True)",
        ]

    def _drop_index(self, lineage: Lineage) -> list[str]:
        for table in lineage.tables:
            if table.indexes:
                return [f"op.drop_index({table.indexes.pop()!r}, table_name={table.name!r})"]
        return ["pass"]

    def _check(self, lineage: Lineage) -> list[str]:
        table, name = self._table(lineage), lineage.name("ck")
        return [f"op.create_check_constraint({name!r}, {table.name!r}, 'id <> -1')"]

    def _function(self, lineage: Lineage) -> list[str]:
        name = lineage.name("f")
        text = (
            f"CREATE FUNCTION {name}(n int) RETURNS int LANGUAGE plpgsql AS $body$\n"
            "BEGIN\n\t-- a comment; with 'a quote\n\tRETURN n * 2;\nEND;\n$body$"
        )
        return [f"op.execute({text!r})"]

    def _enum(self, lineage: Lineage) -> list[str]:
        table, column, kind = self._table(lineage), lineage.name("c"), lineage.name("e")
        return [
            f"sa.Enum('new', \"it's\", 'done', name={kind!r}).create(op.get_bind(), checkfirst=False)",
            f"op.add_column({table.name!r}, sa.Column({column!r}, "
            f'postgresql.ENUM(name={kind!r}, create_type=False), server_default="it\'s"))',
        ]

    def _row(self, table: Table) -> dict[str, str]:
        row = {}
        for name, kind in table.columns.items():
            if kind in ("Text", "String"):
                row[name] = repr(self._chance.choice(AWKWARD))
            elif kind in self.values:
                row[name] = self.values[kind]
        return row

    def _sa_table(self, table: Table) -> str:
        columns = ", ".join(f"sa.column({name!r}, {self.types[kind]})" for name, kind in table.columns.items())
        return f"sa.table({table.name!r}, {columns})"

    def _insert(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        values = ", ".join(f"{name!r}: {value}" for name, value in self._row(table).items())
        return [f"op.execute({self._sa_table(table)}.insert().values({{{values}}}))"]

    def _bulk_insert(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        rows = [
            "{" + ", ".join(f"{name!r}: {value}" for name, value in self._row(table).items()) + "}"
            for _ in range(self._chance.randint(1, 3))
        ]
        if rows[0] == "{}":
            return ["pass"]
        return [f"op.bulk_insert({self._sa_table(table)}, [{', '.join(rows)}])"]

    def _texts(self, lineage: Lineage) -> tuple[Table, str] | None:
        table = self._table(lineage)
        names = [name for name, kind in table.columns.items() if kind == "Text"]
        return (table, names[0]) if names else None

    def _update(self, lineage: Lineage) -> list[str]:
        found = self._texts(lineage)
        if found is None:
            return ["pass"]
        table, name = found
        value = self._chance.choice(AWKWARD).replace("'", "''").replace(":", r"\:")
        return [f"op.execute({f'''UPDATE {table.name} SET {name} = '{value}' WHERE id % 2 = 1'''!r})"]

    def _update_bound(self, lineage: Lineage) -> list[str]:
        found = self._texts(lineage)
        if found is None:
            return ["pass"]
        table, name = found
        statement = f"UPDATE {table.name} SET {name} = {name} || :more"
        return [f"op.get_bind().execute(sa.text({statement!r}), {{'more': {self._chance.choice(AWKWARD)!r}}})"]

    def _comment(self, lineage: Lineage) -> list[str]:
        table = self._table(lineage)
        return [f"op.create_table_comment({table.name!r}, {self._chance.choice(AWKWARD)!r})"]

    def _reads_and_adds(self, lineage: Lineage) -> list[str]:
        """Looks into the database, so it has to run online."""
        if self._chance.random() < 0.8:
            return ["pass"]
        table, name = self._table(lineage), lineage.name("c")
        table.columns[name] = "Text"
        return [
            f"if op.get_bind().execute(sa.text('SELECT count(*) FROM {table.name}')).scalar() >= 0:",
            f"    op.add_column({table.name!r}, sa.Column({name!r}, sa.Text()))",
        ]


def write(folder: Path, seed: int, kind: type[Maker] = Maker) -> list[str]:
    """A random history in the project at `folder`: a line, sometimes with a branch that is merged back or left open.

    Returns the revisions in an order in which they can be applied.
    """
    chance = random.Random(seed)
    maker, main, side = kind(chance), Lineage("a"), Lineage("b")
    revisions: list[str] = []
    down: str | None = None
    for number in range(chance.randint(2, 5)):
        down = _add(folder, f"m{number}", down, maker.body(main), revisions)
    if chance.random() < 0.5:
        branch = down
        for number in range(chance.randint(1, 2)):
            branch = _add(folder, f"s{number}", branch, maker.body(side), revisions)
        for number in range(5, 5 + chance.randint(1, 2)):
            down = _add(folder, f"m{number}", down, maker.body(main), revisions)
        if chance.random() < 0.6:
            file = environments.add_revision(folder, "merged", None, maker.body(main))
            text = file.read_text().replace("down_revision = None", f"down_revision = ({branch!r}, {down!r})")
            file.write_text(text)
            revisions.append("merged")
            _add(folder, "m9", "merged", maker.body(main), revisions)
    if chance.random() < 0.7:
        environments.use_transaction_per_migration(folder)
    return revisions


def _add(folder: Path, revision: str, down: str | None, body: str, revisions: list[str]) -> str:
    environments.add_revision(folder, revision, down, body)
    revisions.append(revision)
    return revision
