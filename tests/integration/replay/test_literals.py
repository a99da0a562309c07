"""Bound values and their literals, brought to a server: what is taken for the same is the same."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from orchestrator.databases.embedded import Server
from orchestrator.history import faithful
from orchestrator.history.literals import Literals, UnfaithfulError
from tests.servers import MakeDatabases


class Mood(enum.Enum):
    SAD = "sad"
    GLAD = "it's glad"


class Packed(sa.TypeDecorator[str]):
    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.encode()


class Utc(sa.TypeDecorator[datetime.datetime]):
    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.replace(tzinfo=datetime.UTC)


class Trimmed(sa.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.strip()


class Sealed(sa.Text):
    cache_ok = True

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: value[::-1]


class Named(enum.StrEnum):
    ONE = "one"


TEXTS = ["", "a", 'it\'s 100 % :x \\ \\\\ "q" $$ é 𝄞 \t\n', "\\x41", "null", "-- x", " 1"]
NUMBERS = [0, -1, 2**31 - 1, -(2**31)]
DECIMALS = [decimal.Decimal(text) for text in ("0", "-1.505", "1.50", "1E+3", "1E-20", "-0", "123456789012345678.9")]
DAYS = [datetime.date(*day) for day in ((1, 1, 2), (999, 12, 31), (1582, 10, 10), (2026, 2, 28), (9999, 12, 30))]
MOMENTS = [
    *(datetime.datetime(day.year, day.month, day.day, 23, 59, 59, 999999) for day in DAYS),
    datetime.datetime(2026, 3, 29, 2, 30),
    datetime.datetime(9999, 12, 31),
]
EQUAL: list[tuple[Any, Sequence[Any]]] = [
    *((type_, [*TEXTS, None]) for type_ in (sa.Text(), sa.String(90), sa.Unicode(), postgresql.VARCHAR())),
    (Trimmed(), [" x ", "\\"]),
    (sa.Text().with_variant(postgresql.VARCHAR(90), "postgresql"), TEXTS),
    *((type_, [*NUMBERS, None]) for type_ in (sa.Integer(), sa.BigInteger(), sa.Numeric(), sa.Float())),
    (sa.BigInteger(), [2**63 - 1, -(2**63)]),
    (sa.SmallInteger(), [-32768]),
    (sa.Boolean(), [True, False, None]),
    *((type_, [*DECIMALS, None]) for type_ in (sa.Numeric(), sa.Numeric(40, 2))),
    (sa.Date(), [*DAYS, None]),
    (sa.DateTime(), [*MOMENTS, None]),
    (sa.Time(), [datetime.time(), datetime.time(23, 59, 59, 999999), None]),
    (sa.Uuid(), [uuid.UUID(int=5), uuid.UUID(int=2**128 - 1), None]),
    (postgresql.UUID(), [uuid.UUID(int=7)]),
    (sa.Enum(Mood, name="mood", native_enum=False), [Mood.SAD, Mood.GLAD, "SAD", None]),
    (sa.Enum("x", "y'z", name="kind"), ["x", "y'z"]),
    (sa.JSON(none_as_null=True), [None]),
    *((sa.ARRAY(sa.Text()), [value]) for value in (["a", "it's \\ {,}", "", "NULL"], ["é"])),
    (sa.ARRAY(sa.Integer()), [[1, -2]]),
    (sa.ARRAY(sa.Boolean()), [[True, False]]),
]
REFUSED: list[tuple[Any, Any, Sequence[str]]] = [
    (sa.Date(), datetime.date.max, ["asyncpg"]),
    (sa.Date(), datetime.date.min, ["asyncpg"]),
    (sa.DateTime(), datetime.datetime.max, ["asyncpg"]),
    (sa.DateTime(timezone=True), datetime.datetime(2026, 1, 1, 12), ["asyncpg"]),
    (sa.ARRAY(sa.Boolean()), [True, None], ["asyncpg", "psycopg"]),
    (sa.ARRAY(sa.Text()), [["a"], ["b"]], ["asyncpg", "psycopg"]),
    (sa.JSON(), {"a": 1}, ["asyncpg", "psycopg"]),
    (sa.LargeBinary(), b"\\101", ["asyncpg", "psycopg"]),
    (Packed(), r"C:\101\134", ["asyncpg", "psycopg"]),
    (Utc(), datetime.datetime(2026, 1, 1, 12), ["asyncpg", "psycopg"]),
    (Sealed(), "PIN", ["asyncpg", "psycopg"]),
    (sa.Text(), Named.ONE, ["asyncpg", "psycopg"]),
    (sa.Float(), decimal.Decimal("0.1"), ["asyncpg", "psycopg"]),
    (sa.Float(), 0.1, ["asyncpg", "psycopg"]),
    (sa.Integer(), True, ["asyncpg", "psycopg"]),
    (sa.Date(), datetime.datetime(2026, 1, 1, 12), ["asyncpg", "psycopg"]),
    (sa.Time(timezone=True), datetime.time(12), ["asyncpg", "psycopg"]),
    (sa.Interval(), datetime.timedelta(1), ["asyncpg", "psycopg"]),
    *((type_, value, ["psycopg2", "pg8000"]) for type_, value in ((sa.Date(), DAYS[0]), (sa.Numeric(), DECIMALS[1]))),
]


def rendered(statement: Any, driver: str) -> str:
    """As the compiler renders it for an env.py with this driver."""
    kind: Any = sa.dialects.registry.load(f"postgresql.{driver}")
    return Literals(kind(paramstyle="named")).render(statement, {})


@pytest.mark.parametrize("driver", sorted(faithful.PROVEN))
async def test_what_is_rendered_is_what_the_driver_sends(
    driver: str, pg: Server, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    (database,) = await make_databases(1)
    monkeypatch.setenv("TZ", "America/New_York")
    plain = await asyncpg.connect(pg.url(database))
    await plain.execute(f"ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'")
    await plain.execute("SET timezone = 'Asia/Tokyo'")
    url = make_url(pg.url(database)).set(drivername=f"postgresql+{driver}")
    bound = create_async_engine(url)
    cases = [*EQUAL, *([(sa.DateTime(timezone=True), MOMENTS)] if driver == "psycopg" else [])]
    try:
        for number, (type_, values) in enumerate(cases):
            table = sa.Table(f"t{number}", sa.MetaData(), sa.Column("n", sa.Integer), sa.Column("v", type_))
            inserts = [table.insert().values(n=place, v=value) for place, value in enumerate(values)]
            async with bound.begin() as connection:
                await connection.run_sync(table.metadata.create_all)
                for insert in inserts:
                    await connection.execute(insert)
            for insert in inserts:
                await plain.execute(rendered(insert, driver))
            query = f"SELECT count(*), count(DISTINCT coalesce(v::text, '-')) FROM t{number} GROUP BY n ORDER BY n"
            rows = [tuple(row) for row in await plain.fetch(query)]
            assert rows == [(2, 1)] * len(values), (type_, list(zip(values, rows, strict=True)))
    finally:
        await plain.close()
        await bound.dispose()


@pytest.mark.parametrize("driver", sorted(faithful.PROVEN))
async def test_what_may_stand_anywhere_has_the_type_that_the_driver_gives_it(
    driver: str, pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    bound = create_async_engine(make_url(pg.url(database)).set(drivername=f"postgresql+{driver}"))
    plain = await asyncpg.connect(pg.url(database))
    values: list[tuple[Any, Any]] = [
        *((sa.Text(), text) for text in TEXTS),
        *((type_, number) for type_ in (sa.Integer(), sa.BigInteger()) for number in NUMBERS),
        (sa.BigInteger(), 2**62),
        (sa.Boolean(), True),
        (sa.Text(), None),
        (sa.Integer(), None),
    ]
    try:
        for type_, value in values:
            given = sa.literal(value, type_)
            asked = sa.select(sa.cast(sa.func.pg_typeof(given), sa.Text), sa.cast(given, sa.Text))
            async with bound.connect() as connection:
                sent = tuple((await connection.execute(asked)).one())
            assert tuple(await plain.fetchrow(rendered(asked, driver))) == sent, (type_, value)
    finally:
        await plain.close()
        await bound.dispose()


@pytest.mark.parametrize(("type_", "value", "drivers"), REFUSED)
def test_what_may_come_out_otherwise_is_refused(type_: Any, value: Any, drivers: Sequence[str]) -> None:
    insert = sa.table("t", sa.column("v", type_)).insert().values(v=value)
    for driver in drivers:
        with pytest.raises(UnfaithfulError):
            rendered(insert, driver)
