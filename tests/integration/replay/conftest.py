"""Fleets for what holds of SQLite as of MariaDB."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests import environments
from tests.integration.replay.fleets import Fleet

MakeFleet = Callable[[int], Awaitable[Fleet]]
TABLES = ["alpha", "beta", "gamma"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return tmp_path / "project"


@pytest.fixture(params=["sqlite", "mysql"])
def make_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> MakeFleet:
    """Make a fleet of so many databases; a test that takes it runs for each kind of them."""
    if request.param == "mysql":
        server, databases = request.getfixturevalue("mysql"), request.getfixturevalue("make_mysql_databases")

        async def make_mysql(count: int) -> Fleet:
            return Fleet(server, await databases(count))

        return make_mysql

    async def make_sqlite(count: int) -> Fleet:
        names = [f"{number}.db" for number in range(count)]
        for name in names:
            (tmp_path / name).touch()
        return Fleet(tmp_path, names)

    return make_sqlite
