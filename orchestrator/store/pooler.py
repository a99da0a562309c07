"""A PostgreSQL store is the server itself: behind a connection pooler nobody could lead it."""

from __future__ import annotations

import asyncpg
from sqlalchemy.dialects import registry

from orchestrator.errors import StoreError
from orchestrator.store.faults import POOLED
from orchestrator.store.place import Place

# One text in one message: a parsed statement may be another client's by the time it is run.
_SAME = "SELECT 1 WHERE pg_catalog.pg_backend_pid() = {backend}"


async def refuse(place: Place) -> None:
    """Raise StoreError where the session's number, as it was told when it began, is not the one that the server itself
    knows: a pooler makes up numbers. What else is wrong with the store, its first use tells."""
    if not place.postgresql:
        return
    _, arguments = registry.load("postgresql.asyncpg")().create_connect_args(place.url)
    try:
        connection = await asyncpg.connect(
            dsn=f"postgresql://?{place.options}" if place.options else None,
            timeout=place.connect_seconds,
            command_timeout=place.connect_seconds,
            statement_cache_size=0,
            **{name: value for name, value in arguments.items() if not name.startswith("prepared_statement")},
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as exc:
        if "unsupported startup parameter" in str(exc):  # PgBouncer takes few of a session's settings
            raise _behind_a_pooler(place) from exc
        return
    try:
        status = await connection.execute(_SAME.format(backend=connection.get_server_pid()))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return
    finally:
        connection.terminate()
    if status != "SELECT 1":
        raise _behind_a_pooler(place)


def _behind_a_pooler(place: Place) -> StoreError:
    return StoreError(f"the store ({place}) {POOLED.what}", remedy=POOLED.remedy)
