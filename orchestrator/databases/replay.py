"""Send a message of compiled SQL on the guard's own session, watched from a second one when it takes long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import asyncpg

from orchestrator.databases import giving_way, refusals, telling, watching
from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Patience, Place
from orchestrator.databases.connecting import FOREIGN, bounded, connected, in_words, session_name, unreachable
from orchestrator.databases.polling import backoff
from orchestrator.databases.scripts import HEADS_CHANGED, LOCK_GONE, Message, VersionTable
from orchestrator.databases.waiting import Waiting
from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError
from orchestrator.events import Statement
from orchestrator.plan import indexes, remains
from orchestrator.plan.remains import REMEDY, Part
from orchestrator.registry.model import Heads
from orchestrator.sessions import Timeouts

CLEANUP_SECONDS = 10.0
# The server's statement_timeout counts for each statement; a script has no limit of its own.
_NO_LIMIT = 10.0**7

# The start tells a backend from a later one with its number.
_END = """SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_get_activity($1)
    WHERE backend_start = $2"""
_STARTED = "SELECT backend_start FROM pg_catalog.pg_stat_get_activity($1)"


class Sender:
    """Sends a stretch's messages one after the other on the guard's session."""

    def __init__(
        self,
        place: Place,
        connection: asyncpg.Connection[Any],
        lost: anyio.Event,
        *,
        timeouts: Timeouts,
        patience: Patience | None,
        heads: Heads,
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        """`heads` are the target's when it begins; `on_sent` is told of each message that holds statements of
        revisions, also of one that fails."""
        self._place, self._connection, self._lost = place, connection, lost
        self._timeouts, self._patience, self._on_sent = timeouts, patience, on_sent
        self._kept = Part(heads=heads)

    async def send(self, message: Message) -> None:
        """As `Replay.send`; what stays of a failure is told in it.

        Raises also TargetError where the message builds an index that is there and invalid, or is just being built.
        """
        if self._on_sent is None or not message.statements:
            return await self._send(message)
        with telling.told(self._on_sent, message.sent):
            await self._send(message)

    async def _send(self, message: Message) -> None:
        await self._refuse_invalid(message)
        try:
            await Replay(self._place, self._connection, self._lost, self._patience).send(message.text)
        except MigrationFailedError as exc:
            if message.alone is not None:  # it may have failed with its limits eased
                with suppress(TargetError), bounded(self._place):
                    await self._connection.execute(self._timeouts.restored(concurrently=True))
            raise _final(exc, message, self._kept) from exc.__cause__
        if message.heads is not None:
            self._kept = Part(heads=message.heads)
        for statement in message.leaves:
            self._kept.add(statement)

    async def _refuse_invalid(self, message: Message) -> None:
        if message.alone is None or (index := indexes.built(message.alone[1])) is None:
            return
        with bounded(self._place):
            found = await self._connection.fetchrow(indexes.question(index))
        if found is not None:
            exc = indexes.refusal(*found)
            exc.revision, exc.statement = message.alone
            exc.message = f"revision {exc.revision}: {exc.message}"
            raise exc


def _final(exc: MigrationFailedError, message: Message, kept: Part) -> MigrationFailedError:
    """A statement outside of transactions leaves something behind (an invalid index, or those before it, which are
    `kept`): nobody may try it again without looking."""
    if message.alone is None:
        return exc
    revision, statement = message.alone
    exc.message, exc.kind = f"revision {revision}: {exc.message}", MigrationFailedError.kind
    exc.revision, exc.statement = revision, statement or None
    if message.follows:
        exc.kind = HALF_APPLIED
        exc.remedy = REMEDY
        if kept.count:
            exc.message = f"{exc.message}\n{remains.told(kept)}"
    if indexes.may_leave_one(exc.statement, exc.code):
        exc.remedy = f"{indexes.LOOK}; then {exc.remedy if message.follows else 'correct the cause and retry'}"
        exc.kind = HALF_APPLIED
    return exc


class Replay:
    """One message on its way. `lost` is the guard's: set here when the session answers no more. `patience`: how long
    others may wait behind it."""

    def __init__(
        self, place: Place, connection: asyncpg.Connection[Any], lost: anyio.Event, patience: Patience | None
    ) -> None:
        self._place, self._connection, self._lost, self._patience = place, connection, lost, patience
        self._waiting = Waiting(place.target.tenant, place.target.track)
        self._gave_way: str | None = None
        self._failure: Exception | None = None

    async def send(self, text: str) -> None:
        """Return when the server has done it all; what was not committed is rolled back otherwise.

        Raises HeadsChangedError, retriable; TargetUnreachableError when the session is lost; MigrationFailedError with
        the SQLSTATE for what the server refused. When this is cancelled, the session is ended on the server.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, tasks.cancel_scope)
                try:
                    await self._connection.execute(text, timeout=_NO_LIMIT)
                except FOREIGN as exc:
                    self._failure = exc
                tasks.cancel_scope.cancel()
        except BaseException:
            await self._end()
            raise
        if self._lost.is_set() or (self._failure is not None and self._connection.is_closed()):
            self._lost.set()
            await self._end()
            raise refusals.guard_lost() from self._failure
        if self._failure is not None:
            await self._roll_back()
            if LOCK_GONE in str(self._failure) and not await self._locked_again():
                self._lost.set()
                raise refusals.guard_lost() from self._failure
            raise self._explained(self._failure) from self._failure

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """See who blocks the script, and whether its server lives: one that refuses a second session does."""
        missed, pause = 0, watching.WATCH_SECONDS
        if self._patience is not None:
            pause = min(pause, self._patience.seconds / 2)  # most scripts have ended by then
        waits = giving_way.Waits(unseen=pause)
        while missed < watching.MISSED_LOOKS:
            await anyio.sleep(pause)
            pause = watching.WATCH_SECONDS
            try:
                async with connected(self._place, session_name("watch", self._place)) as connection:
                    missed = 0
                    while True:
                        await self._look(connection, waits)
            except (TargetError, *FOREIGN) as exc:
                answered = exc.code if isinstance(exc, TargetError) else getattr(exc, "sqlstate", None)
                missed = 0 if answered else missed + 1
        self._lost.set()
        scope.cancel()

    async def _look(self, connection: asyncpg.Connection[Any], waits: giving_way.Waits) -> None:
        """Look around for WATCH_SECONDS."""
        backend, patience = self._connection.get_server_pid(), self._patience
        name = self._connection.get_settings().application_name
        row = await connection.fetchrow(sql.BLOCKERS, str(backend))
        self._waiting.seen(in_words(row) if row is not None else None)
        until = anyio.current_time() + watching.WATCH_SECONDS
        while (left := until - anyio.current_time()) > 0:
            if patience is not None:
                await giving_way.give_way(connection, [backend], name, patience, waits, self._note)
            await anyio.sleep(min(left, patience.pause) if patience is not None else left)

    def _note(self, gave_way: str | None) -> None:
        self._gave_way = gave_way

    async def _roll_back(self) -> None:
        """What failed may have left its transaction open. A session that is gone by now has none."""
        with suppress(TargetError), bounded(self._place):
            await self._connection.execute("ROLLBACK")

    async def _locked_again(self) -> bool:
        """Take the lock that something has let go of, unless somebody else has it by now."""
        key = VersionTable.of(self._place.target).lock_key
        with bounded(self._place):
            return bool(await self._connection.fetchval(sql.LOCK_AGAIN.format(first=sql.LOCK_NAMESPACE, second=key)))

    async def _end(self) -> None:
        """End the session on the server: closing it here would leave its statement running there."""
        backend = self._connection.get_server_pid()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLEANUP_SECONDS), suppress(Exception):
            async with connected(self._place, session_name("clean-up", self._place)) as connection:
                started = await connection.fetchval(_STARTED, backend)
                for pause in backoff(0.01, 0.5):
                    if not await connection.fetchval(_END, backend, started):
                        return
                    await anyio.sleep(pause)

    def _explained(self, exc: Exception) -> TargetError:
        if not isinstance(exc, asyncpg.PostgresError):
            return unreachable(self._place, exc)
        text = str(exc).strip().splitlines()[0]
        if HEADS_CHANGED in text or self._is_version_table(exc):
            return refusals.heads_changed(text.rpartition("invalid input syntax")[2])
        if exc.sqlstate == "55P03" and self._waiting.blocker:
            text = f"{text}; held by {self._waiting.blocker}"
        if LOCK_GONE in text:
            text = "something that was replayed has let go of the lock that the migration holds"
        holder = refusals.LOCK_HOLDER if exc.sqlstate == "55P03" else None
        failed = refusals.replay_refused(text, code=exc.sqlstate, holder=holder)
        giving_way.explain(failed, self._gave_way)
        return failed

    def _is_version_table(self, exc: asyncpg.PostgresError) -> bool:
        """Somebody else has made it meanwhile."""
        return exc.sqlstate == "42P07" and f'"{VersionTable.of(self._place.target).name}"' in str(exc)
