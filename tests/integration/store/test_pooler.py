"""A store behind a connection pooler is refused at once, with the remedy and without its password."""

from __future__ import annotations

from typing import Literal

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.errors import StoreError
from orchestrator.store.engine import open_store
from tests import engine, pgbouncer
from tests.servers import MakeDatabases


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("options", ["", "?sslmode=prefer", "?options=-c%20search_path%3Dpublic"])
async def test_a_store_behind_a_pooler_is_refused_and_left_as_it_was(
    pg: Server, make_databases: MakeDatabases, mode: Literal["transaction", "session"], options: str
) -> None:
    (database,) = await make_databases(1, "control")
    # One that ignores the settings of a session, and one that refuses a client that makes them.
    for ignored in (pgbouncer.IGNORED, "extra_float_digits"):
        async with pgbouncer.before(pg, mode, ignored=ignored) as pooler:
            with pytest.raises(StoreError, match="behind a connection pooler") as refused:
                async with open_store(pooler.url(database) + options):
                    pass
    assert refused.value.remedy == "point ORCHESTRATOR_STORE_URL to the server itself, past the pooler"
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert await engine.fetch(pg, database, tables) == [(0,)]
    async with open_store(pg.url(database) + options) as store:
        assert await store.ledger.rollouts() == []
