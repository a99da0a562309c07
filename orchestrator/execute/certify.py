"""Whether a plan may be replayed: decided by its first targets, some brought to the goal online, and one by replay.

Their schemas must be equal before the rest is replayed. Until that is known, targets wait a while for it, and go online
when it takes too long: nothing is ever held up for good.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog

from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify
from orchestrator.history.jobs import Observed
from orchestrator.plan.compiled import Compiled, Online

log = structlog.get_logger(__name__)

Fingerprint = tuple[str, ...]
Render = Callable[[], Awaitable[Compiled]]
Compare = Callable[[Fingerprint, Fingerprint], str]

# A target waits so long for the verdict before it goes online.
PATIENCE_SECONDS = 10.0
# So many targets may fail while they are replayed for a proof, for reasons of their own, before nobody tries any more;
# and so many may be refused once the plan is proved, and go through online, before it is no longer replayed.
MOST_FAILED = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`compiled` is replayed from now on; without it all goes online, for this `reason`.

    `differs`: because the two ways do not come to the same, or targets are not alike.
    """

    compiled: Compiled | None = None
    reason: str | None = None
    differs: bool = False


@dataclass(slots=True)
class Turn:
    """How one target is brought along the plan. `compiled` None: online."""

    compiled: Compiled | None = None
    watched: bool = False
    fingerprint: Fingerprint | None = None
    unreadable: str | None = None
    refused: str | None = None
    failed: TargetError | None = None
    observed: Observed | None = None
    objections: tuple[str, ...] = ()
    alone: str | None = None

    def noticed(self, observed: Observed) -> None:
        """Called from another thread, before env.py's end is known."""
        self.observed = observed

    def compare(self, state: Mapping[str, str]) -> None:
        """Hold what env.py's session was against the one that replays."""
        if self.observed is None:
            self.objections = ("what env.py does could not be observed",)
            return
        theirs = dict(self.observed.state)
        self.alone = theirs.pop("transaction_per_migration", None)
        names = sorted(name for name in state.keys() | theirs.keys() if state.get(name) != theirs.get(name))
        differing = (f"env.py's sessions have {name} = {theirs.get(name)}, ours {state.get(name)}" for name in names)
        self.objections = (*self.observed.remarks, *differing)

    def saw(self, fingerprint: Fingerprint | TargetError) -> None:
        """The schema of the target, at the goal; or why it cannot be read."""
        if isinstance(fingerprint, TargetError):
            self.unreadable = fingerprint.message
        else:
            self.fingerprint = fingerprint


