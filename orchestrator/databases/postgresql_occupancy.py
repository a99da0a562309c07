"""Who has the connections of a PostgreSQL server. Needs no privilege: names of sessions are shown to all."""

from __future__ import annotations

from typing import Any

import asyncpg

from orchestrator.databases.occupancy import Filling, Occupancy

# Sessions as the server counts them: of clients. What works in the background has places of its own, and is known by
# its kind where we may see that. Limits of databases and roles do not hold for superusers. A limit of -1 is none, and
# -2 marks a database that was being dropped.
_QUESTION = """WITH me AS (SELECT oid, rolsuper, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = session_user),
    sessions AS (SELECT datid, usesysid, application_name LIKE 'orchestrator %' AS ours
        FROM pg_catalog.pg_stat_get_activity(NULL)
        WHERE datid <> 0 AND usesysid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
        AND coalesce(backend_type, 'client backend') = 'client backend')
SELECT d.datname::text AS database,
    CASE WHEN NOT me.rolsuper AND d.datconnlimit >= 0 THEN d.datconnlimit END AS most,
    count(s.datid) AS used, count(*) FILTER (WHERE s.ours) AS ours,
    count(*) FILTER (WHERE s.usesysid = me.oid) AS account_used,
    CASE WHEN NOT me.rolsuper AND me.rolconnlimit >= 0 THEN me.rolconnlimit END AS account_most,
    pg_catalog.current_setting('max_connections')::int
    - pg_catalog.current_setting('superuser_reserved_connections')::int
    - coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0) AS server_most
FROM pg_catalog.pg_database d CROSS JOIN me LEFT JOIN sessions s ON s.datid = d.oid
WHERE s.datid IS NOT NULL OR d.datconnlimit >= 0 OR d.datname = pg_catalog.current_database()
GROUP BY d.datname, d.datconnlimit, me.rolsuper, me.rolconnlimit"""


async def occupancy(connection: asyncpg.Connection[Any]) -> Occupancy:
    rows = await connection.fetch(_QUESTION)
    databases = {row["database"]: Filling(row["used"], row["ours"], row["most"]) for row in rows}
    return Occupancy(
        rows[0]["server_most"],
        sum(row["used"] for row in rows),
        rows[0]["account_most"],
        sum(row["account_used"] for row in rows),
        databases,
    )
