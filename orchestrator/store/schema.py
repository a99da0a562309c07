"""Brings the store's own tables to this release, through the Alembic history in `migrations/`."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path

import anyio
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from orchestrator.errors import StoreError
from orchestrator.store.connections import Connections
from orchestrator.store.faults import ELSEWHERE, is_busy
from orchestrator.store.sqlite import BUSY_SECONDS
from orchestrator.store.tables import VERSION_TABLE

SCHEMA_LOCK = (0x6F726368, 1)
RETRY_SECONDS = 0.05
WHICH = "set ORCHESTRATOR_STORE_URL or --store-url to the daemon's store; the path of a file begins in this folder"


async def bring_to_head(connections: Connections) -> None:
    """Make or upgrade the tables; of two processes that start at once, one does it and the other finds it done.

    The upgrade is one transaction, on SQLite too: killed, it leaves the store as it was. Raises StoreError for a store
    that a newer release has upgraded.
    """
    deadline = anyio.current_time() + BUSY_SECONDS
    while True:
        try:
            return await _bring_to_head(connections)
        except StoreError as exc:
            # To turn on WAL in a new file, SQLite needs it for a moment alone and does not wait for that by itself.
            if not is_busy(exc) or anyio.current_time() > deadline:
                raise
            await anyio.sleep(RETRY_SECONDS)


async def _bring_to_head(connections: Connections) -> None:
    if await connections.read(_is_behind):
        await connections.write(_upgrade)


async def require_head(connections: Connections) -> None:
    """Change nothing. Raises StoreError where there is no store, or one that is not of this release."""
    path = connections.place.path
    if path is not None and not await anyio.Path(path).is_file():
        raise StoreError(f"there is no store at {await anyio.Path(path).absolute()}", remedy=WHICH)
    if not await connections.read(_is_behind):
        return
    stored = await connections.read(stored_revisions)
    if not stored:
        raise StoreError(f"the database {connections.place} is no store: it has none of our tables", remedy=WHICH)
    raise StoreError(
        f"the store {connections.place} is of an older release: at revision {', '.join(stored)}, not {_known()[1]}",
        remedy="start the daemon of this release once, which upgrades it, or use the release that wrote it",
    )


def _is_behind(connection: Connection) -> bool:
    return behind(stored_revisions(connection), *_known())


def behind(stored: Collection[str], known: Collection[str], head: str) -> bool:
    """Whether a store at the revisions `stored` needs an upgrade. Raises StoreError if it is ahead.

    >>> behind([], {"0001"}, "0001"), behind(["0001"], {"0001"}, "0001")
    (True, False)
    """
    if ahead := sorted(set(stored) - set(known)):
        raise StoreError(
            f"the store is at revision {', '.join(ahead)}, which this release does not know: a newer one has used it",
            remedy=f"upgrade the orchestrator or {ELSEWHERE}",
        )
    return set(stored) != {head}


def stored_revisions(connection: Connection) -> tuple[str, ...]:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the store's history, for work on this connection."""
    made = Config()
    folder = Path(__file__).parent / "migrations"
    made.set_main_option("script_location", str(folder).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


@cache
def _known() -> tuple[frozenset[str], str]:
    scripts = ScriptDirectory.from_config(config())
    return frozenset(script.revision for script in scripts.walk_revisions()), scripts.get_heads()[0]


def _upgrade(connection: Connection) -> None:
    from orchestrator.history import tasklocal

    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(*SCHEMA_LOCK)))
    if _is_behind(connection):
        tasklocal.install()
        command.upgrade(config(connection), "head")
