"""Checks of waves, asked for real: PostgreSQL, MariaDB, SQLite files and HTTP servers."""

from __future__ import annotations

import sqlite3
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits
from orchestrator.databases.embedded import Server
from orchestrator.execute.checks import WaveChecks
from orchestrator.registry.model import Check, Registry, Shard, Strategy, Target, TargetKey, Track, Wave
from orchestrator.rollout.ports import Verdict
from tests import engine, mariadb
from tests.endpoints import Answer, drips_headers, goes_on, says, says_nothing, serving
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases, unique_names


def registry_of(
    *asked: Check, shards: Sequence[Shard] = (), targets: Sequence[Target] = (), folder: Path = Path("/")
) -> Registry:
    tracks = [Track(name) for name in {target.track for target in targets} or {"app"}]
    strategy = Strategy("canary", waves=(Wave("first", count=1, checks=asked), Wave("rest")))
    return engine.registry_of(tracks, shards, targets, strategies={"canary": strategy}, folder=folder)


async def verdicts(
    *asked: Check,
    shards: Sequence[Shard] = (),
    targets: Sequence[Target] = (),
    keys: Sequence[TargetKey] | None = None,
    folder: Path = Path("/"),
) -> Sequence[Verdict]:
    registry = registry_of(*asked, shards=shards, targets=targets, folder=folder)
    migrated = [target.key for target in targets] if keys is None else keys
    return await WaveChecks(lambda: registry, Limits()).ask("canary", "first", migrated)


async def asked(check: Check, **places: Any) -> Verdict:
    [verdict] = await verdicts(check, **places)
    assert verdict.name == check.name
    assert "\n" not in verdict.said
    return verdict


async def until_passed(check: Check, **places: Any) -> None:
    async def passes() -> bool:
        return (await asked(check, **places)).passed

    await engine.until(passes)


def sql(statement: str, shard: str | None = "pg", database: str | None = None, **fields: Any) -> Check:
    return Check("c", "sql", statement, shard=shard, database=database, **fields)


# PostgreSQL


