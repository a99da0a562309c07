"""Connections are proved before anything runs on them, whatever env.py and its threads do."""

from __future__ import annotations

import logging.config
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, pool
from sqlalchemy.pool import Pool, QueuePool

from orchestrator.errors import WrongDatabaseError
from orchestrator.history import session
from orchestrator.history.session import Session
from orchestrator.sessions import SessionRules

WHERE = "SELECT file, 0 FROM pragma_database_list WHERE name = 'main'"


@pytest.fixture(autouse=True)
def listeners() -> None:
    session.install()


def _engine(file: Path) -> Engine:
    return create_engine(f"sqlite:///{file}", poolclass=pool.NullPool)


def _session(file: Path) -> Session:
    return Session(SessionRules("sqlite", WHERE, (str(file),), file.name))


def test_a_connection_to_the_target_is_proved_and_told_of(tmp_path: Path) -> None:
    mine = _session(tmp_path / "mine.db")
    with session.applied(mine), _engine(tmp_path / "mine.db").connect() as connection:
        assert session.is_proved(connection)
    assert mine.backends == [0]


def test_a_connection_to_another_file_is_refused_and_closed(tmp_path: Path) -> None:
    with (
        session.applied(_session(tmp_path / "mine.db")),
        pytest.raises(WrongDatabaseError, match=r"other\.db"),
        _engine(tmp_path / "other.db").connect(),
    ):
        pass


def test_another_kind_of_database_is_refused_before_it_is_connected_to(tmp_path: Path) -> None:
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/x", poolclass=pool.NullPool)
    with session.applied(_session(tmp_path / "mine.db")), pytest.raises(WrongDatabaseError, match="postgresql"):
        engine.connect()


def test_a_connection_that_a_pool_kept_is_proved_again_for_the_next_migration(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'first.db'}", poolclass=QueuePool)
    with session.applied(_session(tmp_path / "first.db")), engine.connect():
        pass
    with (
        session.applied(_session(tmp_path / "second.db")),
        pytest.raises(WrongDatabaseError, match=r"first\.db"),
        engine.connect(),
    ):
        pass
    engine.dispose()


def test_a_connection_made_before_the_migration_is_not_proved(tmp_path: Path) -> None:
    with _engine(tmp_path / "mine.db").connect() as connection, session.applied(_session(tmp_path / "mine.db")):
        assert not session.is_proved(connection)


def test_outside_a_migration_nothing_is_asked(tmp_path: Path) -> None:
    with _engine(tmp_path / "any.db").connect() as connection:
        assert not session.is_proved(connection)


def test_logging_is_left_alone_inside_a_migration_only(tmp_path: Path) -> None:
    with session.applied(_session(tmp_path / "mine.db")):
        logging.config.fileConfig(tmp_path / "no such file")  # would raise
    with pytest.raises((KeyError, FileNotFoundError)):  # by version of Python
        logging.config.fileConfig(tmp_path / "no such file")


def test_whoever_returns_from_install_finds_the_listeners_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a fresh host once ran past an unfinished install, with nothing proved and logging replaced."""
    event.remove(Pool, "connect", session._on_connect)
    event.remove(Pool, "checkout", session._on_checkout)
    event.remove(Engine, "do_connect", session._refuse_other_dialects)
    slow = event.listen

    def listen(*args: object) -> None:
        threading.Event().wait(0.01)
        slow(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(event, "listen", listen)
    seen: list[bool] = []

    def install_and_look() -> None:
        session.install()
        seen.append(event.contains(Pool, "connect", session._on_connect))

    threads = [threading.Thread(target=install_and_look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 8
