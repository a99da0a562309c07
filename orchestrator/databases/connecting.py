"""Sessions on PostgreSQL: how they are opened, and what their failures mean to the operator."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import asyncpg
from sqlalchemy.engine import URL

from orchestrator.databases import poolers, refusals
from orchestrator.databases.base import Place
from orchestrator.errors import TargetUnreachableError


@asynccontextmanager
async def connected(
    place: Place, name: str, settings: Mapping[str, str] | None = None, *, pooled: bool = False
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A session of that application_name, with these settings of the server besides.

    Raises TargetUnreachableError; of kind `pooler` where something stands between us and the server that shares its
    sessions, unless `pooled` says that this does no harm.
    """
    with translated(place):
        connection = await _connect(place, {"application_name": name, **(settings or {})})
    try:
        if not pooled:
            with translated(place):
                await poolers.refuse(place, connection)
        yield connection
    finally:
        with anyio.move_on_after(2, shield=True), suppress(Exception):
            await connection.close(timeout=2)
        if not connection.is_closed():
            connection.terminate()


# Servers that were asked for TLS lately and have none, with the moment until which they are not asked again: asking
# takes a round trip, and making ready for a yes a third of what a connection costs us.
_without_tls: dict[tuple[str | None, int | None], float] = {}
ASK_AGAIN_SECONDS = 60.0


async def _connect(place: Place, settings: Mapping[str, str]) -> asyncpg.Connection[Any]:
    """As `sslmode` says; where it says nothing, with TLS if the server has it, as libpq does."""
    mode, server = _ssl(place.url), (place.url.host, place.url.port)
    if mode is None and _without_tls.get(server, 0.0) > time.monotonic():
        try:
            return await _open(place, settings, False)
        except asyncpg.InvalidAuthorizationSpecificationError:  # it insists on TLS by now
            _without_tls.pop(server, None)
    connection = await _open(place, settings, mode)
    transport = getattr(connection, "_transport", None)
    if mode is None and transport is not None and transport.get_extra_info("ssl_object") is None:
        _without_tls[server] = time.monotonic() + ASK_AGAIN_SECONDS
    return connection


async def _open(
    place: Place, settings: Mapping[str, str], tls: ssl.SSLContext | str | bool | None
) -> asyncpg.Connection[Any]:
    url, limits = place.url, place.limits
    return await asyncpg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        database=url.database,
        ssl=tls,
        timeout=limits.connect,
        command_timeout=limits.connect,  # quick questions: a frozen server must not hold a target for ever
        statement_cache_size=0,
        server_settings={
            **settings,
            "lock_timeout": f"{limits.lock_timeout * 1000:.0f}ms",  # somebody may keep the version table locked
            "statement_timeout": f"{limits.connect * 1000:.0f}ms",
            "tcp_keepalives_idle": "30",  # a server that lost us lets go of the lock
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
            **_options(url),
        },
    )


def _options(url: URL) -> dict[str, str]:
    """As libpq, and so env.py's driver, takes them: from the URL, or else from the environment."""
    given = url.query.get("options", os.environ.get("PGOPTIONS"))
    return {"options": given} if isinstance(given, str) and given else {}


def _ssl(url: URL) -> ssl.SSLContext | str | None:
    mode = url.query.get("sslmode", url.query.get("ssl"))
    return mode if isinstance(mode, str) else None


# InternalClientError: a backend that dies while it prepares a statement. TimeoutError is an OSError. UnicodeError: a
# host's name that cannot be one.
FOREIGN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, UnicodeError)


class translated:
    """Turn the driver's errors into ours, with the remedy."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, asyncpg.LockNotAvailableError):
            raise refusals.version_table_locked(self._place, exc.sqlstate) from exc
        if isinstance(exc, FOREIGN):
            raise unreachable(self._place, exc) from exc


@contextmanager
def bounded(place: Place) -> Iterator[None]:
    """As `translated`, in bounded time: asyncpg's own limit does not count the wait for an earlier question's end."""
    with translated(place), anyio.fail_after(place.limits.connect):
        yield


def unreachable(place: Place, exc: BaseException) -> TargetUnreachableError:
    """The connection's failure in words, with what to do; only what time may cure is retriable."""
    if poolers.REFUSED_SETTING in str(exc):
        return refusals.pooled(place)
    code = getattr(exc, "sqlstate", None)
    kind, remedy, retriable = _cause(code, exc)
    reason = str(exc).strip().splitlines()[0] if str(exc).strip() else "no answer in time"
    if isinstance(exc, TimeoutError):
        reason = f"no answer within {place.limits.connect:g} s"
    return TargetUnreachableError(
        f"cannot use database {place.name}: {reason}", kind=kind, code=code, remedy=remedy, retriable=retriable
    )


def _cause(code: str | None, exc: BaseException) -> refusals.Cause:
    if isinstance(exc, asyncpg.ClientConfigurationError):
        return "configuration", "correct the options of the shard's URL", False
    if isinstance(exc, UnicodeError):
        return "unreachable", "correct the host of the shard's URL", False
    if code is None or code.startswith(("08", "57P")):
        return _CAUSES.get(code or "", refusals.NO_ANSWER)
    return _CAUSES.get(code, refusals.UNUSABLE)


_CAUSES: dict[str, refusals.Cause] = {
    "28P01": refusals.PASSWORD,
    "28000": refusals.PASSWORD,
    "3D000": refusals.MISSING,
    "42501": ("permission", "grant the shard's user CONNECT on the database and SELECT on the version table", False),
    "53300": refusals.FULL,
    "57014": ("slow", "look at the server's load: our quick questions take longer than its limit", True),
    "57P03": refusals.STARTING,
}


def in_words(row: Any) -> str:
    name = row["application_name"] or "no application_name"
    since = f" for {row['seconds']:.0f} s" if row["seconds"] is not None else ""
    return f"backend {row['pid']} ({name}, {row['state'] or 'state not visible'}{since})"


# Bytes of an application_name that the server keeps.
NAME_LIMIT = 63


def session_name(role: str, place: Place) -> str:
    """An application_name: printable ASCII and at most 63 bytes, as the server would cut it."""
    tenant = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in place.target.tenant)
    return f"orchestrator {role} {tenant}"[:NAME_LIMIT]
