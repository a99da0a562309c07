"""The connection in `config.attributes`."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import make_url

from orchestrator.history import attributes, drivers
from orchestrator.history.attributes import Attributes


def test_nothing_is_made_until_somebody_asks() -> None:
    made: list[str] = []
    given = Attributes(lambda: made.append("one") or "it")  # type: ignore[func-returns-value]
    given["other"] = 1
    assert given.get("missing") is None
    assert not made
    assert "connection" in given
    assert [given["connection"], given.get("connection"), given.setdefault("connection", 2)] == ["it"] * 3
    assert made == ["one"]
    assert given.pop("connection") == "it"
    assert given["other"] == 1
    with pytest.raises(KeyError):
        given["missing"]


def test_what_env_py_puts_in_itself_is_left_alone() -> None:
    given = Attributes(lambda: pytest.fail("made"))
    given["connection"] = "theirs"
    assert given.get("connection") == "theirs"


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_left_open_is_committed_unless_env_py_fails(fails: bool, tmp_path: Path) -> None:
    config, url = Config(), f"sqlite:///{tmp_path / 'x.db'}"
    try:
        with attributes.handed(config, url):
            connection = config.attributes["connection"]
            connection.execute(text("CREATE TABLE t (id int)"))
            connection.commit()
            connection.execute(text("INSERT INTO t VALUES (1)"))
            assert not fails, "env.py failed"
    except AssertionError:
        pass
    assert connection.closed
    with attributes.handed(config, url):
        rows = config.attributes["connection"].execute(text("SELECT count(*) FROM t")).scalar()
    assert rows == (0 if fails else 1)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg"),
        ("sqlite+aiosqlite:///x.db", "sqlite+pysqlite"),
        ("sqlite://", "sqlite"),
    ],
)
def test_the_driver_blocks(url: str, driver: str) -> None:
    assert drivers.synchronous(make_url(url)).drivername == driver
