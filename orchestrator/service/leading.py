"""A process and the lead of its store: standing for it, what the leader does for others, and losing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.abc
import structlog

from orchestrator.access import acts, callers
from orchestrator.access.acts import Act
from orchestrator.errors import ForbiddenError, OrchestratorError, StateError, StoreError
from orchestrator.events import LeaderElected, LeaderLost, StoodBy
from orchestrator.service import answers
from orchestrator.service.door import Door
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.steering import COMMANDS
from orchestrator.service.wiring import Parts
from orchestrator.store.commands import Command
from orchestrator.store.fence import lost
from orchestrator.store.leadership import Candidate

# How often the leader looks for what standbys have written.
LOOK_SECONDS = 0.5

log = structlog.get_logger(__name__)


@asynccontextmanager
async def driving(parts: Parts) -> AsyncIterator[Candidate | None]:
    """Be the one process that drives the store's rollouts. Raises StoreError if another one is."""
    async with _held(parts, required=True) as candidate:
        yield candidate


@asynccontextmanager
async def standing(parts: Parts) -> AsyncIterator[Candidate | None]:
    """Drive the store's rollouts, or stand by until the process that does so is gone; on SQLite as `driving`, with no
    candidate."""
    async with _held(parts, required=not parts.store.place.postgresql) as candidate:
        yield candidate


@asynccontextmanager
async def _held(parts: Parts, *, required: bool) -> AsyncIterator[Candidate | None]:
    """Losing it ends the process's work at once, and then the process: a thread that runs a project's code may not be
    stoppable, and only the process's end is sure to end it. Whoever supervises it starts it again, as a standby."""
    reasons: list[str] = []
    with anyio.CancelScope() as scope:

        def on_lost(reason: str) -> None:
            reasons.append(reason)
            parts.bus.publish(LeaderLost(reason=reason))
            scope.cancel()

        holding: AbstractAsyncContextManager[object] = (
            parts.store.driver_lock(on_lost) if required else parts.store.standing(on_lost)
        )
        async with holding as held:
            yield held if isinstance(held, Candidate) else None
    if reasons:
        raise lost(reasons[0])


class Lead:
    """What a daemon does about the lead of a PostgreSQL store."""

    def __init__(self, candidate: Candidate, service: Orchestrator, parts: Parts, door: Door) -> None:
        self._candidate, self._service, self._parts, self._door = candidate, service, parts, door
        self._commands = parts.store.commands
        service.steering.stand_by(candidate)

    async def begin(self) -> None:
        """Wait until it is known whether we lead or stand by."""
        await self._candidate.tried.wait()
        if not self._candidate.elected.is_set():
            self._parts.bus.publish(StoodBy(leader=self._candidate.holder))

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Wait for the lead if it is not ours, then do for the others what they ask, until it is no longer ours.

        Reports that it has begun once the rollouts are taken up, or at once on a standby.
        """
        standby = not self._candidate.elected.is_set()
        if standby:
            task_status.started()
            await self._candidate.elected.wait()
        async with anyio.create_task_group() as tasks:
            await self._take_up(tasks)
            if not standby:
                task_status.started()
            told = False
            while self._candidate.leads:
                await anyio.sleep(LOOK_SECONDS)
                try:
                    self._start(tasks, await self._commands.take(answers.LOST))
                    await self._service.take_up()
                    told = False
                except StoreError as exc:
                    if not told:
                        log.warning("commands_not_read", message=exc.message, remedy=exc.remedy)
                    told = True

    async def _take_up(self, tasks: anyio.abc.TaskGroup) -> None:
        await self._door.lead()
        # A pause that was asked for while nobody led comes before what it is to hold up.
        waiting = await self._commands.take(answers.LOST)
        self._parts.bus.publish(LeaderElected(leader=self._candidate.name, epoch=self._candidate.epoch))
        await self._service.resume_active()
        self._service.steering.lead()
        self._service.survey.wake()  # what the leader before has migrated, nobody has told us
        self._start(tasks, waiting)

    def _start(self, tasks: anyio.abc.TaskGroup, commands: Sequence[Command]) -> None:
        for command in commands:
            tasks.start_soon(self._carry_out, command)

    async def _carry_out(self, command: Command) -> None:
        try:
            error = await self._outcome(command)
            await self._commands.answer(command, error)
        except StoreError as exc:
            log.warning("command_not_answered", command=command.name, rollout=command.rollout, message=exc.message)

    async def _outcome(self, command: Command) -> answers.Error | None:
        try:
            if command.name not in COMMANDS:
                raise StateError(f"the leader knows no command {command.name!r}", remedy="upgrade its daemon")
            await self._refuse_unproved(command)
            with acts.acting(_act_of(command)) as act:
                await getattr(self._service, command.name)(command.rollout, **command.arguments)
            if not act.settled:  # it found nothing to change, as a pause of what is paused
                await self._parts.store.audit.note(act)
        except OrchestratorError as exc:
            return answers.told(exc)
        except Exception:
            log.exception("command_failed", command=command.name, rollout=command.rollout)
            return answers.BUG
        return None

    async def _refuse_unproved(self, command: Command) -> None:
        """A standby that lets in anybody must not be the way around our own door. Raises ForbiddenError."""
        if not callers.is_proved(str(command.arguments.get("by", ""))) and await self._door.closed():
            raise ForbiddenError(
                "the leader asks everybody for a token, and the daemon that was asked does not",
                remedy="give all daemons of the store the same tokens file and identity provider",
            )


def _act_of(command: Command) -> Act:
    """What the standby has told of it; a release that tells nothing has at least written who asked."""
    if command.act is None:
        return Act(f"{command.name}_rollout", command.by, rollout=command.rollout)
    return acts.from_json(command.act)
