"""What differs and means nothing is no drift."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.databases import fingerprint, mysql_catalog
from orchestrator.databases.base import Neighbours
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql import PostgreSQL
from tests import engine, mariadb
from tests.integration.drift.places import Fleet
from tests.servers import unique_names

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "CREATE TABLE t (a integer, b integer); CREATE STATISTICS st (ndistinct) ON a, b FROM t",
            "CREATE TABLE t (b integer, a integer); CREATE STATISTICS st (ndistinct) ON a, b FROM t",
        ),
        (
            "CREATE TABLE t (a integer CHECK (a BETWEEN 1 AND 2 AND a <> 3))",
            "CREATE TABLE t (a integer CHECK (((a >= 1) AND (a <= 2) AND (a <> 3))))",
        ),
        (
            "CREATE SEQUENCE s; CREATE TABLE t (id serial)",
            "CREATE SEQUENCE s; CREATE TABLE t (id serial); SELECT nextval('s'), setval('t_id_seq', 70)",
        ),
        (
            "CREATE TABLE t (a integer);CREATE VIEW v WITH (security_barrier, check_option = local) AS SELECT a FROM t",
            "CREATE TABLE t (a integer); CREATE VIEW v WITH (check_option = local) AS SELECT a FROM t;"
            "ALTER VIEW v SET (security_barrier = true)",
        ),
    ],
    ids=["statistics", "a flat AND", "counters", "order of options"],
)
async def test_postgresql_databases_are_alike(postgresql: Fleet, one: str, other: str) -> None:
    first, second = postgresql.names
    await postgresql.execute(first, one)
    await postgresql.execute(second, other)
    assert await postgresql.differing(first, second) == []


SETTINGS = (
    "timezone TO 'Asia/Tokyo'",
    "datestyle TO 'German'",
    "intervalstyle TO 'iso_8601'",
    "extra_float_digits TO 0",
    "bytea_output TO 'escape'",
    "quote_all_identifiers TO on",
    "search_path TO x, public",
    "standard_conforming_strings TO off",
)


async def test_settings_of_a_database_do_not_make_its_schema_another(postgresql: Fleet) -> None:
    one, other = postgresql.names
    for name in (one, other):
        await postgresql.execute(
            name,
            """CREATE TABLE t (a timestamptz DEFAULT '2020-01-01 00:00:00+00', b date DEFAULT '2020-02-01',
            c interval DEFAULT '1 day 02:00:00', d double precision DEFAULT 0.1234567890123456,
            e bytea DEFAULT '\\x6100', f text DEFAULT 'a\\b', CHECK (a > '2020-01-01 00:00:00+02' AND c < '3 mons'))""",
        )
    for setting in SETTINGS:
        await postgresql.execute(other, f'ALTER DATABASE "{other}" SET {setting}')
    assert await postgresql.differing(one, other) == []


async def test_one_locale_has_two_spellings(pg: Server) -> None:
    fleet = Fleet(PostgreSQL(), pg, unique_names(4, "locale"))
    locales = ("C.UTF-8", "C.utf8", "POSIX", "C")
    try:
        for name, locale in zip(fleet.names, locales, strict=True):
            await engine.execute(
                pg, "postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE '{locale}'"
            )
        assert await fleet.differing(*fleet.names[:2]) == []
        assert await fleet.differing(*fleet.names[2:]) == []
        assert len(await fleet.differing(*fleet.names[1:3])) == 2
    finally:
        for name in fleet.names:
            await engine.execute(pg, "postgres", f"DROP DATABASE IF EXISTS {name}")


async def test_the_schemas_of_other_tenants_do_not_count(postgresql: Fleet) -> None:
    """Of a tenant that has the rest of a database."""
    one, other = postgresql.names
    await postgresql.execute(
        other,
        "CREATE SCHEMA acme",
        "CREATE TABLE acme.t (id integer CONSTRAINT ck CHECK (id > 0))",
        "CREATE POLICY po ON acme.t USING (true)",
        "COMMENT ON SCHEMA acme IS 'one'",
        "COMMENT ON CONSTRAINT ck ON acme.t IS 'one'",
        "COMMENT ON POLICY po ON acme.t IS 'one'",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA acme GRANT SELECT ON TABLES TO PUBLIC",
    )
    first = await postgresql.read(one)
    place = postgresql.place(other)
    others = type(place)(place.target, place.url, place.limits, lambda: Neighbours(schemas=("acme",)))
    second = await postgresql.kind.catalog(others, ())
    assert first.lines == second.lines


SCHEMAS = 40


async def test_a_schema_is_read_without_looking_at_the_comments_of_others(postgresql: Fleet) -> None:
    """To find out whose a comment is takes longer than all the rest."""
    name = postgresql.names[0]
    for number in range(SCHEMAS):
        made = f"CREATE SCHEMA s{number}; CREATE TABLE s{number}.t (id integer); COMMENT ON TABLE s{number}.t IS 'one'"
        await postgresql.execute(name, made)
    question = fingerprint.query("s1", (), ("acme",))
    [(plan,)] = await engine.fetch(postgresql.server, name, f"EXPLAIN (ANALYZE, FORMAT JSON) {question}")
    identified = [
        node["Actual Loops"]
        for node in nodes(json.loads(plan)[0]["Plan"])
        if node.get("Function Name") == "pg_identify_object"
    ]
    assert identified
    assert sum(identified) <= 2


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in nodes(part))]


async def test_mariadb_is_asked_for_nothing_that_makes_it_look_into_other_databases(maria: Fleet) -> None:
    name = maria.names[0]
    for question in mysql_catalog.questions(mariadb=True):
        explained = await mariadb.fetch(maria.server, name, f"EXPLAIN {question}", name)
        assert not [row for row in explained if "all databases" in str(row)], question


async def test_the_next_number_of_a_sequence_or_a_table_does_not_count_on_mariadb(maria: Fleet) -> None:
    one, other = maria.names
    for name in (one, other):
        await maria.execute(
            name, "CREATE SEQUENCE s INCREMENT 5", "CREATE TABLE t (id integer AUTO_INCREMENT PRIMARY KEY)"
        )
    await maria.execute(
        other,
        "SELECT nextval(s), setval(s, 500)",
        "ALTER SEQUENCE s RESTART 9000",
        "ALTER TABLE t AUTO_INCREMENT = 700",
        "INSERT INTO t VALUES (NULL)",
    )
    assert await maria.differing(one, other) == []


async def test_a_name_in_quotes_is_the_same_name_in_sqlite(sqlite: Fleet) -> None:
    one, other = sqlite.names
    await sqlite.execute(
        one,
        "CREATE TABLE Orders (Id integer PRIMARY KEY, note text DEFAULT 'x', CONSTRAINT CK_x CHECK (Id > 0))",
        "CREATE INDEX ix ON Orders (note) WHERE Id > 1",
        "CREATE VIEW v AS SELECT Id FROM Orders",
    )
    await sqlite.execute(
        other,
        """CREATE TABLE "Orders" ("Id" integer PRIMARY KEY, [note] text DEFAULT 'x',
        CONSTRAINT "CK_x" CHECK ("Id" > 0))""",
        'CREATE INDEX "ix" ON "Orders" (`note`) WHERE "Id" > 1',
        'CREATE VIEW v AS SELECT "Id" FROM "Orders"',
    )
    assert await sqlite.differing(one, other) == []
