"""Carry out a plan on one target: online, by replay, or by turns, as its segments say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from orchestrator.databases.base import REPLAY_REFUSED, Guard, Replayer
from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify
from orchestrator.execute.proving import Turn
from orchestrator.execute.tracing import UNTRACED, Tracing
from orchestrator.plan.compiled import Compiled, Online, Script, stretches
from orchestrator.plan.recorded import digest
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Heads

# The statement was cancelled, by its time limit or by a person: env.py would be no quicker.
_CANCELLED = frozenset({"57014", "1317", "1969", "3024"})


class Course:
    """One target's way along its plan.

    `plan` makes the plan from the heads that are found; `online` runs env.py for one; `on_refused` is told when the
    server refused compiled SQL, before env.py is tried. `moved` tells of heads that are not our doing; `on_lasting` is
    told what `Replayer.replay` tells it. `redact` takes secrets out of what a server says of compiled SQL.
    """

    def __init__(
        self,
        guard: Guard,
        turn: Turn,
        *,
        plan: Callable[[Heads | None], Plan],
        online: Callable[[Plan], Awaitable[None]],
        on_step: Callable[[str, float], None],
        on_refused: Callable[[TargetError], None],
        moved: Callable[[Heads | None], TargetError | None],
        on_lasting: Callable[[str], Awaitable[None]],
        redact: Callable[[str], str],
        tracing: Tracing = UNTRACED,
    ) -> None:
        self._redact = redact
        self._moved, self._on_lasting, self._tracing = moved, on_lasting, tracing
        self._guard, self._plan, self._turn = guard, plan, turn
        self._run_online, self._on_step, self._on_refused = online, on_step, on_refused
        self._ways: set[str] = set()
        self.heads: Heads | None = None

    @property
    def execution(self) -> str:
        """`online`, `replay`, `mixed`, or `fallback` when the server refused what was replayed."""
        if self._turn.refused is not None:
            return "fallback"
        return "mixed" if len(self._ways) > 1 else next(iter(self._ways), "online")

    async def run(self, plan: Plan) -> None:
        """Bring the target to the goal, or raise TargetError. `heads` is what the version table was seen to hold in the
        last transaction, None when env.py ran last."""
        compiled, replayer = self._turn.compiled, self._guard.replayer
        if compiled is None or replayer is None:
            return await self._online(plan)
        try:
            for stretch in stretches(compiled.segments):
                if isinstance(stretch, Online):
                    await self._online(part(plan, stretch))
                elif (gate := stretch[0].gate) is not None and digest(await replayer.fingerprint()) != gate:
                    self._turn.strays()
                    return await self._online(self._plan(await self._guard.heads()))
                else:
                    await self._replay(replayer, compiled, stretch)
        except TargetError as exc:
            if not is_refusal(exc):
                raise
            heads = await self._guard.heads()
            if (meanwhile := self._moved(heads)) is not None:
                raise meanwhile from exc
            self._turn.refused = exc.message
            self._on_refused(exc)
            await self._online(self._plan(heads))

    async def _online(self, plan: Plan) -> None:
        self._ways.add("online")
        self.heads = None
        await self._run_online(plan)

    async def _replay(self, replayer: Replayer, compiled: Compiled, scripts: tuple[Script, ...]) -> None:
        self._ways.add("replay")
        with self._tracing.segment("replay", [name for script in scripts for name in script.revisions]) as part:
            on_sent = part.statements.append if part is not None else None
            try:
                await replayer.replay(scripts, compiled.create_version, self._tell, self._on_lasting, on_sent)
            except TargetError as exc:
                self._redacted(exc)
                raise
        self.heads = scripts[-1].after

    def _redacted(self, exc: TargetError) -> None:
        exc.message = self._redact(exc.message)
        exc.statement = exc.statement and self._redact(exc.statement)

    def _tell(self, revisions: Sequence[str], seconds: float) -> None:
        """Revisions that went together share their time evenly: what each took is not known."""
        for revision in revisions:
            self._on_step(revision, seconds / len(revisions))


def is_refusal(exc: TargetError) -> bool:
    """Whether the server refused the SQL itself, rather than the moment."""
    return exc.kind == REPLAY_REFUSED and classify(exc) is ErrorClass.PERMANENT and exc.code not in _CANCELLED


def part(plan: Plan, segment: Online) -> Plan:
    """The plan for one stretch that env.py runs."""
    provisioned = plan.provisioned or segment.before != plan.heads
    return replace(plan, heads=segment.before, goal=segment.after, steps=segment.revisions, provisioned=provisioned)
