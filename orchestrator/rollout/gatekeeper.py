"""What is waited for between waves: soak time, checks, approval."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio

from orchestrator import events
from orchestrator.rollout import asking, decide, step, tell
from orchestrator.rollout.ports import Checks, Verdict
from orchestrator.rollout.standing import Standing
from orchestrator.rollout.state import RolloutState
from orchestrator.rollout.waves import WaveRun

LONGEST_WAIT = 30.0


class Gatekeeper:
    """Carries out the steps at the gates of one rollout."""

    def __init__(self, standing: Standing, checks: Checks) -> None:
        self._standing, self._checks = standing, checks

    async def carry_out(self, following: step.Step, changed: anyio.Event) -> None:
        """Do one step at a gate; `changed` was there before the step was chosen."""
        match following:
            case step.Mark(index, what):
                await self._mark(index, what)
            case step.Hold(until, waiting):
                await self._hold(changed, until, waiting)
            case step.Approve(_, waiting):
                await self._await_approval(waiting)
                await _until(changed, None)
            case step.Ask(index):
                await self._ask(index, changed)

    async def _hold(self, changed: anyio.Event, until: datetime | None, waiting: str) -> None:
        if self._standing.rollout.state is RolloutState.RUNNING:
            changed = await self._tell_waiting(waiting) or changed
        await _until(changed, until)

    async def open(self, index: int) -> WaveRun:
        """Begin a wave, or go on with it: of one that had ended and has not passed, the gate begins anew."""
        async with self._standing.lock:
            rollout = self._standing.rollout
            wave = rollout.waves[index]
            if rollout.state is RolloutState.AWAITING_APPROVAL or rollout.waiting is not None:
                await self._standing.move(RolloutState.RUNNING, rollout.reason, waiting=None)
            if rollout.rolling_back:
                return wave
            if wave.started_at is None:
                await self._standing.mark(index, self._told(index, "started"), started_at=events.now())
            elif wave.ended and not wave.passed:
                anew = dict.fromkeys(("ended_at", "checking_since", "checked_at", "approved_at", "approved_by"))
                await self._standing.mark(index, self._told(index, "started"), **anew)
            return self._standing.rollout.waves[index]

    async def approve(self, by: str) -> None:
        """The caller holds the lock, and has asked whether this person may."""
        rollout, now = self._standing.rollout, events.now()
        said = decide.approval_told(rollout, by)
        name = decide.gate(rollout)
        if name is None:
            return await self._standing.move(RolloutState.RUNNING, said, approved_at=now, approved_by=by)
        index = step.current(rollout)
        await self._standing.mark(index, self._told(index, "approved", by), approved_at=now, approved_by=by)
        await self._standing.move(RolloutState.RUNNING, said)

    async def _mark(self, index: int, what: str) -> None:
        async with self._standing.lock:
            if self._standing.tally.wave(self._standing.rollout.waves[index].name).unfinished:
                return  # a retry came between
            told = {"ended_at": "ended", "checked_at": "checked", "passed_at": "passed"}[what]
            await self._standing.mark(index, self._told(index, told), **{what: events.now()})

    async def _await_approval(self, waiting: str) -> None:
        async with self._standing.lock:
            rollout = self._standing.rollout
            if rollout.state is RolloutState.RUNNING and not (rollout.aborting or rollout.rolling_back):
                await self._standing.move(RolloutState.AWAITING_APPROVAL, rollout.reason, waiting=waiting)

    async def _tell_waiting(self, waiting: str, index: int | None = None) -> anyio.Event | None:
        """What is set by the next change; None when there is something else to do already."""
        async with self._standing.lock:
            rollout = self._standing.rollout
            if rollout.state is not RolloutState.RUNNING or rollout.aborting or rollout.rolling_back:
                return None
            if index is not None and self._standing.tally.wave(rollout.waves[index].name).unfinished:
                return None
            if rollout.waiting != waiting:
                await self._standing.move(rollout.state, rollout.reason, waiting=waiting)
            return self._standing.changed

    async def _ask(self, index: int, changed: anyio.Event) -> None:
        """Ask the wave's checks once; when they have not passed within their deadline, pause."""
        wave = self._standing.rollout.waves[index]
        if wave.checking_since is None:
            async with self._standing.lock:
                await self._standing.mark(index, self._told(index, "checking"), checking_since=events.now())
            return  # and come back: a command may have come between
        verdicts = await self._asked(wave, changed)
        if verdicts is None:
            return  # a command came between
        unmet = asking.unmet(asking.complete(wave.checks, verdicts))
        if unmet is None:
            return await self._mark(index, "checked_at")
        said = f"checks after wave {wave.name}: {unmet}"
        deadline = wave.checking_since + timedelta(seconds=wave.check_deadline)
        if events.now() >= deadline:
            return await self._pause(f"{said} (not passed within {wave.check_deadline:g} s)")
        if (following := await self._tell_waiting(f"waiting for {said}", index)) is not None:
            await _until(following, min(deadline, events.now() + timedelta(seconds=wave.check_every)))

    async def _asked(self, wave: WaveRun, changed: anyio.Event) -> list[Verdict] | None:
        """The checks' verdicts; None when something changed before they came."""
        found: list[Verdict] | None = None
        rollout = self._standing.rollout
        targets = self._standing.tally.done_in(wave.name)
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                await changed.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave)
            found = list(await self._checks.ask(rollout.request.strategy, wave.name, targets))
            tasks.cancel_scope.cancel()
        return found

    async def _pause(self, reason: str) -> None:
        async with self._standing.lock:
            rollout = self._standing.rollout
            if rollout.state is RolloutState.RUNNING and not (rollout.aborting or rollout.rolling_back):
                await self._standing.move(RolloutState.PAUSED, reason)

    def _told(self, index: int, what: str, by: str | None = None) -> events.WaveChanged:
        return tell.wave_changed(self._standing.rollout, index, what, by)


async def _until(changed: anyio.Event, until: datetime | None) -> None:
    """Wait for a change, and at most until the moment: not all at once, since clocks may be set."""
    seconds = LONGEST_WAIT if until is None else (until - events.now()).total_seconds()
    with anyio.move_on_after(max(0.0, min(seconds, LONGEST_WAIT))):
        await changed.wait()
