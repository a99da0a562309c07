"""SQLAlchemy's expressions over the table that is changed, as people write them, and several columns set at once."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from tests.integration.backfills.conftest import Make, Project

CORE = """
orders = sa.table("orders", sa.column("id"), sa.column("total"), sa.column("status"), sa.column("parent"))
items = sa.table("items", sa.column("order_id"), sa.column("price"))
"""
TABLES = """
meta = sa.MetaData()
orders = sa.Table("orders", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("total", sa.Integer),
    sa.Column("status", sa.String(10)), sa.Column("parent", sa.Integer))
items = sa.Table("items", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("order_id", sa.Integer),
    sa.Column("price", sa.Integer))
"""
MAPPED = """
from sqlalchemy import orm
Base = orm.declarative_base()
class Order(Base):
    __tablename__ = "orders"
    id = sa.Column(sa.Integer, primary_key=True)
    total, status, parent = sa.Column(sa.Integer), sa.Column(sa.String(10)), sa.Column(sa.Integer)
class Item(Base):
    __tablename__ = "items"
    id = sa.Column(sa.Integer, primary_key=True)
    order_id, price = sa.Column(sa.Integer), sa.Column(sa.Integer)
class Both:
    def __init__(self, kind): self.c = kind
orders, items = Both(Order), Both(Item)
"""
WAYS = {"core": CORE, "tables": TABLES, "mapped": MAPPED}
SUM = "sa.select(sa.func.sum(items.c.price)).where(items.c.order_id == orders.c.id).scalar_subquery()"
EXISTS = "sa.exists().where(items.c.order_id == orders.c.id)"


@pytest.fixture
def orders(one_of_each: Project) -> Project:
    one_of_each.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER, status VARCHAR(10), parent INTEGER)",
        "CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER, price INTEGER)",
        "INSERT INTO orders VALUES (1, 0, 'open', NULL), (2, 0, 'done', 1), (3, 0, 'open', 1), (4, 0, 'x', 3)",
        "INSERT INTO items VALUES (1, 1, 10), (2, 1, 5), (3, 2, 100)",
    )
    return one_of_each


@pytest.mark.parametrize("way", WAYS)
async def test_rows_of_another_table_are_those_of_the_row(orders: Project, way: str) -> None:
    backfill = f'op.backfill("orders", set_={{"total": {SUM}}}, where={EXISTS}, batch_size=3)'
    orders.add("filled", None, WAYS[way] + backfill)
    await orders.upgrade()
    assert orders.rows("SELECT id, total FROM orders ORDER BY id") == [(1, 15), (2, 100), (3, 0), (4, 0)]


@pytest.mark.parametrize("way", WAYS)
async def test_its_own_columns_are_the_rows(orders: Project, way: str) -> None:
    arguments = 'set_={"total": orders.c.id + 1}, where=orders.c.status == "open"'
    orders.add("filled", None, WAYS[way] + f'op.backfill("orders", {arguments}, batch_size=3)')
    rows = (
        '"orders", ["id"], lambda rows: [{"total": 7} for _ in rows], where=sa.and_(orders.c.id > 1, orders.c.id < 3)'
    )
    orders.add("rows", "filled", WAYS[way] + f"op.backfill_rows({rows})")
    await orders.upgrade()
    assert orders.rows("SELECT id, total FROM orders ORDER BY id") == [(1, 2), (2, 7), (3, 4), (4, 0)]


async def test_another_row_of_the_same_table(orders: Project) -> None:
    joined = 'other = orders.alias("other")\n'
    parents = "sa.exists().where(other.c.parent == orders.c.id)"
    if orders.dialect == "mysql":  # which reads no table that it changes
        parents = "orders.c.id.in_(sa.select(sa.select(other.c.parent).subquery().c.parent))"
    orders.add("filled", None, CORE + joined + f'op.backfill("orders", set_={{"total": 1}}, where={parents})')
    await orders.upgrade()
    assert orders.rows("SELECT id FROM orders WHERE total = 1 ORDER BY id") == [(1,), (3,)]


async def test_a_column_that_is_not_there_and_a_table_that_may_be_another(orders: Project) -> None:
    orders.add(
        "filled",
        None,
        CORE + 'op.backfill("orders", set_={"total": 1}, where=sa.table("orders", sa.column("no")).c.no > 1)',
    )
    with pytest.raises(CommandError, match="names the column 'no', which 'orders' does not have"):
        await orders.upgrade()
    elsewhere = 'sa.table("orders", sa.column("id"), schema="elsewhere")'
    orders.add("filled", None, f'op.backfill("orders", set_={{"total": 1}}, where={elsewhere}.c.id > 1)')
    with pytest.raises(CommandError, match=r"names 'elsewhere\.orders', and the backfill 'orders'"):
        await orders.upgrade()
    assert orders.rows("SELECT sum(total) FROM orders") == [(0,)]


async def test_several_columns_are_made_of_the_row_as_it_was(one_of_each: Project) -> None:
    one_of_each.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER)",
        "INSERT INTO t VALUES (1, 5, 0, 9), (2, 7, 0, 9)",
    )
    one_of_each.add("filled", None, 'op.backfill("t", set_={"a": "a * 100", "b": "a", "c": "b"})')
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT a, b, c FROM t ORDER BY id") == [(500, 5, 0), (700, 7, 0)]


async def test_columns_that_change_places(one_of_each: Project) -> None:
    one_of_each.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER)", "INSERT INTO t VALUES (1, 5, 7)"
    )
    one_of_each.add("filled", None, 'op.backfill("t", set_={"a": "b", "b": "a"})')
    if one_of_each.dialect != "mysql":
        await one_of_each.upgrade()
        assert one_of_each.rows("SELECT a, b FROM t") == [(7, 5)]
        return
    with pytest.raises(CommandError, match="makes a and b of each other, and MySQL sets one after the other"):
        await one_of_each.upgrade()
    assert one_of_each.rows("SELECT a, b FROM t") == [(5, 7)]


@pytest.mark.parametrize(
    "given", ['{"a": 1}, where="id < 3) OR (id > 0"', '{"a": "1), b = (2"}', '{"a": "coalesce(b"}']
)
async def test_what_would_end_the_parentheses_around_it(one_of_each: Project, given: str) -> None:
    one_of_each.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER)", "INSERT INTO t VALUES (1, 5, 7)"
    )
    one_of_each.add("filled", None, f'op.backfill("t", {given})')
    with pytest.raises(CommandError, match="of the backfill of 't': a parenthesis has no other half"):
        await one_of_each.upgrade()
    assert one_of_each.rows("SELECT a, b FROM t") == [(5, 7)]


@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_none_is_null_in_json_too(postgres: Project, kind: str) -> None:
    postgres.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, j {kind}, k {kind})",
        "INSERT INTO t VALUES (1, '{}', NULL), (2, NULL, '[1]'), (3, 'null', NULL)",
    )
    postgres.add("set", None, 'op.backfill("t", set_={"j": None}, where="id = 1")')
    postgres.add(
        "rows", "set", 'op.backfill_rows("t", ["j", "k"], lambda rows: [dict(j=r["j"], k=r["k"]) for r in rows])'
    )
    await postgres.upgrade()
    assert postgres.rows("SELECT id, j IS NULL, k::text FROM t ORDER BY id") == [
        (1, True, None),
        (2, True, "[1]"),
        (3, True, None),
    ]


LONG = {"varchar(3)[]": ["abcdef"], "char(3)[]": ["abcdef"], "varchar(3)[][]": [["abcdef"]], "bit(3)": "10101"}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("kind", LONG)
async def test_what_is_too_long_for_its_column_is_not_cut_off(make_project: Make, driver: str, kind: str) -> None:
    project = await make_project(driver)
    project.execute(f"CREATE TABLE things (id int PRIMARY KEY, v {kind})", "INSERT INTO things VALUES (1)")
    rows = f'op.backfill_rows("things", [], lambda rows: [{{"v": {LONG[kind]!r}}} for _ in rows])'
    value = f'op.backfill("things", {{"v": {LONG[kind]!r}}})'
    for body in (rows, value) if kind.endswith("]") else (rows,):
        project.add("filled", None, body)
        with pytest.raises(sa.exc.DBAPIError, match=r"too long|does not match"):
            await project.upgrade()
    fitting = str(LONG[kind]).replace("abcdef", "abc").replace("10101", "101")
    project.add("filled", None, rows.replace(str(LONG[kind]), fitting).replace("10101", "101"))
    await project.upgrade()
    assert project.rows("SELECT CAST(v AS text) FROM things") != [(None,)]
