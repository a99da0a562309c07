"""Whether a plan may be replayed: decided by its first targets, some brought to the goal online, and one by replay.

What env.py sent them must be what was compiled, and their schemas equal, before the rest is replayed. Until that is
known, targets wait a while for it, and go online when it takes too long: nothing is ever held up for good.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import structlog

from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify
from orchestrator.execute.proving import Fingerprint, Group, ReadStanding, Standing, Turn, Verdict
from orchestrator.plan import compiled as compiling
from orchestrator.plan import recorded, sent
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.plan.recorded import LEAST

log = structlog.get_logger(__name__)

Render = Callable[[], Awaitable[Compiled]]
Compare = Callable[[Fingerprint, Fingerprint], str]

# A target waits so long for the verdict before it goes online.
PATIENCE_SECONDS = 10.0
# So many targets may fail while they are replayed for a proof, for reasons of their own, before nobody tries any more;
# and so many of a rollout's may be refused once the plan is proved, and go through online, before it is replayed no
# longer.
MOST_FAILED = 3
# So many different schemas may have recordings of their own; targets with others go online.
MOST_GROUPS = 8


@dataclass(slots=True)
class Certification:
    """One plan's way to its verdict: `wanted` targets online, one replayed. `trusted`: replayed without proof;
    `reviewed`: digest of the only SQL that may be replayed.

    Where revisions of the plan may be recorded, targets are told apart by the schema that they have before it: each
    `Group` comes to a verdict of its own. Only ever used from one event loop.
    """

    wanted: int
    render: Render
    compare: Compare
    on_verdict: Callable[[Verdict], None] = lambda verdict: None
    patience: float = PATIENCE_SECONDS
    trusted: bool = False
    reviewed: str | None = None
    _whole: Group = field(default_factory=Group)
    _first: Standing | None = None
    _apart: dict[str, Group] = field(default_factory=dict)  # by the digest of their schema
    _early: list[Turn] = field(default_factory=list)
    _compiled: Compiled | None = None
    _rendering: bool = False
    _alone: str | None = None
    _changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def verdict(self) -> Verdict | None:
        """On all targets."""
        return self._whole.verdict

    @asynccontextmanager
    async def turn(
        self, read: ReadStanding | None = None, on_apart: Callable[[str], None] = lambda difference: None
    ) -> AsyncIterator[Turn]:
        """A target's turn. It waits until it is known how: at most `patience` seconds for others, and as long as it
        takes where it is the one that has the plan rendered. `read`: tells of its schema before the plan; without it,
        nothing that was recorded is replayed there. `on_apart`: see `Turn`."""
        turn, done = Turn(on_apart=on_apart), False
        await self._admit(turn, anyio.current_time() + self.patience, read)
        try:
            if turn.watched and self._compiled is None and read is not None:  # it may turn out to be asked for
                turn.standing = await read()
            yield turn
            done = True
        except TargetError as exc:
            turn.failed = exc
            raise
        finally:
            self._leave(turn, done)

    async def _admit(self, turn: Turn, deadline: float, read: ReadStanding | None) -> None:
        while anyio.current_time() < deadline:
            group = await self._group_of(turn, read)
            verdict = self._whole.verdict or (group.verdict if group is not None else None)
            if group is None or verdict is not None:
                turn.compiled, turn.group = verdict.compiled if verdict is not None else None, group
                return
            # Those that began before it was known who is told apart may turn out to be of this group.
            undecided = self._whole.witnesses if group is not self._whole else 0
            if not self.trusted and group.lacks_witness(self._wanted - undecided):
                return group.take_witness(turn)
            if self._compiled is None and not self._rendering:
                await self._render()
                deadline = anyio.current_time() + self.patience  # it has waited for nobody yet
            elif self._compiled is not None and self._alone not in (None, str(self._compiled.per_migration)):
                reason = "env.py begins its transactions otherwise in offline mode"
                self._decide(self._whole, Verdict(reason=reason, differs=True))
            elif self._compiled is not None and len(group.seen) >= self._wanted and not group.proving:
                if group.compiled is not None:
                    return group.take_proof(turn)
                self._complete(group, self._compiled)
            else:
                with anyio.CancelScope(deadline=deadline):
                    await self._changed.wait()
                turn.standing = None  # somebody may have changed it meanwhile

    @property
    def _asks(self) -> bool:
        """Whether something of the plan may be recorded, as far as is known. What was reviewed shows none of it."""
        known = self._compiled is not None and self._compiled.asks
        return known and not self.trusted and self.reviewed is None

    @property
    def _wanted(self) -> int:
        return max(self.wanted, LEAST) if self._asks else self.wanted

    async def _group_of(self, turn: Turn, read: ReadStanding | None) -> Group | None:
        """None: the target goes online, since it is not known whose schema it has."""
        if not self._asks or self._whole.verdict is not None:
            return self._whole
        if turn.standing is None and read is not None:
            turn.standing = await read()
        return self._of_standing(turn)

    def _of_standing(self, turn: Turn) -> Group | None:
        if not self._asks:  # it turned out while the schema was read
            return self._whole
        if turn.standing is None:
            return None
        name = recorded.digest(turn.standing)
        if (group := self._apart.get(name)) is None:
            if self._first is not None:
                turn.on_apart(self.compare(self._first, turn.standing))
            if len(self._apart) >= MOST_GROUPS:
                return None
            group = self._apart[name] = Group()
            self._first = self._first or turn.standing
        return group

    async def _render(self) -> None:
        self._rendering = True
        try:
            self._compiled = await self.render()
        except TargetError as exc:
            self._decide(self._whole, Verdict(reason=f"it cannot be rendered: {exc.message}"))
        except Exception as exc:  # a bug in what only saves time must not cost anybody their migration
            log.exception("rendering_crashed")
            self._decide(self._whole, Verdict(reason=f"rendering it failed: {type(exc).__name__}: {exc}"))
        else:
            if not self._asks and not self._compiled.replayable:
                self._decide(self._whole, Verdict(reason=_reasons(self._compiled)))
            elif self.reviewed not in (None, self._compiled.digest):
                reason = "its SQL is not what the rollout's plan has shown"
                self._decide(self._whole, Verdict(reason=reason, differs=True))
            elif self.trusted:
                self._decide(self._whole, Verdict(self._compiled))
            self._whole.seen.clear()  # it is known now whom to compare with whom
            for turn in self._early:
                self._see(turn)
            self._early.clear()
        finally:
            self._rendering = False
            self._wake()

    def _leave(self, turn: Turn, done: bool) -> None:
        group = turn.group
        if group is None or not turn.watched:
            self._note_refusal(turn, done)
            return
        if turn.unreadable is not None:
            reason = f"the schema cannot be read to compare it: {turn.unreadable}"
            self._decide(self._whole, Verdict(reason=reason))
        if turn.objections:
            self._decide(self._whole, Verdict(reason="; ".join(turn.objections[:3]), differs=True))
        if turn.compiled is None:
            group.witnesses -= 1
            self._alone = turn.alone or self._alone
            if turn.fingerprint is not None:
                self._see(turn)
        else:
            group.proving = False
            self._judge(group, turn, done)
        self._wake()

    def _see(self, turn: Turn) -> None:
        """A target was brought to the goal online."""
        assert turn.fingerprint is not None
        group = self._of_standing(turn)
        if group is None or group.verdict is not None:
            return
        if turn.observed is not None and self._compiled is not None:
            group.lines.append(turn.observed.lines)
            if not self._asks and (why := _otherwise(self._compiled, group)) is not None:
                self._decide(self._whole, Verdict(reason=why, differs=True))
                return
        group.seen.append(turn.fingerprint)
        if self._asks and turn.observed is not None and group.compiled is None:
            group.recordings.append(turn.recording)
        if self._compiled is None:
            self._early.append(turn)
            if any(one.standing != turn.standing for one in self._early):
                return  # whether they should have become alike is not known yet
        self._look(group, turn.fingerprint, "targets that were migrated online differ from each other")

    def _complete(self, group: Group, compiled: Compiled) -> None:
        """All that were wanted have been seen: what is to be proved next."""
        if not self._asks or compiled.rendering is None:
            group.compiled = compiled
            return
        found = compiling.compiled(compiled.plan, recorded.filled(compiled.rendering, group.recordings))
        group.recordings.clear()
        if (why := _otherwise(found, group)) is not None:
            self._decide(group, Verdict(reason=why, differs=True))
            return
        if found.recorded:
            group.compiled = replace(found, asks=False)
            return
        # Nothing of it can be: from now on it is a plan like any other, and nobody's schema is read before it.
        self._compiled = replace(found, asks=False)
        self._whole, self._apart = group, {}
        if not found.replayable:
            self._decide(group, Verdict(reason=_reasons(found)))

    def _judge(self, group: Group, turn: Turn, done: bool) -> None:
        """What the one that was replayed tells."""
        if turn.fingerprint is not None and turn.refused is None and not turn.strayed:
            if (where := _unlike(group, turn)) is not None:
                reason = f"env.py sent a target that was replayed in part something else ({where})"
                self._decide(group, Verdict(reason=reason, differs=True))
            elif self._look(group, turn.fingerprint, "a replayed target differs from one that was migrated online"):
                self._decide(group, Verdict(turn.compiled))
            return
        group.failed += 1
        if turn.refused is not None and done:
            self._decide(group, _refuted(turn.refused))
        elif turn.failed is not None and classify(turn.failed) is ErrorClass.PERMANENT:
            self._decide(group, Verdict(reason=f"it failed where it was tried: {turn.failed.message}"))
        elif group.failed >= MOST_FAILED:
            self._decide(group, Verdict(reason="no target could be replayed"))

    def _note_refusal(self, turn: Turn, done: bool) -> None:
        """A plan that is proved and still refused, again and again, where env.py goes through."""
        if turn.refused is None or not done:
            return
        group = turn.group or self._whole
        group.failed += 1
        if group.failed >= MOST_FAILED and group.verdict is not None and group.verdict.compiled is not None:
            self._decide(group, _refuted(turn.refused))

    def _look(self, group: Group, fingerprint: Fingerprint, what: str) -> bool:
        """Whether it equals those before; otherwise nothing is replayed."""
        if not group.seen or fingerprint == group.seen[0]:
            return True
        reason = f"{what}: {self.compare(group.seen[0], fingerprint)}"
        self._decide(group, Verdict(reason=reason, differs=True))
        return False

    def _decide(self, group: Group, verdict: Verdict) -> None:
        """The first verdict stands; only a plan that was proved may be refuted later."""
        if group.verdict is not None and (group.verdict.compiled is None or verdict.compiled is not None):
            return
        if verdict.compiled is not None:
            group.failed = 0
        group.verdict = verdict
        for kept in (group.seen, group.recordings, group.lines):
            kept.clear()
        self.on_verdict(verdict)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _otherwise(compiled: Compiled, group: Group) -> str | None:
    """Why what targets were sent online is not what would be replayed."""
    return sent.objection(compiled.rendering, group.lines) if compiled.rendering is not None else None


def _unlike(group: Group, turn: Turn) -> str | None:
    """Where the revisions that env.py has run on a target, while others were replayed on it, have sent something else
    than when it ran all: what others leave in its process is missing. It is not known of those that differ anyway."""
    if turn.observed is None or turn.compiled is None or not group.lines:
        return None
    online = {name for one in turn.compiled.segments if isinstance(one, Online) for name in one.revisions}
    first, *others = group.lines
    if any(sent.difference(first, other, online) is not None for other in others):
        return None
    return sent.difference(turn.observed.lines, first, online)


def _refuted(message: str) -> Verdict:
    return Verdict(reason=f"replay was refused where env.py went through: {message}", differs=True)


def _reasons(compiled: Compiled) -> str:
    """The first reasons why everything runs online."""
    online = [segment for segment in compiled.segments if isinstance(segment, Online)]
    found = [f"{revision}: {why}" for one in online for revision, why in zip(one.revisions, one.reasons, strict=True)]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more
