"""Targets that prove a plan: the turn of each, the group that it belongs to, and the verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import TargetError
from orchestrator.history.jobs import Observed
from orchestrator.plan import sent
from orchestrator.plan.compiled import Compiled
from orchestrator.plan.recorded import Recording
from orchestrator.plan.sent import Lines

Fingerprint = tuple[str, ...]
# A target's schema, and what else the catalog's answers hang on, before a plan is run; None where it cannot be read.
Standing = tuple[str, ...]
ReadStanding = Callable[[], Awaitable[Standing | None]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`compiled` is replayed from now on; without it all goes online, for this `reason`.

    `differs`: because the two ways do not come to the same, or targets are not alike.
    """

    compiled: Compiled | None = None
    reason: str | None = None
    differs: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """Targets that prove a plan together: all of it, or those whose schemas are equal before it."""

    verdict: Verdict | None = None
    compiled: Compiled | None = None
    witnesses: int = 0
    proving: bool = False
    failed: int = 0
    seen: list[Fingerprint] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    lines: list[Lines] = field(default_factory=list)

    def lacks_witness(self, wanted: int) -> bool:
        return self.witnesses + len(self.seen) < wanted

    def take_witness(self, turn: Turn) -> None:
        self.witnesses += 1
        turn.watched, turn.group = True, self

    def take_proof(self, turn: Turn) -> None:
        self.proving = True
        turn.compiled, turn.watched, turn.group = self.compiled, True, self


@dataclass(slots=True)
class Turn:
    """How one target is brought along the plan. `compiled` None: online. `standing`: its schema before; `on_apart` is
    told how it differs from that of the first, of a target that is the first to differ so, or one too many."""

    compiled: Compiled | None = None
    watched: bool = False
    group: Group | None = None
    standing: Standing | None = None
    on_apart: Callable[[str], None] = lambda difference: None
    fingerprint: Fingerprint | None = None
    unreadable: str | None = None
    refused: str | None = None
    strayed: bool = False
    failed: TargetError | None = None
    observed: Observed | None = None
    recording: Recording = field(default_factory=dict)
    objections: tuple[str, ...] = ()
    alone: str | None = None

    def strays(self) -> None:
        """On its way along the plan, its schema has become another than that of those on which it was recorded: the
        rest runs online."""
        self.strayed = True
        self.on_apart("after a revision that ran online, its schema is another than that of the first targets")

    def noticed(self, observed: Observed) -> None:
        """Called from another thread, before env.py's end is known; more than once where it runs more than once."""
        before = self.observed.lines if self.observed is not None else ()
        self.observed = replace(observed, lines=sent.continued(before, observed.lines))
        self.recording = observed.recording

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
