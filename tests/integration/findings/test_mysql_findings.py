"""On MySQL and MariaDB, what copies a large table is told before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.registry.findings import Findings
from orchestrator.registry.model import Execution, Shard
from tests import engine, environments, mariadb
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.unit.plan import test_weighing

ROWS = 4000
CHANGES = {
    # It, and all that follow it, are run by env.py, and looked at all the same.
    "a0_session": "op.execute('SET foreign_key_checks = 0')",
    "a_copy": "op.alter_column('orders', 'a', type_=sa.BigInteger, existing_type=sa.Integer)",
    "b_wider": "op.alter_column('orders', 'name', type_=sa.String(60), existing_type=sa.String(20))",
    "c_column": "op.add_column('orders', sa.Column('note', sa.Text))",
    "d_charset": "op.execute('ALTER TABLE `orders` CONVERT TO CHARACTER SET utf8mb4')",
    "e_rows": "op.execute('UPDATE orders SET a = 4711')",
    "f_small": "op.alter_column('users', 'id', type_=sa.BigInteger, existing_type=sa.Integer)",
}


@pytest.mark.parametrize("execution", ["online", "auto"])
async def test_a_copy_of_a_large_table_is_an_error(
    execution: Execution, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(2)
    for database in databases:
        await mariadb.execute(
            mysql,
            database,
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('first')",
            "CREATE TABLE users (id int PRIMARY KEY)",
            "CREATE TABLE orders (id int PRIMARY KEY AUTO_INCREMENT, a int, name varchar(20))",
        )
    rows = ", ".join(["(1, 'x')"] * ROWS)
    await mariadb.execute(mysql, databases[1], f"INSERT INTO orders (a, name) VALUES {rows}", "ANALYZE TABLE orders")
    config = environments.make_project(tmp_path)
    environments.add_revision(tmp_path, "first", None, "op.execute('SELECT 1')")
    down = "first"
    for name, body in CHANGES.items():
        environments.add_revision(tmp_path, name, down, body)
        down = name
    shard = Shard("maria", make_url(mysql.url("x")).set(database=None))
    track = environments.track_of(config, execution=execution, findings=Findings(large=1000, render=True))
    registry = engine.registry_of([track], [shard], engine.targets_of(databases, shard="maria"))
    async with engine.running(registry) as one:
        [group] = (await one.service.plan(engine.head())).groups
    found = [one for one in group.findings if one.rows is not None]
    assert [(one.level, one.rule, one.revision) for one in found] == [
        ("error", "table_rewrite", "a_copy"),
        ("error", "table_rewrite", "d_charset"),
        ("warning", "mass_change", "e_rows"),
    ]
    assert {(one.table, one.tenant) for one in found} == {("orders", "t001")}
    assert all(one.rows is not None and ROWS / 2 < one.rows < ROWS * 2 for one in found)
    assert not [one for one in group.findings if one.rule.startswith("squawk/") or one.rule == "linter_missing"]
    assert "4711" not in str(group.findings)
    async with engine.running(replace(registry, tracks={"app": replace(track, findings=Findings())})) as one:
        [group] = (await one.service.plan(engine.head())).groups
    assert {finding.rule for finding in group.findings if finding.level != "info"} == set()


async def test_what_is_said_to_be_copied_the_server_cannot_change_in_place(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    [(version,)] = await mariadb.fetch(mysql, "", "SELECT VERSION()")
    if "MariaDB" not in version:
        pytest.skip(f"{version} has other words for some of it")
    [database] = await make_mysql_databases(1)
    columns = "id int PRIMARY KEY, a int, name varchar(20)"
    for sql in test_weighing.COPIED_BY_MYSQL[:-2]:
        await mariadb.execute(
            mysql,
            database,
            "DROP TABLE IF EXISTS orders, users",
            "CREATE TABLE users (id int PRIMARY KEY)",
            f"CREATE TABLE orders ({columns})",
        )
        place = "ALGORITHM=INPLACE" + ("" if sql.startswith("PARTITION") else ",")
        with pytest.raises(Exception, match=r"ALGORITHM=INPLACE is not supported"):
            await mariadb.execute(mysql, database, f"ALTER TABLE orders {place} {sql}")
        await mariadb.execute(mysql, database, f"ALTER TABLE orders {sql}")
