"""Who has the connections of a MySQL or MariaDB server. Needs no privilege."""

from __future__ import annotations

from asyncmy.connection import Connection

from orchestrator.databases.mysql_connecting import ask
from orchestrator.databases.occupancy import Filling, Occupancy

# The session's value is the account's own limit where it has one, else everybody's. 0 is none.
_LIMITS = "SELECT @@global.max_connections, @@session.max_user_connections"
_USED = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
# Without the privilege PROCESS, only the sessions of one's own account are seen; and of others, none are ours.
_ACCOUNT = """SELECT DB, COUNT(*) FROM information_schema.PROCESSLIST
    WHERE USER = SUBSTRING_INDEX(USER(), '@', 1) AND ID <> CONNECTION_ID() GROUP BY DB"""


async def occupancy(connection: Connection) -> Occupancy:
    ((most, account_most),) = await ask(connection, _LIMITS)
    ((_, used),) = await ask(connection, _USED)
    account = [(name, int(count)) for name, count in await ask(connection, _ACCOUNT)]
    return Occupancy(
        int(most),
        int(used) - 1,
        int(account_most) if int(account_most) > 0 else None,
        sum(count for _, count in account),
        {str(name): Filling(count, count) for name, count in account if name is not None},
    )
