"""Replay on PostgreSQL: compiled SQL message by message, on the guard's own session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import anyio
import asyncpg

from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Patience, Place
from orchestrator.databases.connecting import bounded
from orchestrator.databases.fingerprint import normalised, query
from orchestrator.databases.postgresql_settings import applied, settings, timeouts
from orchestrator.databases.replay import Sender
from orchestrator.databases.scripts import Message, VersionTable, messages
from orchestrator.events import Statement
from orchestrator.plan.compiled import Script


class PostgreSQLReplayer:
    """`databases.base.Replayer`, on the guard's `connection`; `lost` is the guard's as well."""

    def __init__(
        self,
        place: Place,
        connection: asyncpg.Connection[Any],
        lost: anyio.Event,
        patience: Patience | None,
        server: str,
    ) -> None:
        self._place, self._connection, self._lost = place, connection, lost
        self._patience, self._server = patience, server

    @property
    def server(self) -> str:
        return self._server

    async def is_for_env_py(self) -> bool:
        return False

    async def replay(
        self,
        scripts: tuple[Script, ...],
        create_version: str | None,
        on_done: Callable[[tuple[str, ...], float], None],
        on_lasting: Callable[[str], Awaitable[None]],
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        sender = Sender(
            self._place,
            self._connection,
            self._lost,
            timeouts=timeouts(self._place),
            patience=self._patience,
            heads=scripts[0].before,
            on_sent=on_sent,
        )
        noted, began = None, time.monotonic()
        for message in messages_for(self._place, scripts, create_version):
            if message.lasting not in (None, noted):
                await on_lasting(noted := message.lasting)
            await sender.send(message)
            if message.revisions:
                ended = time.monotonic()
                on_done(message.revisions, ended - began)
                began = ended

    async def state(self) -> Mapping[str, str]:
        with bounded(self._place):
            return dict(await self._connection.fetch(sql.STATE))

    async def fingerprint(self) -> tuple[str, ...]:
        target = self._place.target
        with bounded(self._place):
            # Names are written as the session's search path and role have them: both are made the same for all.
            await self._connection.execute("BEGIN; RESET ROLE; SET LOCAL search_path = pg_catalog")
            try:
                rows = await self._connection.fetch(query(target.schema))
            finally:
                await self._connection.execute("ROLLBACK")
        return normalised([row[0] for row in rows], target.version_table, target.schema)


def messages_for(place: Place, scripts: tuple[Script, ...], create_version: str | None) -> Iterator[Message]:
    """What is sent for a stretch of scripts; the session is set up with the first of it."""
    setup = f"SELECT {applied(settings(place))};\n"
    for message in messages(scripts, VersionTable.of(place.target), create_version, timeouts(place)):
        yield replace(message, text=setup + message.text)
        setup = ""
