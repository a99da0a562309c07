"""Backups of MariaDB databases and SQLite files: restored again, and what keeps them from being made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import sqlite_dumps
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql_dumps import option_file
from orchestrator.databases.quoting import backquoted
from orchestrator.events import BackupFailed, BackupTaken
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.registry.precautions import Backup
from tests import engine, environments, mariadb
from tests.backups import STRATEGY, commands, failure, whole, with_backup
from tests.engine import until
from tests.mariadb import REQUIRED, MakeMySQLDatabases, MySQLServer

BETA = 'op.add_column("alpha", sa.Column("more", sa.Text))\nop.execute("UPDATE alpha SET id = id + 100")'
AT_ALPHA = (
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('alpha')",
    "CREATE TABLE alpha (id integer PRIMARY KEY)",
    "INSERT INTO alpha VALUES (1), (2), (3)",
)


def _config(folder: Path) -> Path:
    config = environments.make_project(folder)
    environments.add_tables(folder, ["alpha"])
    environments.add_revision(folder, "beta", "alpha", BETA)
    return config


@pytest.fixture
def dumping() -> None:
    """MariaDB's dump program is there."""
    if mariadb.program("mariadb-dump") is None and mariadb.program("mysqldump") is None:
        if os.environ.get(REQUIRED):
            pytest.fail("there is no mariadb-dump: install mariadb-client", pytrace=False)
        pytest.skip("there is no mariadb-dump: install mariadb-client")


def _on_mariadb(mysql: MySQLServer, databases: list[str], folder: Path, backup: Backup, **url: Any) -> Registry:
    shard = Shard("maria", make_url(mysql.url("x")).set(database=None, **url))
    track = environments.track_of(_config(folder / "project"))
    registry = engine.registry_of([track], [shard], engine.targets_of(databases, "maria"), folder=folder)
    return with_backup(registry, backup)


async def _untouched(mysql: MySQLServer, database: str) -> bool:
    heads = await mariadb.fetch(mysql, database, "SELECT version_num FROM alembic_version")
    columns = [row[0] for row in await mariadb.fetch(mysql, database, "SHOW COLUMNS FROM alpha")]
    ids = await mariadb.fetch(mysql, database, "SELECT id FROM alpha ORDER BY id")
    return heads == [("alpha",)] and columns == ["id"] and ids == [(1,), (2,), (3,)]


