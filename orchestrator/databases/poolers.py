"""Tell a connection pooler from a server.

Behind a pooler in transaction mode, each of our transactions may run in another session: two clients have been seen to
hold one session-level lock, a setting reaches whoever is given the session next, and a parsed statement of somebody
else's is run in place of ours. Which mode a pooler is in cannot be told from outside, so any is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import asyncpg

from orchestrator.databases import refusals
from orchestrator.databases.base import Place

ASK_AGAIN_SECONDS = 60.0
_NO_ANSWER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)
# What PgBouncer says to a client that makes settings of which it takes few.
REFUSED_SETTING = "unsupported startup parameter"
# One text in one message: a parsed statement may be another client's by the time it is run.
_SAME = "SELECT 1 WHERE pg_catalog.pg_backend_pid() = {backend}"
# Servers that were found to be none, with the moment until which they are believed to stay so: asking costs a round
# trip. The question that takes a target's lock sees to it as well, each time.
_direct: dict[tuple[object, ...], float] = {}


async def refuse(place: Place, connection: asyncpg.Connection[Any]) -> None:
    """Raise TargetUnreachableError, of kind `pooler`, where the session's number, as it was told when it began, is not
    the one that the server itself knows: a pooler makes up numbers, to find out later whom a client wants cancelled."""
    server = (place.url.host, place.url.port, place.url.query.get("host"))
    if _direct.get(server, 0.0) > time.monotonic():
        return
    if await _made_up(connection):
        raise refusals.pooled(place)
    _direct[server] = time.monotonic() + ASK_AGAIN_SECONDS


async def answers(arguments: Mapping[str, Any], seconds: float) -> bool:
    """Whether a pooler answers where these arguments of asyncpg lead to; False where nobody does."""
    try:
        connection = await asyncpg.connect(
            **arguments, timeout=seconds, command_timeout=seconds, statement_cache_size=0
        )
    except _NO_ANSWER as exc:
        return REFUSED_SETTING in str(exc)
    try:
        return await _made_up(connection)
    except _NO_ANSWER:
        return False
    finally:
        connection.terminate()


async def _made_up(connection: asyncpg.Connection[Any]) -> bool:
    """Whether the session's number, as it was told when it began, is not the one that the server itself knows."""
    status: str = await connection.execute(_SAME.format(backend=connection.get_server_pid()))
    return status != "SELECT 1"
