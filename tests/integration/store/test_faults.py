"""A store that cannot be used says so in one line, with what to do next, and never with the password."""

from __future__ import annotations

import sqlite3
import traceback
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import free_port
from orchestrator.errors import StoreError
from orchestrator.store.connections import Connections
from orchestrator.store.engine import open_store
from orchestrator.store.place import locate
from tests.integration.store.samples import a_rollout, created, migrations_of, run_sql

SECRET = "s3cr3t-password"


async def refusal(url: str) -> StoreError:
    with pytest.raises(StoreError) as refused:
        async with open_store(url):
            pass
    assert refused.value.remedy
    assert "\n" not in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    return refused.value


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:s3cr3t-password@db/control",
        "postgresql+psycopg://me:s3cr3t-password@db/x",
        "oracle://db",
        "file.db",
    ],
)
async def test_another_kind_of_database_is_refused(url: str) -> None:
    assert "sqlite:///orchestrator.db or postgresql://" in str(await refusal(url))


async def test_a_url_that_cannot_be_read_is_refused_without_repeating_it() -> None:
    assert "percent-encoded" in str(await refusal(f"postgresql://me:{SECRET}/x@db:port/control"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://orchestrator.db", "an SQLite store is a file"),
        (f"sqlite://me:{SECRET}@host/x.db", "an SQLite store is a file"),
        ("sqlite:///x.db?timeout=abc", "no options"),
        ("sqlite:///file:x.db?uri=true", "no options"),
        ("sqlite:///file:x.db", "no options"),
        (f"postgresql://me:{SECRET}@a..b/control", "cannot be a name"),
        (f"postgresql://me:{SECRET}@127.0.0.1:99999/control", "no such port"),
    ],
)
async def test_a_url_that_means_something_else_is_refused(url: str, said: str) -> None:
    assert said in (await refusal(url)).message


async def test_a_connect_timeout_that_is_no_number_is_refused() -> None:
    assert "connect_timeout" in str(await refusal(f"postgresql://me:{SECRET}@db/control?connect_timeout=soon"))


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refused = await refusal(f"sqlite:///{tmp_path}/nowhere/control.db")
    assert f"there is no folder {tmp_path}/nowhere" in refused.message
    assert "create the folder" in (refused.remedy or "")


async def test_a_path_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file is not a folder" in (await refusal(f"sqlite:///{tmp_path}/file/control.db")).message


async def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    assert "is a folder, not a file" in (await refusal(f"sqlite:///{tmp_path}")).message


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    path.write_text("tracks:\n" * 1_000)
    assert "is not an SQLite database" in (await refusal(f"sqlite:///{path}")).message
    assert path.read_text() == "tracks:\n" * 1_000


async def test_a_database_that_another_process_keeps_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.sqlite.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.store.schema.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.store.sqlite.PRAGMAS", ())
    holder = sqlite3.connect(tmp_path / "control.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert "held by another process" in (await refusal(f"sqlite:///{tmp_path}/control.db")).message
    finally:
        holder.close()


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    connections = Connections(locate(f"sqlite:///{tmp_path}/control.db"))

    def fill(connection: Connection) -> None:
        connection.execute(text("PRAGMA max_page_count = 3"))
        connection.execute(text("CREATE TABLE t (x)"))
        connection.execute(text("INSERT INTO t VALUES (zeroblob(1000000))"))

    try:
        with pytest.raises(StoreError, match="no space left") as refused:
            await connections.write(fill)
    finally:
        await connections.dispose()
    assert "free disk space" in (refused.value.remedy or "")


async def test_a_server_that_does_not_listen_is_told() -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/control"
    refused = await refusal(url)
    assert "cannot be reached" in refused.message
    assert "me@127.0.0.1" in refused.message


async def test_a_host_that_does_not_exist_is_told() -> None:
    assert "cannot be reached" in (await refusal(f"postgresql://me:{SECRET}@nowhere.invalid/control")).message


async def test_wrong_credentials_are_told(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(username="nobody_here", password=SECRET)
    refused = await refusal(url.render_as_string(hide_password=False))
    assert "refused the credentials" in refused.message
    assert "check user and password" in (refused.remedy or "")


async def test_a_missing_database_is_told(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(database="no_such_database")
    assert "does not exist" in (await refusal(url.render_as_string(hide_password=False))).message


async def test_an_option_that_the_server_does_not_know_is_told(postgresql_url: str) -> None:
    assert "no_such_option" in (await refusal(f"{postgresql_url}?no_such_option=1")).message


async def test_options_of_libpq_are_understood(postgresql_url: str) -> None:
    options = "sslmode=prefer&connect_timeout=5&application_name=mine"
    async with open_store(f"{postgresql_url}?{options}") as store:
        assert await store.ledger.rollouts() == []


async def test_sessions_that_the_server_ended_are_replaced_without_anyone_noticing(postgresql_url: str) -> None:
    async with open_store(postgresql_url) as store:
        assert await store.ledger.rollouts() == []
        await run_sql(
            postgresql_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        rollout = a_rollout()
        await store.ledger.create(rollout, migrations_of(rollout), created(rollout))
        assert await store.ledger.rollout("r1") == rollout
