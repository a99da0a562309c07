"""Text with its values in it, held against what drivers are handed for the same construct; nothing connects."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg, psycopg

from orchestrator.history import dialects, handed
from orchestrator.history.literals import Literals, UnfaithfulError
from orchestrator.history.rehearsal import Rehearsal, Sent
from orchestrator.history.spoken import Speaker, Spoken

PSYCOPG: Callable[..., Any] = psycopg.dialect
DIALECTS: dict[str, Callable[..., Any]] = {"psycopg": PSYCOPG, "asyncpg": asyncpg.dialect}
T = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("day", sa.Date),
    sa.Column("at", sa.DateTime),
    sa.Column("price", sa.Numeric),
    sa.Column("key", sa.Uuid),
    sa.Column("name", sa.String(5)),
    sa.Column("flags", postgresql.ARRAY(sa.Boolean)),
)
VALUES: dict[str, Any] = {
    "day": datetime.date(2026, 1, 1),
    "at": datetime.datetime(2026, 1, 1, 12, 5, 6, 7),
    "price": decimal.Decimal("-2.50"),
    "key": uuid.UUID(int=5),
    "name": "it's 100 % $1",
    "flags": [True, False],
}


@pytest.fixture(params=DIALECTS)
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return DIALECTS[request.param]


def said(kind: Callable[..., Any], construct: Any, parameters: Mapping[str, Any] | None = None) -> Spoken:
    dialect, given = kind(paramstyle="named"), parameters or {}
    speaker = Speaker(Literals(dialect), dialects.like(dialect, {"paramstyle": "named"}))
    return speaker.spoken([speaker.pieces(construct, given)], construct, given)


@pytest.mark.parametrize(
    ("construct", "parameters", "text"),
    [
        (T.insert().values(**VALUES), {}, "'it''s 100 % $1'::VARCHAR"),
        (T.insert().inline().values(id=-1, name=None), {}, "VALUES ((-1)::INTEGER, NULL::VARCHAR)"),
        (T.update().where(T.c.name.in_(["a", "b%"])).values(id=T.c.id - -5), {}, "IN ('a'::VARCHAR, 'b%'::VARCHAR)"),
        (T.delete().where(T.c.name.in_([])), {}, "DELETE FROM t WHERE"),
        (T.delete().where(sa.tuple_(T.c.id, T.c.name).in_([(1, "a")])), {}, "IN ((1, 'a'))"),
        ("UPDATE t SET name = :a, id = :b WHERE name LIKE '%x%'", {"a": "it's", "b": 5}, "name = 'it''s', id = 5"),
        (sa.text("SELECT :a").bindparams(a=7), {}, "SELECT 7::INTEGER"),
        ("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 % 2'", {}, "'SELECT $1 % 2'"),
        (sa.schema.CreateTable(sa.Table("100%", sa.MetaData(), sa.Column("a", sa.Text))), {}, 'CREATE TABLE "100%"'),
    ],
)
def test_text_that_means_what_the_driver_is_handed(
    construct: Any, parameters: dict[str, Any], text: str, kind: Callable[..., Any]
) -> None:
    spoken = said(kind, construct, parameters)
    assert text in spoken.texts[0]
    assert len(spoken.wire) == 1


class Reversed(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if value is None else value[::-1]


class Packed(sa.TypeDecorator[str]):
    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.encode()


class Sealed(sa.types.UserDefinedType[str]):
    cache_ok = True

    def bind_processor(self, dialect: Any) -> Any:
        return lambda value: f"sealed {value}"

    def literal_processor(self, dialect: Any) -> Any:
        return lambda value: f"'{value}'"


OWN = sa.table(
    "t", sa.column("a", Reversed()), sa.column("b", Sealed()), sa.column("p", Packed()), sa.column("j", sa.JSON())
)


def test_a_type_that_changes_values_alike_in_both_ways_is_taken(kind: Callable[..., Any]) -> None:
    spoken = said(kind, OWN.insert().values(a="abc"))
    assert spoken.texts == ("INSERT INTO t (a) VALUES ('cba'::VARCHAR)",)


@pytest.mark.parametrize(
    "construct",
    [
        OWN.insert().values(p=r"C:\\101"),
        OWN.insert().values(b="letter"),
        OWN.insert().values(j=None),
        T.insert().values(flags=[True, None]),
        T.insert().values(at=VALUES["at"].replace(tzinfo=datetime.UTC)),
        sa.func.f(1),
    ],
)
def test_what_the_text_does_not_mean_is_refused(construct: Any, kind: Callable[..., Any]) -> None:
    with pytest.raises(UnfaithfulError):
        said(kind, construct)


def test_rows_that_go_together_in_one_statement_are_refused() -> None:
    """As psycopg2 sends them."""
    rows = [{"name": "a"}, {"name": "b"}]
    dialect = PSYCOPG(paramstyle="named")
    plain, multiple = (dialects.like(dialect, {}) for _ in range(2))
    multiple.use_insertmanyvalues_wo_returning = True
    literals = Literals(dialect)
    texts = [literals.pieces(T.insert().inline().values(**row), {}) for row in rows]
    spoken = Speaker(literals, plain).spoken(texts, T.insert().inline(), rows)
    assert (len(spoken.texts), len(spoken.wire)) == (2, 1)
    with pytest.raises(UnfaithfulError, match="is sent 1 statements where compiled SQL has 2"):
        Speaker(literals, multiple).spoken(texts, T.insert().inline(), rows)


def test_digests_differ_where_text_values_or_types_do(kind: Callable[..., Any]) -> None:
    dialect = dialects.like(kind(), {})
    rows = ({"a": 1}, {"a": "1"}, {"a": True}, {"a": decimal.Decimal(1)}, {"b": 1}, {"a": object()}, {"a": object()})
    every = [Sent("S", (row,)) for row in rows]
    every += [Sent("T", ({"a": 1},)), Sent("S", ({"a": 1},), many=True), Sent("S", ({"a": 1}, {"a": 1}), many=True)]
    found = [handed.digest(one, dialect) for one in every]
    assert len(set(found)) == len(found)
    assert handed.digest(Sent("S", ({"a": 1},)), dialect) == found[0]
    assert handed.digest(Sent("S", (None,)), dialect) == handed.digest(Sent("S", ((),)), dialect)


def test_json_is_what_the_engine_writes() -> None:
    insert = OWN.insert().values(j={"a": "é"})
    plain, other = (
        dialects.like(PSYCOPG(), options)
        for options in ({}, {"json_serializer": lambda value: json.dumps(value, ensure_ascii=False)})
    )
    digests = {handed.digest(Rehearsal(one).of(insert)[0], one) for one in (plain, other)}
    assert len(digests) == 2