async def _restored(mysql: MySQLServer, file: Path, database: str) -> None:
    place = Place(Target("x", "app", "s", database), make_url(mysql.url(database)), Limits())
    options = file.with_name("options")
    options.write_text(option_file(place).replace("[mysqldump]", "[nobody]"))
    done = await anyio.run_process(
        ["/bin/sh", "-c", f'{mariadb.program("mariadb")} --defaults-file={options} "$1" < {file}', "sh", database],
        check=False,
    )
    options.unlink()
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("dumping")
async def test_mariadb_is_dumped_as_it_was_and_can_be_restored(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    *databases, empty = await make_mysql_databases(3)
    for database in databases:
        await mariadb.execute(
            mysql,
            database,
            *AT_ALPHA,
            "CREATE PROCEDURE twice(n int) SELECT 2 * n",
            "CREATE TRIGGER t BEFORE INSERT ON alpha FOR EACH ROW SET NEW.id = NEW.id",
            "CREATE VIEW v AS SELECT id FROM alpha",
            "CREATE TABLE texts (t text, b blob) CHARACTER SET utf8mb4",
            "INSERT INTO texts VALUES ('Zürich 東京 🐘 -- '';', 0xff00fe)",
        )
    # `localhost` would be a socket for the program.
    registry = _on_mariadb(mysql, databases, tmp_path, Backup(tmp_path / "kept"), host="localhost")
    async with engine.running(registry) as running:
        view = await running.rollout(strategy=STRATEGY)
        assert view.counts == {"succeeded": 2}, view.failures
        assert len(running.of(BackupTaken)) == 2
    one = whole(tmp_path / "kept")[0]
    assert one.about["heads"] == ["alpha"]
    await _restored(mysql, one.file, empty)
    assert await _untouched(mysql, empty)
    assert await mariadb.fetch(mysql, empty, "SELECT * FROM texts") == [("Zürich 東京 🐘 -- ';", b"\xff\x00\xfe")]
    assert await mariadb.fetch(mysql, empty, "SELECT count(*) FROM v") == [(3,)]
    assert await mariadb.fetch(mysql, empty, "SHOW TRIGGERS") != []
    assert await mariadb.fetch(mysql, empty, "CALL twice(2)") == [(4,)]


ODD_PASSWORD = "a\"b'c\\d #e;f $x%s[g]"


@pytest.mark.usefixtures("dumping")
async def test_odd_names_and_passwords_on_mariadb(mysql: MySQLServer, tmp_path: Path) -> None:
    token = os.urandom(3).hex()
    name, user = f"--host=evil {token} `x' ü", f"odd '#\" {token}"
    quoted = "'" + user.replace("'", "''") + "'@'%'"
    await mariadb.execute(
        mysql,
        "",
        f"CREATE DATABASE {backquoted(name)} CHARACTER SET utf8mb4",
        "CREATE USER {} IDENTIFIED BY '{}'".format(quoted, ODD_PASSWORD.replace("\\", "\\\\").replace("'", "''")),
        f"GRANT ALL ON *.* TO {quoted}",
    )
    try:
        await mariadb.execute(mysql, name, *AT_ALPHA)
        backup = Backup(tmp_path / "kept")
        registry = _on_mariadb(mysql, [name], tmp_path, backup, username=user, password=ODD_PASSWORD)
        async with engine.running(registry) as running:
            view = await running.rollout(strategy=STRATEGY)
            assert view.counts == {"succeeded": 1}, view.failures
        (one,) = whole(tmp_path / "kept")
        assert b"CREATE TABLE `alpha`" in one.file.read_bytes()
    finally:
        await mariadb.execute(mysql, "", f"DROP DATABASE {backquoted(name)}", f"DROP USER {quoted}")


FAKES = {
    "it is cut off": ("echo '-- MariaDB dump'; echo 'CREATE TABLE `alpha` (';", "does not end as a whole one does"),
    "it fails": ("echo 'mysqldump: Error 1142: SELECT command denied' >&2; exit 2", "SELECT command denied"),
    "it tells the password": ('cat "${1#--defaults-file=}" >&2; exit 2', "ended with code 2"),
}


@pytest.mark.parametrize("name", FAKES)
async def test_a_mariadb_target_whose_dump_fails_is_not_touched(
    name: str,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (database,) = await make_mysql_databases(1)
    await mariadb.execute(mysql, database, *AT_ALPHA)
    script, expected = FAKES[name]
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mariadb-dump"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    async with engine.running(_on_mariadb(mysql, [database], tmp_path, Backup(tmp_path / "kept"))) as running:
        failed = await failure(running)
        assert (failed.kind, expected in failed.message) == ("backup", True), failed.message
        assert str(make_url(mysql.dsn).password) not in failed.message
        assert len(running.of(BackupFailed)) == 1
    assert await _untouched(mysql, database)
    assert whole(tmp_path / "kept") == []


async def test_without_a_dump_program_the_target_is_not_touched(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (database,) = await make_mysql_databases(1)
    await mariadb.execute(mysql, database, *AT_ALPHA)
    monkeypatch.setenv("PATH", str(tmp_path))
    async with engine.running(_on_mariadb(mysql, [database], tmp_path, Backup(tmp_path / "kept"))) as running:
        failed = await failure(running)
    assert "there is neither mariadb-dump nor mysqldump on the PATH" in failed.message
    assert await _untouched(mysql, database)


@pytest.mark.usefixtures("dumping")
async def test_a_forced_end_in_the_middle_of_a_mariadb_dump_leaves_nothing_behind(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    await mariadb.execute(mysql, database, *AT_ALPHA)
    registry = _on_mariadb(mysql, [database], tmp_path, Backup(tmp_path / "kept"))

    async def waiting() -> bool:
        found = await mariadb.sessions_on(mysql, [database])
        return any("alpha" in str(row[3]) for row in found)

    async with mariadb.session(mysql, database) as holder, holder.cursor() as cursor:
        await cursor.execute("LOCK TABLES alpha WRITE")
        with anyio.fail_after(120):
            async with engine.running(registry, shutdown_grace_seconds=0.2) as running:
                await running.service.start_rollout(engine.head(strategy=STRATEGY))
                await until(waiting)
                lines = [line for line in commands() if "--single-transaction" in line]
                assert lines
                assert not any(str(make_url(mysql.dsn).password) in line for line in commands())
        assert [line for line in commands() if database in line] == []
        await cursor.execute("UNLOCK TABLES")
    assert whole(tmp_path / "kept") == []
    assert await _untouched(mysql, database)


def _on_sqlite(folder: Path, backup: Backup, file: str = "acme.db") -> Registry:
    shard = Shard("files", make_url(f"sqlite:///{folder}"))
    track = environments.track_of(_config(folder / "project"))
    registry = engine.registry_of([track], [shard], [Target("acme", "app", "files", file)], folder=folder)
    return with_backup(registry, backup)


def _fill(file: Path, *more: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in (*more, *AT_ALPHA):
            connection.execute(statement)
        connection.commit()


def _content(file: Path) -> tuple[list[str], list[int], list[str]]:
    with closing(sqlite3.connect(file)) as connection:
        heads = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
        ids = [row[0] for row in connection.execute("SELECT id FROM alpha ORDER BY id")]
        return heads, ids, [row[1] for row in connection.execute("PRAGMA table_info(alpha)")]


BEFORE = (["alpha"], [1, 2, 3], ["id"])


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_sqlite_is_copied_as_it_was(mode: str, tmp_path: Path) -> None:
    _fill(tmp_path / "odd % ?#'x.db", f"PRAGMA journal_mode = {mode}")
    registry = _on_sqlite(tmp_path, Backup(tmp_path / "kept"), "odd % ?#'x.db")
    with closing(sqlite3.connect(tmp_path / "odd % ?#'x.db")) as reader:  # an application that keeps it open
        reader.execute("SELECT * FROM alpha").fetchone()
        async with engine.running(registry) as running:
            view = await running.rollout(strategy=STRATEGY)
            assert view.counts == {"succeeded": 1}, view.failures
    (one,) = whole(tmp_path / "kept")
    assert sorted(path.name for path in one.file.parent.iterdir()) == ["about.json", "backup.db"]
    assert _content(one.file) == BEFORE
    assert _content(tmp_path / "odd % ?#'x.db") != BEFORE


async def test_a_damaged_sqlite_file_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "acme.db"
    _fill(file, "CREATE TABLE much (t TEXT)", "CREATE INDEX i ON much (t)")
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO much VALUES (?)", ((f"{n:0200}",) for n in range(500)))
        connection.commit()
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'i'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 8 : page * size] = b"\x55" * (size - 8)
    file.write_bytes(content)
    async with engine.running(_on_sqlite(tmp_path, Backup(tmp_path / "kept"))) as running:
        failed = await failure(running)
    assert failed.kind == "backup"
    assert whole(tmp_path / "kept") == []
    assert file.read_bytes() == content


@contextmanager
def _locked_at_the_backup(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody keeps the file locked from the moment that the backup begins: the heads were read by then."""
    begun = sqlite_dumps.SQLiteDumper.dump
    with closing(sqlite3.connect(file, check_same_thread=False)) as writer:

        async def dump(self: sqlite_dumps.SQLiteDumper, file: Path) -> None:
            writer.execute("BEGIN EXCLUSIVE")
            await begun(self, file)

        monkeypatch.setattr(sqlite_dumps.SQLiteDumper, "dump", dump)
        yield
        writer.rollback()


async def test_a_locked_sqlite_file_has_until_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(tmp_path / "acme.db")
    registry = _on_sqlite(tmp_path, Backup(tmp_path / "kept", deadline_seconds=0.5))
    with _locked_at_the_backup(tmp_path / "acme.db", monkeypatch):
        async with engine.running(registry) as running:
            failed = await failure(running)
    assert (failed.kind, "it took longer than 0.5 s" in failed.message) == ("backup", True), failed.message
    assert _content(tmp_path / "acme.db") == BEFORE
    assert whole(tmp_path / "kept") == []


async def test_a_forced_end_in_the_middle_of_a_copy_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(tmp_path / "acme.db")
    registry = _on_sqlite(tmp_path, Backup(tmp_path / "kept"))
    with _locked_at_the_backup(tmp_path / "acme.db", monkeypatch), anyio.fail_after(120):
        async with engine.running(registry, shutdown_grace_seconds=0.1) as running:
            await running.service.start_rollout(engine.head(strategy=STRATEGY))
            await until(lambda: bool(list((tmp_path / "kept").rglob(".partial-*/backup.db"))))
    assert whole(tmp_path / "kept") == []
    assert _content(tmp_path / "acme.db") == BEFORE


async def test_a_wave_without_backup_takes_none(tmp_path: Path) -> None:
    _fill(tmp_path / "acme.db")
    registry = _on_sqlite(tmp_path, Backup(tmp_path / "kept"))
    registry = replace(with_backup(registry, None), targets=registry.targets)
    async with engine.running(registry) as running:
        assert (await running.rollout(strategy=STRATEGY)).counts == {"succeeded": 1}
        assert running.of(BackupTaken) == []
    assert not (tmp_path / "kept").exists()
