"""The tokens that are kept in the store, and when each was used last, wherever it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, exists, func, insert, select, update

from orchestrator.access import acts
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Token
from orchestrator.errors import NotFoundError
from orchestrator.events import timestamp
from orchestrator.store import inserting
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable
from orchestrator.store.tables import door, token_uses, tokens
from orchestrator.store.writer import Writer

_WITH_USES = select(tokens, token_uses.c.last_used_at).outerjoin(token_uses, token_uses.c.token == tokens.c.id)


class StoreTokens:
    """Any number of processes may use it. Everything raises StoreError. Changes are part of the act that makes them."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def add(self, token: Token) -> None:
        row = {
            "id": token.id,
            "name": token.name,
            "role": str(token.role),
            "hash": token.hash,
            "created_at": token.created_at,
            "created_by": storable(token.created_by or ""),
            "expires_at": token.expires_at,
        }
        expires = None if token.expires_at is None else timestamp(token.expires_at)
        acts.tell(token=token.id, name=token.name, role=str(token.role), expires_at=expires)
        await self._writer.alone(lambda connection: _add(connection, row))

    async def find(self, token_id: str) -> Token | None:
        wanted = _WITH_USES.where(tokens.c.id == token_id)
        row = await self._connections.read(lambda connection: connection.execute(wanted).first())
        return None if row is None else _token(row)

    async def all(self, *, after: str = "", limit: int = 10_000) -> Sequence[Token]:
        """In order of their ids, from the one after `after`."""
        wanted = _WITH_USES.where(tokens.c.id > after).order_by(tokens.c.id).limit(limit)
        return [
            _token(row) for row in await self._connections.read(lambda connection: connection.execute(wanted).all())
        ]

    async def closed_by(self) -> Literal["token", "leader"] | None:
        """Why everybody must have one: there was a token at some time, also one that has been revoked; or a leader told
        so (`close`)."""
        wanted = select(exists().select_from(tokens), exists().select_from(door))
        had, told = await self._connections.read(lambda connection: connection.execute(wanted).one())
        return "token" if had else "leader" if told else None

    async def close(self, at: datetime) -> None:
        """From now on, and for good, everybody must have a token, whichever daemon is asked."""
        await self._writer.alone(lambda connection: _close(connection, at))

    async def revoke(self, token_id: str, *, by: str, at: datetime) -> Token:
        """From now on it does not count; one that is revoked already stays so. Raises NotFoundError."""
        acts.tell(token=token_id)
        await self._writer.alone(lambda connection: _revoke(connection, token_id, storable(by), at))
        found = await self.find(token_id)
        assert found is not None
        return found

    async def used(self, uses: Mapping[str, datetime]) -> None:
        """Record when tokens were used last, by id."""
        rows = [{"token": token, "last_used_at": at} for token, at in sorted(uses.items())]
        await self._connections.write(lambda connection: _use(connection, rows))

    async def uses(self) -> Mapping[str, datetime]:
        rows = await self._connections.read(lambda connection: connection.execute(select(token_uses)).all())
        return {row.token: row.last_used_at for row in rows}


def _add(connection: Connection, row: dict[str, Any]) -> Written[None]:
    connection.execute(insert(tokens), row)
    return Written(None)


def _close(connection: Connection, at: datetime) -> Written[None]:
    connection.execute(inserting.into(connection, door).values(id=1, closed_at=at).on_conflict_do_nothing())
    return Written(None, unchanged=True)


def _revoke(connection: Connection, token_id: str, by: str, at: datetime) -> Written[None]:
    row = connection.execute(select(tokens.c.revoked_at).where(tokens.c.id == token_id).with_for_update()).first()
    if row is None:
        raise NotFoundError(
            f"there is no token {token_id!r} in the store", remedy="`orchestrator token list` names them"
        )
    if row.revoked_at is not None:
        return Written(None, unchanged=True)
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_at=at, revoked_by=by))
    return Written(None)


def _use(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """The later of two moments stays: several daemons tell of the same token."""
    later = func.greatest if connection.dialect.name == "postgresql" else func.max
    for row in rows:
        new = inserting.into(connection, token_uses).values(row)
        latest = later(token_uses.c.last_used_at, new.excluded.last_used_at)
        connection.execute(new.on_conflict_do_update(index_elements=["token"], set_={"last_used_at": latest}))


def _token(row: Row[Any]) -> Token:
    return Token(
        row.id,
        row.name,
        Role(row.role),
        row.hash,
        row.expires_at,
        row.created_at,
        row.created_by,
        row.revoked_at,
        row.revoked_by,
        row.last_used_at,
    )
