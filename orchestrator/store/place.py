"""Where the store is. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from orchestrator.errors import StoreError

CONNECT_SECONDS = 10.0
FORMS = "sqlite:///orchestrator.db or postgresql://user:password@host:5432/database"
SCHEMES = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The store's address; as text it shows neither password nor options.

    `options` is the query of a PostgreSQL URL, as libpq knows it (`sslmode`, `sslrootcert`, `host`, …), but for
    `connect_timeout`.
    """

    url: URL = field(repr=False)
    options: str = field(default="", repr=False)
    connect_seconds: float = CONNECT_SECONDS

    @property
    def postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"

    @property
    def path(self) -> Path | None:
        """The file of an SQLite store; None in memory and on PostgreSQL."""
        name = self.url.database
        if self.postgresql or not name or name == ":memory:":
            return None
        return Path(name)

    def __str__(self) -> str:
        if not self.postgresql:
            return str(self.path or "in memory")
        shown = URL.create(
            "postgresql",
            username=self.url.username,
            host=self.url.host,
            port=self.url.port,
            database=self.url.database,
        )
        return shown.render_as_string()


def locate(url: str) -> Place:
    """Read a store URL.

    Raises StoreError for anything but SQLite and PostgreSQL; it never repeats the URL, which may hold a password.

    >>> str(locate("postgresql://me:secret@db:5432/control?sslmode=require"))
    'postgresql://me@db:5432/control'
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            "ORCHESTRATOR_STORE_URL is not a database URL",
            remedy=f"write {FORMS}; special characters of a password are percent-encoded",
        ) from None
    if parsed.drivername not in SCHEMES:
        raise StoreError(
            f"the store cannot be on {parsed.drivername!r}: only SQLite and PostgreSQL are supported",
            remedy=f"set ORCHESTRATOR_STORE_URL to {FORMS}",
        )
    known = parsed.set(drivername=SCHEMES[parsed.drivername])
    if known.get_backend_name() == "sqlite":
        _check_file(known)
        return Place(known)
    _check_server(known)
    options = dict(known.query)
    seconds = options.pop("connect_timeout", None)
    return Place(known.set(query={}), urlencode(options, doseq=True), _seconds(seconds))


def _check_file(url: URL) -> None:
    """One file has one name: what the driver would take for an option or a URI hides that from the driver's lock."""
    name = url.database or ""
    if url.host or url.username or url.port is not None:
        raise StoreError("ORCHESTRATOR_STORE_URL: an SQLite store is a file", remedy="write sqlite:///x.db")
    if url.query or name.startswith("file:") or "\0" in name:
        raise StoreError(
            "ORCHESTRATOR_STORE_URL: an SQLite store takes the name of a file and no options",
            remedy="write sqlite:///orchestrator.db",
        )


def _check_server(url: URL) -> None:
    try:
        (url.host or "").encode("idna")
    except UnicodeError:
        raise StoreError("ORCHESTRATOR_STORE_URL: the host cannot be a name", remedy=f"write {FORMS}") from None
    if url.port is not None and not 0 < url.port < 65536:
        raise StoreError("ORCHESTRATOR_STORE_URL: there is no such port", remedy="write 5432, say")


def _seconds(written: str | tuple[str, ...] | None) -> float:
    if written is None:
        return CONNECT_SECONDS
    if not isinstance(written, str) or not written.isdecimal() or int(written) == 0:
        raise StoreError("ORCHESTRATOR_STORE_URL: connect_timeout is not a number of seconds", remedy="write 10, say")
    return float(written)
