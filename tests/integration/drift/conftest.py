from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.databases.mysql import MySQL
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.sqlite import SQLite
from tests.integration.drift.places import Fleet
from tests.mariadb import MakeMySQLDatabases
from tests.servers import MakeDatabases


@pytest.fixture
async def postgresql(pg: Server, make_databases: MakeDatabases) -> Fleet:
    return Fleet(PostgreSQL(), pg, await make_databases(2))


@pytest.fixture
async def maria(request: pytest.FixtureRequest, make_mysql_databases: MakeMySQLDatabases, mysql: Any) -> Fleet:
    return Fleet(MySQL(), mysql, await make_mysql_databases(2))


@pytest.fixture
def sqlite(tmp_path: Path) -> Fleet:
    names = ["t0.db", "t1.db"]
    for name in names:
        (tmp_path / name).touch()
    return Fleet(SQLite(), tmp_path, names)


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """That of the kind which the test's parameter names."""
    found: Fleet = request.getfixturevalue(request.param)
    return found