async def test_a_control_database_is_asked_and_its_schema_first(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    await engine.execute(
        pg, database, 'CREATE SCHEMA "Ops Ü"', 'CREATE TABLE "Ops Ü".dead (id int)', "CREATE TABLE public.dead (id int)"
    )
    await engine.execute(pg, database, 'INSERT INTO "Ops Ü".dead VALUES (1)')
    shards = [engine.shard_of(pg)]
    check = sql("SELECT count(*) FROM dead", database=database, most=0)
    assert await asked(check, shards=shards) == Verdict("c", True, "c: 0")
    there = await asked(replace(check, schema="Ops Ü"), shards=shards)
    assert there == Verdict("c", False, "c: 1, allowed is at most 0")
    gone = await asked(sql("SELECT true", database=database, schema="nowhere"), shards=shards)
    assert not gone.passed
    assert "there is no schema 'nowhere'" in gone.said


@pytest.mark.parametrize(
    ("statement", "fields", "passed", "said"),
    [
        ("SELECT 1 < 2", {}, True, "true"),
        ("SELECT NULL::bool", {}, False, "NULL, it must be true"),
        ("SELECT count(*) FROM pg_class WHERE false", {}, False, "0 is neither true nor false: give the check `min`"),
        ("SELECT count(*) FROM (VALUES (1)) x", {}, False, "1 is neither true nor false"),
        ("SELECT count(*) FROM (VALUES (1)) x", {"equals": "true"}, False, "1, allowed is 'true'"),
        ("SELECT 'NaN'::float8", {"most": 1}, False, "nan, allowed is at most 1"),
        ("SELECT 'NaN'::numeric", {"least": 0}, False, "NaN, allowed is at least 0"),
        ("SELECT 'a%b' LIKE '%\\%%' -- $1 %s ?", {}, True, "true"),
        ("SELECT 1.50::numeric", {"equals": "1.5"}, True, "1.50"),
        ("SELECT true WHERE false", {}, False, "the answer has no row"),
        ("SELECT true FROM generate_series(1, 9999) a, generate_series(1, 99999) b", {}, False, "more than one row"),
        ("SELECT", {}, False, "the answer has no column"),
        ("SELECT true; SELECT true", {}, False, "cannot insert multiple commands"),
        ("COMMIT; CREATE TABLE t (id int)", {}, False, "cannot insert multiple commands"),
        ("CREATE TABLE t (id int)", {}, False, "cannot execute CREATE TABLE in a read-only transaction"),
        ("SELECT * FROM nowhere", {}, False, 'relation "nowhere" does not exist'),
        ("SELEC", {}, False, "syntax error"),
        ("COMMIT", {}, False, "the answer has no row"),
        ("SELECT 'infinity'::date", {"equals": "x"}, False, "allowed is 'x'"),
    ],
)
async def test_one_row_that_is_true_passes(
    pg: Server, make_databases: MakeDatabases, statement: str, fields: dict[str, Any], passed: bool, said: str
) -> None:
    [database] = await make_databases(1)
    verdict = await asked(sql(statement, database=database, **fields), shards=[engine.shard_of(pg)])
    assert verdict.passed is passed
    assert said in verdict.said
    assert await engine.fetch(pg, database, "SELECT count(*) FROM pg_tables WHERE tablename = 't'") == [(0,)]


async def test_what_a_statement_does_is_taken_back(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    listener = await asyncpg.connect(pg.url(database))
    heard: list[object] = []
    try:
        await listener.add_listener("said", lambda *told: heard.append(told[-1]))
        check = sql("SELECT pg_notify('said', 'by the check') IS NOT NULL", database=database)
        assert (await asked(check, shards=[engine.shard_of(pg)])).passed
        await engine.execute(pg, database, "SELECT pg_notify('said', 'by us')")
        await engine.until(lambda: bool(heard))
    finally:
        await listener.close()
    assert heard == ["by us"]


async def test_a_statement_that_takes_too_long_is_no_answer_and_ends(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    began = time.monotonic()
    verdict = await asked(
        sql("SELECT pg_sleep(600) IS NOT NULL", database=database, timeout_seconds=1.0), shards=[engine.shard_of(pg)]
    )
    assert not verdict.passed
    assert "no answer within 1 s" in verdict.said
    assert time.monotonic() - began < 60

    async def has_ended() -> bool:
        running = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE $2"
        return await engine.fetch(pg, "postgres", running, database, "%pg_sleep(600)%") == [(0,)]

    await engine.until(has_ended)


async def test_a_table_that_is_locked_is_no_answer(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    await engine.execute(pg, database, "CREATE TABLE t (id int)")
    async with engine.locked_table(pg, database, "t"):
        verdict = await asked(sql("SELECT count(*) = 0 FROM t", database=database), shards=[engine.shard_of(pg)])
    assert not verdict.passed
    assert "waited in vain for a table that another session keeps locked" in verdict.said


async def test_a_server_or_database_that_is_not_there_is_no_answer(pg: Server) -> None:
    shard = engine.shard_of(pg)
    [missing] = unique_names(1, "missing")
    verdict = await asked(sql("SELECT true", database=missing), shards=[shard])
    assert f'database "{missing}" does not exist' in verdict.said
    down = Shard("pg", shard.url.set(host="127.0.0.1", port=1, password="s3cret"))
    verdict = await asked(sql("SELECT true", database="x"), shards=[down])
    assert not verdict.passed
    assert "cannot use database 'x' on 127.0.0.1:1" in verdict.said
    assert "s3cret" not in verdict.said


# Tenants


async def test_all_tenants_of_the_wave_must_pass(pg: Server, make_databases: MakeDatabases) -> None:
    databases = await make_databases(3)
    for number, database in enumerate(databases):
        await engine.execute(pg, database, "CREATE TABLE t (n int)", f"INSERT INTO t VALUES ({number})")
    places: dict[str, Any] = {"shards": [engine.shard_of(pg)], "targets": engine.targets_of(databases)}
    assert await asked(sql("SELECT n FROM t", None, most=2), **places) == Verdict("c", True, "c: 3 tenants pass")
    verdict = await asked(sql("SELECT n FROM t", None, most=1), **places)
    assert verdict.said == "c: 1 of 3 tenants do not pass: t002/app: 2, allowed is at most 1"
    gone = await asked(sql("SELECT true", None), **places, keys=[TargetKey("t000", "app"), TargetKey("lost", "app")])
    assert gone.said == "c: 1 of 2 tenants do not pass: lost/app: the registry no longer has it"


async def test_one_database_that_cannot_be_asked_keeps_the_wave_waiting(
    pg: Server, make_databases: MakeDatabases
) -> None:
    databases = [*await make_databases(2), *unique_names(1, "missing")]
    verdict = await asked(sql("SELECT true", None), shards=[engine.shard_of(pg)], targets=engine.targets_of(databases))
    assert not verdict.passed
    assert "1 of 3 tenants do not pass: t002/app: cannot use database" in verdict.said


async def test_a_dead_server_is_not_waited_for_once_for_each_tenant(pg: Server) -> None:
    shard = Shard("pg", engine.shard_of(pg).url.set(host="127.0.0.1", port=1), max_concurrent=4)
    targets = engine.targets_of([f"d{number}" for number in range(200)])
    began = time.monotonic()
    verdict = await asked(sql("SELECT true", None, timeout_seconds=2.0), shards=[shard], targets=targets)
    assert "200 of 200 tenants do not pass" in verdict.said
    assert len(verdict.said) <= 303
    assert time.monotonic() - began < 60


async def test_each_schema_is_a_tenant_of_its_own(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    await engine.execute(pg, database, *(f"CREATE SCHEMA s{n}; CREATE TABLE s{n}.t (n int)" for n in range(2)))
    await engine.execute(pg, database, "INSERT INTO s1.t VALUES (1)")
    targets = [Target(f"t{n}", "app", "pg", database, f"s{n}") for n in range(3)]
    verdict = await asked(sql("SELECT count(*) FROM t", None, most=0), shards=[engine.shard_of(pg)], targets=targets)
    assert (
        "2 of 3 tenants do not pass: t1/app: 1, allowed is at most 0; t2/app: there is no schema 's2'" in verdict.said
    )


async def test_a_sample_is_spread_and_always_the_same(tmp_path: Path) -> None:
    targets = []
    for number in range(20):
        shard = f"s{number % 2}"
        (tmp_path / shard).mkdir(exist_ok=True)
        with closing(sqlite3.connect(tmp_path / shard / f"{number}.db")) as connection:
            connection.execute("CREATE TABLE t (n int)")
        targets.append(Target(f"t{number:02}", "app", shard, f"{number}.db"))
    places: dict[str, Any] = {
        "shards": [Shard(name, make_url(f"sqlite:///{name}")) for name in ("s0", "s1")],
        "targets": targets,
        "folder": tmp_path,
    }
    check = sql("SELECT 0", None, sample=4)
    first = await asked(check, **places)
    assert "4 of 4 tenants do not pass" in first.said
    assert await asked(check, **places) == first
    named = [word.removesuffix("/app:") for word in first.said.split() if word.endswith("/app:")]
    assert {int(name[1:]) % 2 for name in named} == {0, 1}
    assert (await asked(replace(check, sample=100), **places)).said.startswith("c: 20 of 20")


async def test_only_databases_of_one_track_are_asked(tmp_path: Path) -> None:
    for name, table in (("a.db", "orders"), ("b.db", "facts")):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute(f"CREATE TABLE {table} (n int)")
    targets = [Target("acme", "app", "f", "a.db"), Target("acme", "dwh", "f", "b.db")]
    places: dict[str, Any] = {"shards": [Shard("f", make_url("sqlite:///."))], "targets": targets, "folder": tmp_path}
    check = sql("SELECT count(*) FROM orders", None, most=0)
    assert (
        "1 of 2 tenants do not pass: acme/dwh: it cannot be asked: no such table: orders"
        in (await asked(check, **places)).said
    )
    assert (await asked(replace(check, track="app"), **places)).passed
    nobody = await asked(replace(check, track="app"), **places, keys=[TargetKey("acme", "dwh")])
    assert nobody == Verdict("c", False, "c: the wave has migrated no tenant that could be asked")


# MySQL and MariaDB


@pytest.mark.parametrize(
    ("statement", "fields", "passed", "said"),
    [
        ("SELECT EXISTS (SELECT * FROM t)", {}, True, "1"),
        ("SELECT EXISTS (SELECT * FROM t)", {"equals": "true"}, True, "1"),
        ("SELECT NOT EXISTS (SELECT * FROM t)", {}, False, "0, it must be true"),
        ("SELECT count(*) FROM t", {}, False, "3 is neither true nor false"),
        ("SELECT sum(n) FROM t", {"most": 6}, True, "6"),
        ("SELECT name FROM t WHERE n = 2", {"equals": "100% Ü 'x' \\"}, True, ""),
        ("SELECT name LIKE '100%' FROM t WHERE n = 2 /* %s */", {}, True, "1"),
        ("SELECT n = 1 FROM t", {}, False, "the answer has more than one row"),
        ("SELECT true; SELECT true", {}, False, "error in your SQL syntax"),
        ("COMMIT; DELETE FROM t", {}, False, "error in your SQL syntax"),
        ("DELETE FROM t", {}, False, "READ ONLY transaction"),
        ("CREATE TABLE u (n int)", {}, False, "READ ONLY transaction"),
        ("DROP TABLE t", {}, False, "READ ONLY transaction"),
        ("COMMIT", {}, False, "the answer has no row"),
        ("SELECT * FROM nowhere", {}, False, "doesn't exist"),
    ],
)
async def test_mysql_is_asked(
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    statement: str,
    fields: dict[str, Any],
    passed: bool,
    said: str,
) -> None:
    [database] = await make_mysql_databases(1)
    await mariadb.execute(
        mysql,
        database,
        "CREATE TABLE t (n int, name varchar(50))",
        "INSERT INTO t VALUES (1, 'a'), (2, '100% Ü ''x'' \\\\'), (3, 'c')",
    )
    shards = [Shard("pg", make_url(mysql.url("x")).set(database=""))]
    verdict = await asked(sql(statement, database=database, **fields), shards=shards)
    assert verdict.passed is passed
    assert said in verdict.said
    assert await mariadb.fetch(mysql, database, "SELECT count(*) FROM t") == [(3,)]


async def test_a_slow_statement_ends_on_mysql_too(mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases) -> None:
    [database] = await make_mysql_databases(1)
    shards = [Shard("pg", make_url(mysql.url("x")).set(database=""))]
    verdict = await asked(sql("SELECT SLEEP(600) + 1", database=database, timeout_seconds=1.0), shards=shards)
    assert not verdict.passed
    assert "no answer within 1 s" in verdict.said

    async def has_ended() -> bool:
        return not await mariadb.sessions_on(mysql, [database])

    await engine.until(has_ended)


# SQLite


@pytest.mark.parametrize(
    ("statement", "fields", "passed", "said"),
    [
        ("SELECT count(*) = 0 FROM t", {}, True, "1"),
        ("SELECT 'x'", {"equals": "x"}, True, "'x'"),
        ("INSERT INTO t VALUES (1)", {}, False, "attempt to write a readonly database"),
        ("VACUUM INTO 'copy.db'", {}, False, "it cannot be asked"),
        ("SELECT 1; DELETE FROM t", {}, False, "one statement at a time"),
        ("SELECT CAST(x'ff' AS text)", {"equals": "x"}, False, "an error whose text may hold data"),
        (
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
            {"most": 1, "timeout_seconds": 1.0},
            False,
            "gave no answer within 1 s",
        ),
    ],
)
async def test_a_file_is_asked(tmp_path: Path, statement: str, fields: dict[str, Any], passed: bool, said: str) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "c ü#.db")) as connection:
        connection.execute("CREATE TABLE t (n int)")
    shards = [Shard("f", make_url("sqlite:///data"))]
    verdict = await asked(sql(statement, "f", "c ü#.db", **fields), shards=shards, folder=tmp_path)
    assert verdict.passed is passed
    assert said in verdict.said
    missing = await asked(sql("SELECT 1", "f", "nowhere.db"), shards=shards, folder=tmp_path)
    assert "there is no database file" in missing.said
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["c ü#.db"]


# What is shown of tenants

ANN = "ann@example.org"


async def _nothing_shown(statements: Sequence[str], **places: Any) -> None:
    for statement in statements:
        for fields in ({}, {"most": 1}, {"equals": "x"}):
            verdict = await asked(sql(statement, None, **fields), **places)
            assert not verdict.passed
            assert "example" not in verdict.said, (statement, verdict)


async def test_no_text_of_a_tenant_is_shown(pg: Server, make_databases: MakeDatabases) -> None:
    databases = await make_databases(1)
    await engine.execute(pg, databases[0], "CREATE TABLE t (email text)", f"INSERT INTO t VALUES ('{ANN}')")
    await engine.execute(
        pg,
        databases[0],
        """CREATE FUNCTION told() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'no % here', (SELECT email FROM t) USING ERRCODE = '42P01'; END $$""",
    )
    places: dict[str, Any] = {"shards": [engine.shard_of(pg)], "targets": engine.targets_of(databases)}
    asking = ("email", "email::int", "email::regclass", "email::bytea", "ARRAY[email]", "ROW(email)", "told()")
    await _nothing_shown([f"SELECT {expression} FROM t" for expression in asking], **places)
    told = await asked(sql("SELECT email::int FROM t", None), **places)
    assert told.said.endswith("t000/app: it cannot be asked: error 22P02")
    named = await asked(sql("SELECT email::int FROM t", database=databases[0]), shards=places["shards"])
    assert named.said == "c: it cannot be asked: error 22P02"
    text = await asked(sql("SELECT email FROM t", database=databases[0]), shards=places["shards"])
    assert text.said == f"c: '{ANN}', it must be true"


async def test_no_text_of_a_tenant_on_mysql_is_shown(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    databases = await make_mysql_databases(1)
    await mariadb.execute(mysql, databases[0], "CREATE TABLE t (email varchar(50))", f"INSERT INTO t VALUES ('{ANN}')")
    shards = [Shard("pg", make_url(mysql.url("x")).set(database=""))]
    asking = (
        "email",
        "CAST(email AS binary)",
        "json_extract(email, email)",
        "updatexml(email, concat('//', email), 'x')",
    )
    statements = [f"SELECT {expression} FROM t" for expression in asking]
    await _nothing_shown(statements, shards=shards, targets=engine.targets_of(databases))


async def test_no_text_of_a_tenant_in_a_file_is_shown(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute("CREATE TABLE t (email text, raw)")
        connection.execute("INSERT INTO t VALUES (?, ?)", (ANN, b"\xff" + ANN.encode()))
        connection.commit()
    places: dict[str, Any] = {
        "shards": [Shard("f", make_url("sqlite:///."))],
        "targets": [Target("acme", "app", "f", "c.db")],
        "folder": tmp_path,
    }
    asking = ("email", "raw", "CAST(raw AS text)", "json_extract('{}', email)", "load_extension(email)")
    await _nothing_shown([f"SELECT {expression} FROM t" for expression in asking], **places)
    lost = await asked(sql("SELECT emial FROM t", None), **places)
    assert lost.said.endswith("it cannot be asked: no such column: emial")


async def test_a_value_that_python_has_none_for_is_no_answer(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    verdict = await asked(sql("SELECT '0044-03-15 BC'::date", database=database), shards=[engine.shard_of(pg)])
    assert not verdict.passed
    assert "its answer holds a value that cannot be read" in verdict.said
    assert "44" not in verdict.said


# HTTP


@pytest.mark.parametrize(
    ("answer", "fields", "passed", "said"),
    [
        (says(200), {}, True, "status 200"),
        (says(204), {"status": 204}, True, "status 204"),
        (says(503, b"secret"), {}, False, "127.0.0.1 answered with status 503, not 200"),
        (says(302, Location="http://127.0.0.1:1/"), {}, False, "answered with status 302, not 200"),
        (says(302, Location="http://127.0.0.1:1/"), {"status": 302}, True, "status 302"),
        (says(200, b"all is well"), {"contains": "well"}, True, "the answer holds what it should"),
        (says(200, b"hunter3"), {"contains": "well"}, False, "the answer of 127.0.0.1 does not hold 'well'"),
        (says(200, "wéll".encode("latin-1"), Content_Type="text/plain; charset=latin-1"), {"contains": "é"}, True, ""),
        (says(200, "wéll".encode("latin-1")), {"contains": "é"}, False, "does not hold 'é'"),
        (says(200, b"\xff\x00 well"), {"contains": "well"}, True, ""),
        (says(200, b"well", Content_Type="text/plain; charset=klingon"), {"contains": "well"}, True, ""),
        (goes_on(b"x" * 100_000), {"contains": "well"}, False, "does not hold 'well'"),
        (goes_on(b"x"), {}, True, "status 200"),
        (goes_on(b"x", 0.1), {"contains": "well"}, False, "127.0.0.1 gave no whole answer within 1 s"),
        (drips_headers, {}, False, "127.0.0.1 gave no whole answer within 1 s"),
        (says_nothing, {}, False, "127.0.0.1 gave no whole answer within 1 s"),
        (lambda handler: None, {}, False, "127.0.0.1 cannot be asked: Server disconnected"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), {}, False, "127.0.0.1 cannot be asked"),
    ],
)
async def test_an_endpoint_is_asked(answer: Answer, fields: dict[str, Any], passed: bool, said: str) -> None:
    with serving(answer) as server:
        began = time.monotonic()
        seconds = 1.0 if "within 1 s" in said else 60.0
        url = f"{server.url}/healthz?key=hunter2"
        verdict = await asked(Check("c", "http", url, timeout_seconds=seconds, **fields))
        assert time.monotonic() - began < 60
    assert verdict.passed is passed
    assert said in verdict.said
    assert "hunter" not in verdict.said


async def test_an_endpoint_lets_us_in_and_no_proxy_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with serving(says(200)) as server:
        assert (await asked(Check("c", "http", server.url, token="s3cret"))).passed
        assert server.asked[-1].headers["Authorization"] == "Bearer s3cret"
        assert (await asked(Check("c", "http", server.url, user="me", password="pw"))).passed
        assert server.asked[-1].headers["Authorization"] == "Basic bWU6cHc="
        assert (await asked(Check("c", "http", server.url))).passed
        assert "Authorization" not in server.asked[-1].headers


async def test_a_password_of_one_letter_does_not_black_out_what_is_said() -> None:
    with serving(says(503)) as server:
        verdict = await asked(Check("c", "http", server.url, user="me", password="a"))
        assert verdict.said == "c: 127.0.0.1 answered with status 503, not 200"
        told = await asked(Check("c", "http", server.url, user="me", password="answered"))
        assert told.said == "c: 127.0.0.1 *** with status 503, not 200"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/?k=hunter2", "http://nowhere.invalid/hunter2", "http://a..b/"])
async def test_an_endpoint_that_is_not_there_is_no_answer(url: str) -> None:
    verdict = await asked(Check("c", "http", url))
    assert not verdict.passed
    assert "cannot be asked" in verdict.said
    assert "hunter2" not in verdict.said


async def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        await anyio.to_thread.run_sync(lambda: subprocess.run(made, check=True, capture_output=True))
    except FileNotFoundError:
        pytest.skip("no openssl on this machine to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(says(200), context) as server:
        verdict = await asked(Check("c", "http", server.url))
        assert not verdict.passed
        assert "certificate verify failed" in verdict.said
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert (await asked(Check("c", "http", server.url))).passed
        other = await asked(Check("c", "http", server.url.replace("127.0.0.1", "localhost")))
        assert not other.passed


# All together


async def test_each_check_is_asked_and_one_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute("CREATE TABLE t (n int)")
    with serving(says_nothing) as server:
        found = await verdicts(
            Check("hangs", "http", server.url, timeout_seconds=1.0),
            Check("well", "sql", "SELECT 1", shard="f", database="c.db"),
            Check("bad", "sql", "SELECT 0", shard="f", database="c.db"),
            shards=[Shard("f", make_url("sqlite:///."))],
            folder=tmp_path,
        )
    assert [(verdict.name, verdict.passed) for verdict in found] == [("hangs", False), ("well", True), ("bad", False)]


async def test_what_the_registry_no_longer_has_has_not_passed() -> None:
    registry = registry_of(Check("c", "sql", "SELECT true", shard="gone", database="d"))
    asker = WaveChecks(lambda: registry, Limits())
    for strategy, wave, said in (
        ("lost", "first", "the registry no longer has the strategy 'lost'"),
        ("canary", "lost", "the registry no longer has the wave 'lost' of strategy 'canary'"),
        ("canary", "rest", "the registry no longer has checks for wave 'rest' of 'canary'"),
        ("default", "everyone", "the registry no longer has checks for wave 'everyone' of 'default'"),
        ("canary", "first", "c: it cannot be asked: KeyError, see the daemon's log"),
    ):
        [verdict] = await asker.ask(strategy, wave, [])
        assert not verdict.passed
        assert verdict.said == said


async def test_asking_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    with serving(says_nothing) as server:
        began = time.monotonic()
        with anyio.move_on_after(0.2) as scope:
            await asked(Check("c", "http", server.url, timeout_seconds=60.0))
        assert scope.cancelled_caught
        assert time.monotonic() - began < 30


async def test_many_tenants_are_given_up_at_the_deadline(tmp_path: Path) -> None:
    slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    with closing(sqlite3.connect(tmp_path / "c.db")) as connection:
        connection.execute("CREATE TABLE t (n int)")
    targets = [Target(f"t{number}", "app", "f", "c.db", version_table=f"v{number}") for number in range(30)]
    verdict = await asked(
        sql(slow, None, timeout_seconds=1.0, deadline_seconds=1.5),
        shards=[Shard("f", make_url("sqlite:///."), max_concurrent=4)],
        targets=targets,
        folder=tmp_path,
    )
    assert "of 30 tenants do not pass" in verdict.said
    assert "not asked in time" in verdict.said
