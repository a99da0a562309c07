"""A freeze of the fleet: any process may set and lift it, and `starts` asks for it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from orchestrator.rollout.windows import Freeze, refused
from orchestrator.store import starts
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable
from orchestrator.store.tables import freeze
from orchestrator.store.writer import Writer


class StoreFreeze:
    """The one row of the table `freeze`. Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def current(self) -> Freeze | None:
        return await self._connections.read(_current)

    async def set(self, by: str, reason: str, now: datetime) -> Freeze:
        """Freeze the fleet: no start is recorded once this returns. One that is frozen stays so, as it was."""
        return await self._writer.alone(lambda connection: Written(_set(connection, by, reason, now)))

    async def lift(self) -> Freeze | None:
        """What was lifted; None when the fleet was not frozen."""
        return await self._writer.alone(lambda connection: Written(_lift(connection)))

    async def passed(self) -> None:
        """Record the act that is about to begin, in a transaction that no freeze comes between. Raises FrozenError."""
        await self._writer.alone(_pass)


def _pass(connection: Connection) -> Written[None]:
    if (held := starts.frozen(connection)) is not None:
        raise refused(held)
    return Written(None)


def _current(connection: Connection, *, taking: bool = False) -> Freeze | None:
    wanted = select(freeze).with_for_update() if taking else select(freeze)
    row = connection.execute(wanted).one()
    return None if row.since is None else Freeze(row.by, row.reason, row.since)


def _set(connection: Connection, by: str, reason: str, now: datetime) -> Freeze:
    if (held := _current(connection, taking=True)) is not None:
        return held
    frozen = Freeze(storable(by), storable(reason), now)
    connection.execute(update(freeze).values(by=frozen.by, reason=frozen.reason, since=frozen.since))
    return frozen


def _lift(connection: Connection) -> Freeze | None:
    held = _current(connection, taking=True)
    connection.execute(update(freeze).values(by=None, reason=None, since=None))
    return held