@dataclass(slots=True)
class Certification:
    """One plan's way to its verdict: `wanted` targets online, one replayed. `trusted`: replayed without proof;
    `reviewed`: digest of the only SQL that may be replayed.

    Only ever used from one event loop.
    """

    wanted: int
    render: Render
    compare: Compare
    on_verdict: Callable[[Verdict], None] = lambda verdict: None
    patience: float = PATIENCE_SECONDS
    trusted: bool = False
    reviewed: str | None = None
    verdict: Verdict | None = None
    _compiled: Compiled | None = None
    _rendering: bool = False
    _witnesses: int = 0
    _proving: bool = False
    _alone: str | None = None
    _failed: int = 0
    _seen: list[Fingerprint] = field(default_factory=list)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """A target's turn. It waits until it is known how: at most `patience` seconds for others, and as long as it
        takes where it is the one that has the plan rendered."""
        turn = await self._admitted(anyio.current_time() + self.patience)
        done = False
        try:
            yield turn
            done = True
        except TargetError as exc:
            turn.failed = exc
            raise
        finally:
            self._leave(turn, done)

    async def _admitted(self, deadline: float) -> Turn:
        while anyio.current_time() < deadline:
            if self.verdict is not None:
                return Turn(self.verdict.compiled)
            if not self.trusted and self._witnesses + len(self._seen) < self.wanted:
                self._witnesses += 1
                return Turn(watched=True)
            if self._compiled is None and not self._rendering:
                await self._render()
            elif self._compiled is not None and self._alone not in (None, str(self._compiled.per_migration)):
                self._decide(Verdict(reason="env.py begins its transactions otherwise in offline mode", differs=True))
            elif self._compiled is not None and len(self._seen) >= self.wanted and not self._proving:
                self._proving = True
                return Turn(self._compiled, watched=True)
            else:
                with anyio.CancelScope(deadline=deadline):
                    await self._changed.wait()
        return Turn()

    async def _render(self) -> None:
        self._rendering = True
        try:
            self._compiled = await self.render()
        except TargetError as exc:
            self._decide(Verdict(reason=f"it cannot be rendered: {exc.message}"))
        except Exception as exc:  # a bug in what only saves time must not cost anybody their migration
            log.exception("rendering_crashed")
            self._decide(Verdict(reason=f"rendering it failed: {type(exc).__name__}: {exc}"))
        else:
            if not self._compiled.replayable:
                self._decide(Verdict(reason=_reasons(self._compiled)))
            elif self.reviewed not in (None, self._compiled.digest):
                self._decide(Verdict(reason="its SQL is not what the rollout's plan has shown", differs=True))
            elif self.trusted:
                self._decide(Verdict(self._compiled))
        finally:
            self._rendering = False
            self._wake()

    def _leave(self, turn: Turn, done: bool) -> None:
        if not turn.watched:
            self._note_refusal(turn, done)
            return
        if turn.unreadable is not None:
            self._decide(Verdict(reason=f"the schema cannot be read to compare it: {turn.unreadable}"))
        if turn.objections:
            self._decide(Verdict(reason="; ".join(turn.objections[:3]), differs=True))
        if turn.compiled is None:
            self._witnesses -= 1
            self._alone = turn.alone or self._alone
            if turn.fingerprint is not None:
                self._seen.append(turn.fingerprint)
                self._look(turn.fingerprint, "targets that were migrated online differ from each other")
        else:
            self._proving = False
            self._judge(turn, done)
        self._wake()

    def _judge(self, turn: Turn, done: bool) -> None:
        """What the one that was replayed tells."""
        if turn.fingerprint is not None and turn.refused is None:
            if self._look(turn.fingerprint, "a replayed target differs from one that was migrated online"):
                self._decide(Verdict(turn.compiled))
            return
        self._failed += 1
        if turn.refused is not None and done:
            self._decide(_refuted(turn.refused))
        elif turn.failed is not None and classify(turn.failed) is ErrorClass.PERMANENT:
            self._decide(Verdict(reason=f"it failed where it was tried: {turn.failed.message}"))
        elif self._failed >= MOST_FAILED:
            self._decide(Verdict(reason="no target could be replayed"))

    def _note_refusal(self, turn: Turn, done: bool) -> None:
        """A plan that is proved and still refused, again and again, where env.py goes through."""
        if turn.refused is None or not done:
            return
        self._failed += 1
        if self._failed >= MOST_FAILED and self.verdict is not None and self.verdict.compiled is not None:
            self._decide(_refuted(turn.refused))

    def _look(self, fingerprint: Fingerprint, what: str) -> bool:
        """Whether it equals those before; otherwise nothing is replayed."""
        if not self._seen or fingerprint == self._seen[0]:
            return True
        self._decide(Verdict(reason=f"{what}: {self.compare(self._seen[0], fingerprint)}", differs=True))
        return False

    def _decide(self, verdict: Verdict) -> None:
        """The first verdict stands; only a plan that was proved may be refuted later."""
        if self.verdict is not None and (self.verdict.compiled is None or verdict.compiled is not None):
            return
        if verdict.compiled is not None:
            self._failed = 0
        self.verdict = verdict
        self.on_verdict(verdict)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _refuted(message: str) -> Verdict:
    return Verdict(reason=f"replay was refused where env.py went through: {message}", differs=True)


def _reasons(compiled: Compiled) -> str:
    """The first reasons why everything runs online."""
    online = [segment for segment in compiled.segments if isinstance(segment, Online)]
    found = [f"{revision}: {why}" for one in online for revision, why in zip(one.revisions, one.reasons, strict=True)]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
