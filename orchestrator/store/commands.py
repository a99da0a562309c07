"""What standbys ask of the leader, and what it answers: rows that the leader looks for each second.

A command is carried out once, or not at all: it is taken by one leader, and one that nobody has taken in its time never
will be. A leader that ends between taking and answering leaves open which; the next one says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Connection, bindparam, text

from orchestrator.store.connections import Connections
from orchestrator.store.fence import Fence
from orchestrator.store.rows import storable, storable_json

Error = Mapping[str, Any]

ASK = text(
    "INSERT INTO commands (rollout, name, arguments, by, act, asked_at, expires_at) VALUES "
    "(:rollout, :name, :arguments, :by, :act, clock_timestamp(), clock_timestamp() + make_interval(secs => :seconds)) "
    "RETURNING id"
).bindparams(bindparam("arguments", type_=JSON()), bindparam("act", type_=JSON(none_as_null=True)))
ANSWER_OF = text("SELECT answered_at IS NOT NULL AS answered, error FROM commands WHERE id = :id").columns(error=JSON())
WITHDRAW = text(
    "UPDATE commands SET answered_at = clock_timestamp(), error = :error "
    "WHERE id = :id AND answered_at IS NULL AND taken IS NULL RETURNING id"
).bindparams(bindparam("error", type_=JSON()))
WAITING = text(
    "SELECT EXISTS (SELECT FROM commands WHERE answered_at IS NULL AND "
    "(taken < :epoch OR (taken IS NULL AND expires_at > clock_timestamp())))"
)
LEAVE = text(
    "UPDATE commands SET answered_at = clock_timestamp(), error = :error WHERE answered_at IS NULL AND taken < :epoch"
).bindparams(bindparam("error", type_=JSON()))
TAKE = text(
    "UPDATE commands SET taken = :epoch WHERE answered_at IS NULL AND taken IS NULL "
    "AND expires_at > clock_timestamp() RETURNING id, rollout, name, arguments, by, act"
).columns(arguments=JSON(), act=JSON())
ANSWER = text(
    "UPDATE commands SET answered_at = clock_timestamp(), error = :error WHERE id = :id AND answered_at IS NULL"
).bindparams(bindparam("error", type_=JSON(none_as_null=True)))

# What was asked and answered is of use to whoever asks what happened, for a while.
FORGET = text("DELETE FROM commands WHERE answered_at < clock_timestamp() - interval '7 days'")

WITHDRAWN: Error = {"kind": "withdrawn"}


@dataclass(frozen=True, slots=True)
class Command:
    id: int
    rollout: str
    name: str
    arguments: Mapping[str, Any]
    by: str = ""
    act: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`error` None: it was carried out."""

    error: Error | None


class Commands:
    """The table `commands` of a PostgreSQL store. Everything raises StoreError."""

    def __init__(self, connections: Connections, fence: Fence) -> None:
        self._connections, self._fence = connections, fence

    # What a standby does

    async def ask(
        self,
        rollout: str,
        name: str,
        arguments: Mapping[str, Any],
        seconds: float,
        act: Mapping[str, Any] | None = None,
    ) -> int:
        """Record a command that may be taken within so many seconds; its number. `act`: for the leader's audit."""
        row = {
            "rollout": storable(rollout),
            "name": name,
            "arguments": storable_json(dict(arguments)),
            "by": storable(str(arguments.get("by", ""))),
            "act": None if act is None else storable_json(dict(act)),
            "seconds": seconds,
        }
        number: int = await self._connections.write(lambda connection: connection.scalar(ASK, row))
        return number

    async def answer_of(self, number: int) -> Answer | None:
        row = await self._connections.read(lambda connection: connection.execute(ANSWER_OF, {"id": number}).one())
        return Answer(row.error) if row.answered else None

    async def withdraw(self, number: int) -> bool:
        """Take back a command; False when a leader has taken it before."""
        values = {"id": number, "error": WITHDRAWN}
        return await self._connections.write(lambda connection: connection.scalar(WITHDRAW, values)) is not None

    # What the leader does

    async def take(self, lost: Error) -> Sequence[Command]:
        """The commands that wait, in the order in which they were asked: from now on they are ours to answer. Those
        that an earlier leader has taken and not answered are answered with `lost`."""
        epoch = self._fence.epoch
        if epoch is None:
            return ()
        if not await self._connections.read(lambda connection: connection.scalar(WAITING, {"epoch": epoch})):
            return ()
        return await self._connections.write(lambda connection: self._take(connection, epoch, lost))

    async def answer(self, command: Command, error: Error | None) -> None:
        values = {"id": command.id, "error": None if error is None else storable_json(dict(error))}

        def run(connection: Connection) -> None:
            self._fence.check(connection)
            connection.execute(ANSWER, values)

        await self._connections.write(run)

    def _take(self, connection: Connection, epoch: int, lost: Error) -> Sequence[Command]:
        self._fence.check(connection)
        connection.execute(FORGET)
        connection.execute(LEAVE, {"epoch": epoch, "error": dict(lost)})
        rows = connection.execute(TAKE, {"epoch": epoch})
        return sorted((Command(*row) for row in rows), key=lambda command: command.id)
