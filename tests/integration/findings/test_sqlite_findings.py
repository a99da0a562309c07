"""On SQLite, what keeps the file locked for long is told before it runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from orchestrator.registry.findings import Findings
from orchestrator.registry.model import Shard, Target
from tests import engine, environments

ROWS = 3000


def make(file: Path, rows: int) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            f"""CREATE TABLE alembic_version (version_num PRIMARY KEY); INSERT INTO alembic_version VALUES ('first');
            CREATE TABLE "my orders" (a int); CREATE TABLE plain (k PRIMARY KEY) WITHOUT ROWID;
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
            INSERT INTO "my orders" SELECT i FROM n"""
        )


async def test_long_locks_are_told_and_files_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "dbs"
    folder.mkdir()
    for number in range(6):
        make(folder / f"t{number}.db", ROWS if number == 5 else 10)
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "first", None, "op.execute('SELECT 1')")
    indexes = {"i": "'my orders', ['a']", "j": "'plain', ['k']", "k": "'nowhere', ['a']"}
    body = "\n".join(f"op.create_index({name!r}, {of})" for name, of in indexes.items())
    environments.add_revision(tmp_path / "project", "next", "first", body)
    track = environments.track_of(config, findings=Findings(large=1000, render=True))
    targets = [Target(f"t{number}", "app", "files", f"t{number}.db") for number in range(6)]
    registry = engine.registry_of([track], [Shard("files", make_url("sqlite:///dbs"))], targets, folder=tmp_path)
    before = [file.read_bytes() for file in sorted(folder.iterdir())]
    async with engine.running(registry) as one:
        [group] = (await one.service.plan(engine.head())).groups
    [found] = [one for one in group.findings if one.level != "info"]
    assert (found.rule, found.table, found.rows, found.tenant) == ("blocking_scan", "my orders", ROWS, "t5")
    assert [file.read_bytes() for file in sorted(folder.iterdir())] == before
