"""Sessions on MySQL and MariaDB: how they are opened, and what their failures mean to the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import asyncmy
from asyncmy.connection import Connection
from asyncmy.errors import MySQLError
from sqlalchemy.engine import URL

from orchestrator.databases import refusals
from orchestrator.databases.base import Place
from orchestrator.errors import TargetUnreachableError

# A session of ours that says nothing for so long has lost its client, whatever the network told the server.
_SILENT_SECONDS = 600
_DATABASE_GONE = 1049
_NO_SUCH_TABLE = 1146
_LOCK_TIMEOUTS = (1205, 3572)

Row = tuple[Any, ...]


@asynccontextmanager
async def connected(place: Place, name: str, *, autocommit: bool = True) -> AsyncIterator[Connection]:
    """A session in autocommit mode: one that read in a transaction would keep its tables from being altered.

    `name` shows as `program_name` among the session's attributes where the server keeps them. Raises
    TargetUnreachableError.
    """
    # The driver's own limit does not count what a server takes that accepts and says nothing.
    with translated(place, _WHILE_CONNECTING), anyio.fail_after(place.limits.connect):
        connection = await asyncmy.connect(**_options(place, name, autocommit))
    try:
        with bounded(place):
            await ask(connection, _settings(place))
        yield connection
    finally:
        with anyio.move_on_after(2, shield=True), suppress(Exception):
            await connection.ensure_closed()
        connection.close()


def _options(place: Place, name: str, autocommit: bool) -> dict[str, Any]:
    """As SQLAlchemy hands the URL to the same driver in env.py: so TLS is the same for both."""
    url: URL = place.url.set(drivername="mysql+asyncmy")
    given = url.get_dialect()().create_connect_args(url)[1]
    return {"charset": "utf8mb4", **given, "autocommit": autocommit, "program_name": name}


def _settings(place: Place) -> str:
    seconds = whole_seconds(place.limits.lock_timeout)  # somebody may keep the version table locked
    return f"SET SESSION wait_timeout = {_SILENT_SECONDS}, lock_wait_timeout = {seconds}"


def whole_seconds(seconds: float) -> int:
    """Lock time-outs are whole seconds there, and at least one."""
    return max(1, round(seconds))


async def ask(connection: Connection, question: str, *arguments: object) -> list[Row]:
    """The rows of one question; none for a statement without an answer."""
    async with connection.cursor() as cursor:
        await cursor.execute(question, arguments or None)
        return [tuple(row) for row in await cursor.fetchall()] if cursor.description else []


def is_mariadb(connection: Connection) -> bool:
    return "mariadb" in str(connection.get_server_info()).lower()


_FOREIGN = (MySQLError, OSError, EOFError)
# TypeError and ValueError: the URL's options, of a kind that the driver does not know; RuntimeError: it lacks a library
# for the server's way to ask for a password. UnicodeError, a ValueError: a host or password that cannot be sent.
_WHILE_CONNECTING = (*_FOREIGN, TypeError, ValueError, RuntimeError)


class translated:
    """Turn the driver's errors into ours, with the remedy."""

    def __init__(self, place: Place, foreign: tuple[type[BaseException], ...] = _FOREIGN) -> None:
        self._place, self._foreign = place, foreign

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if errno(exc) in _LOCK_TIMEOUTS:
            raise refusals.version_table_locked(self._place, _code(exc)) from exc
        if isinstance(exc, self._foreign):
            raise unreachable(self._place, exc) from exc


@contextmanager
def bounded(place: Place, longer: float = 0.0) -> Iterator[None]:
    """As `translated`, in bounded time: what connecting may take, and `longer` seconds."""
    with translated(place), anyio.fail_after(place.limits.connect + longer):
        yield


def errno(exc: BaseException | None) -> int | None:
    """The server's or the driver's error number."""
    number = exc.args[0] if isinstance(exc, MySQLError) and exc.args else None
    return number if isinstance(number, int) and number else None


def has_no_table(exc: MySQLError) -> bool:
    """Whether the question was for a table, or a database, that is not there."""
    return errno(exc) in (_NO_SUCH_TABLE, _DATABASE_GONE)


def unreachable(place: Place, exc: BaseException) -> TargetUnreachableError:
    """The connection's failure in words, with what to do; only what time may cure is retriable."""
    kind, remedy, retriable = _cause(exc)
    return TargetUnreachableError(
        f"cannot use database {place.name}: {_reason(place, exc)}",
        kind=kind,
        code=_code(exc),
        remedy=remedy,
        retriable=retriable,
    )


def _reason(place: Place, exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {place.limits.connect:g} s"
    said = str(exc.args[1] if isinstance(exc, MySQLError) and len(exc.args) > 1 else exc).strip()
    return said.splitlines()[0] if said else "no answer in time"


def _code(exc: BaseException | None) -> str | None:
    number = errno(exc)
    return str(number) if number is not None else None


def _cause(exc: BaseException) -> refusals.Cause:
    number = errno(exc)
    if number is not None:
        return _CAUSES.get(
            number, refusals.NO_ANSWER if 2000 <= number < 3000 else refusals.UNUSABLE
        )  # these are the driver's own
    if isinstance(exc, UnicodeError):
        return "unreachable", "correct host and password of the shard's URL", False
    network = isinstance(exc, (TimeoutError, ConnectionError, EOFError))
    if isinstance(exc, (TypeError, ValueError)) or (isinstance(exc, OSError) and not network):
        return "configuration", "correct the options of the shard's URL, and the files that it names", False
    if isinstance(exc, RuntimeError):
        return "configuration", "use TLS (`?ssl_ca=…`), or install what the message names", False
    return refusals.NO_ANSWER


_PERMISSION = ("permission", "grant the shard's user all that its revisions need on the database", False)
# https://mariadb.com/kb/en/mariadb-error-codes/ and https://dev.mysql.com/doc/mysql-errors/8.0/en/
_CAUSES: dict[int, refusals.Cause] = {
    1040: refusals.FULL,
    1203: refusals.FULL,
    1226: refusals.FULL,
    1044: _PERMISSION,
    1142: _PERMISSION,
    1227: _PERMISSION,
    1045: refusals.PASSWORD,
    1698: refusals.PASSWORD,
    _DATABASE_GONE: refusals.MISSING,
    1053: refusals.STARTING,
    1129: ("blocked_host", "the server blocks this host after many errors: FLUSH HOSTS there", True),
    1130: ("permission", "let the shard's user connect from this host", False),
    # A session that is ended, by KILL or by a limit on idle ones.
    1317: refusals.NO_ANSWER,
    1927: refusals.NO_ANSWER,
    4031: refusals.NO_ANSWER,
}
