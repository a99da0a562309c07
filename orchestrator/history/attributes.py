"""`config.attributes["connection"]`, from which many an env.py takes its connection (Alembic's cookbook).

The daemon's own session cannot be handed to another process. What env.py gets instead is a connection made when it asks
for one, under the rules of `history.session` like any that it makes itself: so it is proved to lead to the target while
the guard holds the lock, and is ended with the guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

from orchestrator.history import drivers

CONNECTION = "connection"


class Attributes(dict[str, Any]):
    """Alembic's dictionary, with a connection that is made by `make` when somebody looks for it; `asked` is told every
    key that somebody looks for. What env.py puts in itself is left alone."""

    def __init__(self, make: Callable[[], Any], asked: Callable[[str], None] = lambda key: None) -> None:
        super().__init__()
        self._make, self._asked = make, asked

    def __missing__(self, key: str) -> Any:
        if key != CONNECTION:
            raise KeyError(key)
        self[key] = self._make()
        return self[key]

    def __getitem__(self, key: str) -> Any:
        self._asked(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._asked(str(key))
        return key == CONNECTION or super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def setdefault(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        if key == CONNECTION:
            self[key] = self[key]
        return super().pop(key, *default)


class HandedConnection(Connection):
    """Also for an env.py that expects an engine there, as some tools for tests hand out."""

    def connect(self) -> Connection:
        return self.engine.connect()


def give(config: Config, attributes: Attributes) -> None:
    """Let this be the config's `attributes`, which Alembic makes when first asked for."""
    vars(config)["attributes"] = attributes


@contextmanager
def handed(config: Config, url: str) -> Iterator[None]:
    """Within this context env.py finds a connection to `url` in `config.attributes`.

    Whoever hands out a connection commits what is left open on it, and so do we, unless env.py fails: then it is
    rolled back. It is closed in any case.
    """
    made: list[Connection] = []

    def make() -> Connection:
        engine = create_engine(drivers.synchronous(make_url(url)), poolclass=NullPool)
        made.append(HandedConnection(engine))
        return made[-1]

    give(config, Attributes(make))
    try:
        yield
        for connection in made:
            if not connection.closed and connection.in_transaction():
                connection.commit()
    finally:
        for connection in made:
            connection.close()
