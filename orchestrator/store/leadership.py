"""The lead of a PostgreSQL store: at most one process drives its rollouts, and others can take over from it.

Who leads has three things: the newest *epoch* in the row of `leadership`, which each of its writes proves (`fence`); a
*lease* there, which it renews; and a session lock, which keeps out releases that know no lease. A lease that has ended
is taken over, also from a process that is only frozen: its session is ended on the server then, and its epoch is not
the newest any more. Before that it is taken over where it was given back, and where the process is known to have died.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.errors import StoreError
from orchestrator.store import lease, process
from orchestrator.store.connections import Connections
from orchestrator.store.fence import Fence
from orchestrator.store.lease import Lease, Trust
from orchestrator.store.lifetime import beside
from orchestrator.store.place import Place
from orchestrator.store.process import Identity

POLL_SECONDS = 1.0
LATE_SECONDS = 2.0
LOCK_SECONDS = 1.0
LOCK_PAUSE_SECONDS = 0.02
RELEASE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Candidate:
    """This process, as it asks for the lead, has it, or has lost it.

    `tried` is set once it was asked for, `elected` once it was had. `holder` says in words who has it, as last seen,
    and `left_seconds` what was left of the lease then.
    """

    def __init__(
        self, place: Place, me: Identity, fence: Fence, lease_seconds: float, on_lost: Callable[[str], None]
    ) -> None:
        """`on_lost` is called once, with the reason; from then on nothing may be started."""
        self._connections = Connections(place, purpose=process.purpose("driver", me.mark), pooled=False)
        self._fence, self._on_lost = fence, on_lost
        self._me, self.name = me, me.name
        self._lease_seconds, self._trust = lease_seconds, Trust(lease_seconds)
        self._session: AsyncConnection | None = None
        self._backend = self._locked_in = 0
        self._stopped = self._lost = False
        self._woken, self._ended = anyio.Event(), anyio.Event()
        self.tried, self.elected = anyio.Event(), anyio.Event()
        self.epoch = 0
        self.holder: str | None = None
        self.left_seconds = 0.0

    @property
    def leads(self) -> bool:
        return self.elected.is_set() and not self._lost and not self._stopped

    # Becoming it

    async def run(self) -> None:
        """Ask for the lead until it is had, then keep it, and give it back when stopped; returns when it was lost."""
        with anyio.CancelScope(shield=True):  # what is cancelled beside us still has its end to record
            try:
                if await self._elected():
                    await self._keep()
            finally:
                await self._give_back()
                self._ended.set()

    async def _elected(self) -> bool:
        pause, told = min(POLL_SECONDS, self._lease_seconds / 5), ""
        while not self._stopped:
            try:
                if await self.claim():
                    return True
                told = ""
            except StoreError as exc:
                if exc.message != told:
                    log.warning("lead_not_asked_for", message=exc.message, remedy=exc.remedy)
                told = exc.message
            finally:
                self.tried.set()
            await self._pause(pause)
        return False

    async def claim(self) -> bool:
        """Take the lead if nobody has it. Raises StoreError."""
        try:
            with anyio.fail_after(self._lease_seconds):
                return await self._claim(await self._opened())
        except StoreError:
            await self._drop()
            raise
        except TimeoutError as exc:
            await self._drop()
            raise StoreError("the store did not answer in time", remedy="look for locks and load there") from exc

    async def _claim(self, session: AsyncConnection) -> bool:
        seen = await self._read(session)
        dead = process.is_dead(seen.identity)
        self.holder, self.left_seconds = seen.leader, max(seen.seconds_left, 0.0)
        if not (seen.expired or dead) or not await self._locked(session, seen.backend):
            return False
        if seen.owner:
            await self._connections.telling(session.execute(lease.END_WRITING, seen.writing))
        asked_at = lease.clock()
        deposed = seen.deposing(dead)
        values = {"epoch": seen.epoch, "dead": dead, "seconds": self._lease_seconds, "deposed": deposed}
        me = {"owner": self._me.name, "machine": self._me.machine, "pid": self._me.pid, "born": self._me.born}
        epoch = await self._connections.telling(session.scalar(lease.CLAIM, {**values, **me}))
        if epoch is None:  # somebody else was quicker, or it has just been renewed
            await self._connections.telling(session.execute(lease.UNLOCK))
            return False
        self.epoch, self.holder = epoch, None
        self._trust.renewed(asked_at)
        self._fence.lead(epoch, deposed)
        self._fence.on_refused = self._lose
        self.elected.set()
        return True

    async def _locked(self, session: AsyncConnection, theirs: int) -> bool:
        """Take the session lock, for which the session `theirs` of a leader that is no more is ended."""
        deadline = anyio.current_time() + LOCK_SECONDS
        while not await self._connections.telling(session.scalar(lease.LOCK, lease.KEYS)):
            if anyio.current_time() >= deadline:
                holder = (await self._connections.telling(session.execute(lease.HOLDER, lease.KEYS))).first()
                self.holder = lease.session_described(*holder) if holder else self.holder
                return False
            await self._connections.telling(session.execute(lease.END_HOLDER, {**lease.KEYS, "backend": theirs}))
            await anyio.sleep(LOCK_PAUSE_SECONDS)
        self._locked_in = self._backend
        return True

    # Being it

    async def _keep(self) -> None:
        third, failed = self._lease_seconds * lease.RENEW_PART, False
        pause = third
        while True:
            await self._pause(min(pause, self._trust.seconds_left))
            if self._stopped or self._lost:
                return
            left = self._trust.seconds_left
            if left <= 0 and failed:
                return self._lose(f"its lease of {self._lease_seconds:g} s could not be renewed in time")
            if left <= 0:  # late without having failed: we were asleep, and go on if nobody has taken over
                await self._drop()
            try:
                with anyio.fail_after(min(third, left) if left > 0 else LATE_SECONDS):
                    await self._renew()
                pause, failed = third, False
            except (StoreError, TimeoutError) as exc:
                log.warning("lease_not_renewed", message=str(exc), seconds_left=round(self._trust.seconds_left, 1))
                await self._drop()
                pause, failed = self._lease_seconds * lease.RETRY_PART, True

    async def _renew(self) -> None:
        """Raises StoreError when it could not be asked whether we still lead."""
        asked_at = lease.clock()
        session = await self._opened()
        values = {"epoch": self.epoch, "owner": self._me.name, "seconds": self._lease_seconds}
        backend = await self._connections.telling(session.scalar(lease.RENEW, values))
        if backend is None:
            seen = await self._read(session)
            self.holder = seen.leader
            return self._lose(f"{self.holder or 'another one'} has taken over (epoch {seen.epoch}, not {self.epoch})")
        if backend != self._backend:
            return self._lose(
                "a transaction-mode pooler stands before the store: ORCHESTRATOR_STORE_URL must go past it"
            )
        # The lock went with the last session: the lease was ours all the same.
        if self._locked_in != self._backend and not await self._locked(session, self._locked_in):
            raise StoreError(f"the lock on the store is held by {self.holder}")
        self._trust.renewed(asked_at)

    def _lose(self, reason: str) -> None:
        if self._lost or not self.elected.is_set():
            return
        self._fence.close(reason)
        self._lost = True
        self._woken.set()
        self._on_lost(reason)

    # Leaving

    async def release(self) -> None:
        """Ask for the lead no more; give it back if it is ours: the next leader should not wait for the lease's end."""
        self._stopped = True
        self._woken.set()
        with anyio.move_on_after(RELEASE_SECONDS, shield=True):
            await self._ended.wait()

    async def _give_back(self) -> None:
        with anyio.move_on_after(RELEASE_SECONDS, shield=True), suppress(StoreError, SQLAlchemyError, OSError):
            if self.elected.is_set() and not self._lost:
                self._fence.close("it has given the lead back")
                session = await self._opened()
                await session.execute(lease.RELEASE, {"epoch": self.epoch, "owner": self._me.name})
            if self._session is not None:
                await self._session.execute(lease.UNLOCK)
        await self._drop()

    async def dispose(self) -> None:
        await self._drop()
        await self._connections.dispose()

    # The session

    async def _opened(self) -> AsyncConnection:
        if self._session is None:
            self._session = await self._connections.connect()
            row = (await self._connections.telling(self._session.execute(lease.SET_UP))).one()
            self._backend = row.pg_backend_pid
        return self._session

    async def _read(self, session: AsyncConnection) -> Lease:
        row = (await self._connections.telling(session.execute(lease.READ))).one()
        return Lease(*row)

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        with anyio.move_on_after(RELEASE_SECONDS, shield=True), suppress(SQLAlchemyError, OSError):
            await session.invalidate()
            await session.close()

    async def _pause(self, seconds: float) -> None:
        """Until stopped, or lost, or for that long."""
        with anyio.move_on_after(max(seconds, 0)):
            await self._woken.wait()


@asynccontextmanager
async def standing(
    place: Place, me: Identity, fence: Fence, lease_seconds: float, on_lost: Callable[[str], None]
) -> AsyncIterator[Candidate]:
    """Ask for the lead beside the block, and keep it there; leaving gives it back."""
    candidate = Candidate(place, me, fence, lease_seconds, on_lost)
    try:
        async with beside(candidate.run, candidate.release):
            yield candidate
    finally:
        await candidate.dispose()
