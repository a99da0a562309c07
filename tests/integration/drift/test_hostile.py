"""Databases that go away, that hide something, and that are large: told apart from drift, within bounds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases import catalogs, mysql_catalog, postgresql_catalog
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.quoting import quoted
from orchestrator.errors import TargetError
from orchestrator.plan.drifted_lines import LONGEST
from orchestrator.service.drifting import Question
from tests import engine, mariadb
from tests.engine import registry_of, running, shard_of, targets_of
from tests.integration.drift.places import AT_HEAD, VERSION, Fleet
from tests.integration.drift.test_fleets import project, standings
from tests.servers import MakeDatabases, unique_names

pytestmark = pytest.mark.anyio


async def test_a_database_that_goes_away_while_it_is_read_is_unread(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases = await make_databases(3)
    claimed = postgresql_catalog._claimed
    seen: list[str] = []

    async def and_then_it_goes(connection: Any, place: Any, beside: Any) -> Any:
        found = await claimed(connection, place, beside)
        if place.target.database == databases[1] and not seen:
            seen.append(databases[1])
            await engine.execute(pg, "postgres", f"DROP DATABASE {quoted(databases[1])} WITH (FORCE)")
        return found

    async with running(registry_of([project(tmp_path)], [shard_of(pg)], targets_of(databases))) as fleet:
        await fleet.rollout()
        monkeypatch.setattr(postgresql_catalog, "_claimed", and_then_it_goes)
        compared = await fleet.service.drifting.compare(Question())
    assert seen == [databases[1]]
    assert standings(compared) == {"t000": "equal", "t001": "unread", "t002": "equal"}
    [why] = [verdict.why for verdict in compared.verdicts if verdict.why]
    assert databases[1] in why
    assert "bug" not in why


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_mariadb_database_that_goes_away_while_it_is_read_is_unread(
    maria: Fleet, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The server tells no error then: all questions have no answer."""
    one, _ = maria.names
    await maria.execute(one, VERSION, AT_HEAD)
    lines = mysql_catalog.lines

    async def and_it_goes(connection: Any, place: Any, tables: Any) -> Any:
        found = await lines(connection, place, tables) if when == "after" else []
        await mariadb.execute(maria.server, "", f"DROP DATABASE `{one}`")
        return found if when == "after" else await lines(connection, place, tables)

    monkeypatch.setattr(mysql_catalog, "lines", and_it_goes)
    with pytest.raises(TargetError, match=r"dropped meanwhile|has changed while|no database"):
        await maria.read(one)
    await mariadb.execute(maria.server, "", f"CREATE DATABASE `{one}`")


async def test_who_may_read_nothing_but_the_version_table_sees_the_same_schema(
    pg: Server, make_databases: MakeDatabases
) -> None:
    databases, [role] = await make_databases(2), unique_names(1, "reader")
    await engine.execute(pg, "postgres", f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    fleet = Fleet(PostgreSQL(), pg, databases)
    try:
        for name in databases:
            await fleet.execute(
                name,
                VERSION,
                AT_HEAD,
                "CREATE SCHEMA hidden; CREATE TABLE hidden.t (id integer)",
                "CREATE VIEW hidden.v AS SELECT id FROM hidden.t",
                "CREATE FUNCTION hidden.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
                "REVOKE ALL ON SCHEMA hidden FROM PUBLIC",
                f"GRANT SELECT ON alembic_version TO {role}",
            )
        place = fleet.place(databases[0])
        limited = type(place)(place.target, place.url.set(username=role, password="p"), place.limits)
        seen = await fleet.kind.catalog(limited, ())
        own = await fleet.read(databases[0])
        kinds = {line.text.split(" | ")[0] for line in own.lines if "hidden" in line.text}
        assert {"schema", "relation", "column", "function"} <= kinds
        assert {line[1:] for line in seen.lines} == {line[1:] for line in own.lines}
    finally:
        for name in databases:
            await fleet.execute(name, f"DROP OWNED BY {role}")
        await engine.execute(pg, "postgres", f"DROP ROLE {role}")


async def test_a_huge_function_shows_a_few_characters_and_no_secret(postgresql: Fleet) -> None:
    one, other = postgresql.names
    line = "-- \nPERFORM http('x', 'y'); api_token := '{secret}'; PERFORM hmac('a', 'k', 'sha1'); -- it's a (note\n"
    for name, secret in ((one, "first-s3cret"), (other, "other-s3cret")):
        made, body = "SET check_function_bodies = off; ", "BEGIN " + line.format(secret=secret) * 20_000 + " END"
        await postgresql.execute(
            name, made + f"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $huge$ {body} $huge$"
        )
    found = await postgresql.differing(one, other)
    assert len(found) == 2
    assert all(len(text) <= LONGEST + 2 for text in found)
    assert "s3cret" not in str(found)


async def test_odd_names_everywhere(postgresql: Fleet) -> None:
    """Two tenants by schema, each with all names the other has."""
    name = postgresql.names[0]
    schemas = ('a"b c.D', "x'y|z%s", "ÄÖ ü", "{anywhere}", ":role:", "\\1", "orders")
    for schema in schemas:
        await postgresql.execute(
            name,
            f"CREATE SCHEMA {quoted(schema)}; SET search_path TO {quoted(schema)};"
            """CREATE TYPE "My ""Type" AS ENUM ('a | b', 'c''d'); CREATE TABLE "T.t ""x" ("A b" serial PRIMARY KEY,
            "select" "My ""Type" DEFAULT 'c''d', "c|d" text CHECK ("c|d" IN ('(', ''')', 'x')) , "%s" text);
            CREATE INDEX "I ""x" ON "T.t ""x" (lower("c|d")) WHERE "%s" IS NOT NULL;
            CREATE VIEW "V v" AS SELECT "A b" AS "Q ""q", "c|d" FROM "T.t ""x" WHERE "c|d" IN ('a"b', 'c');
            CREATE FUNCTION "F f"(x "My ""Type") RETURNS text LANGUAGE sql AS $$SELECT 'it''s'$$;
            CREATE FUNCTION own() RETURNS text LANGUAGE sql SET search_path FROM CURRENT AS $$SELECT 'a'$$;
            COMMENT ON TABLE "T.t ""x" IS 'a | b'; COMMENT ON COLUMN "T.t ""x"."%s" IS 'x''y'""",
        )
    first, *rest = [sorted((await postgresql.read(name, schema=schema)).lines) for schema in schemas]
    assert "SET search_path TO '<schema>'" in str(first)
    for lines in rest:
        assert lines == first


@pytest.mark.parametrize("fleet", ["postgresql", "maria"], indirect=True)
async def test_lines_are_made_beside_the_event_loop(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog may have 100,000 of them, and a view's text megabytes: what else is underway goes on meanwhile."""
    threads: dict[str, set[int]] = {}

    def noted(module: Any, name: str) -> None:
        work = getattr(module, name)

        def noting(*arguments: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return work(*arguments)

        monkeypatch.setattr(module, name, noting)

    noted(catalogs, "catalog")
    noted(postgresql_catalog, "respelled")
    one, _ = fleet.names
    await fleet.execute(one, VERSION, AT_HEAD, "CREATE TABLE t (a integer CHECK (a > 0))")
    read = await fleet.read(one)
    assert {line.relation for line in read.lines} >= {"t"}
    assert threads.keys() >= {"catalog"}
    assert fleet.kind.__class__ is not PostgreSQL or "respelled" in threads
    assert threading.get_ident() not in set().union(*threads.values())


async def test_a_name_of_nothing_but_quotes_is_read_at_once(postgresql: Fleet) -> None:
    """Written twice each, they may be read as one name or as many, and there is a number for that with 18 digits."""
    one, _ = postgresql.names
    name = quoted('"' * 60)
    await postgresql.execute(
        one,
        f"CREATE DOMAIN {name} AS text",
        f"CREATE TABLE t (a text CHECK (a::{name} <> 'x' AND a <> 'y'))",
    )
    read = await postgresql.read(one)
    assert [line.text for line in read.lines if f"::public.{name}" in line.text and " AND " in line.text]
