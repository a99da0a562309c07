"""Looks at the SQL of a plan that somebody asked for: what it does to tables of that size, and what squawk says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import anyio
import anyio.to_thread

from orchestrator.api.ports import CompiledGroup, CompiledPlan
from orchestrator.errors import TargetError
from orchestrator.execute.linter import HOW_TO_GET_IT, Linter, LinterFailedError, LinterMissingError
from orchestrator.execute.measuring import Asked, Measured, Measurer
from orchestrator.execute.render import render_plan
from orchestrator.plan import compiled as compiling
from orchestrator.plan import findings, squawk, weighing
from orchestrator.plan.compiled import IN_BATCHES, Online, Segment
from orchestrator.plan.findings import Finding
from orchestrator.plan.parts import Part, parts
from orchestrator.plan.squawk import Question, Violation
from orchestrator.plan.weighing import Verdict
from orchestrator.registry.findings import LEVELS, Findings
from orchestrator.registry.model import Registry, Track
from orchestrator.service.plans import Look, Made
from orchestrator.service.wiring import Parts, limits

# Revisions that one finding names.
NAMES_SHOWN = 5


class _Read(NamedTuple):
    """A group's SQL, as far as it can be looked at, and what is said of the rest."""

    parts: Sequence[Part] = ()
    unread: Sequence[Finding] = ()


async def examined(made: Made, registry: Registry, wired: Parts) -> CompiledPlan:
    """The plan with all of its findings, the worst first. Runs no revision on a database, and changes nothing."""
    return await _Examination(registry, wired).of(made)


@dataclass
class _Examination:
    registry: Registry
    wired: Parts
    linter: Linter = field(default_factory=Linter)
    asked: dict[Question, list[Violation]] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    async def of(self, made: Made) -> CompiledPlan:
        read = [await self._read(look) for look in made.looks]
        wanted = [await self._wanted(*pair) for pair in zip(made.looks, read, strict=True)]
        measurer = Measurer(self.wired.surveyor.slots, limits(self.wired.settings))
        measured = await measurer.measure(self.registry, wanted)
        groups = []
        for group, look, one, sizes in zip(made.plan.groups, made.looks, read, measured, strict=True):
            groups.append(await self._group(group, look, one, sizes))
        return replace(made.plan, groups=groups)

    async def _read(self, look: Look) -> _Read:
        plan, track = look.plan, look.track
        if plan is None or not plan.steps or plan.direction == "stamp":
            return _Read()
        rendering = look.rendering
        if rendering is None and track.execution == "online" and not track.findings.render:
            why = "the track says `execution: online`; with `findings: {render: true}` it is rendered to be looked at"
            return _Read((), [Finding("unread", None, f"nobody has looked at the SQL: {why}")])
        if rendering is None:
            try:
                rendering = await render_plan(self.wired.workers, self.registry, look.targets[0], look.history, plan)
            except TargetError as exc:
                return _Read((), [Finding("unread", None, f"nobody has looked at the SQL: {exc.message}")])
        segments = compiling.cut(plan, rendering)
        return _Read(parts(segments), list(_unread(segments)))

    async def _wanted(self, look: Look, read: _Read) -> Asked:
        if not read.parts or _is_fresh(look):
            return Asked((), {})
        tables = await anyio.to_thread.run_sync(weighing.tables, read.parts, self._dialect(look))
        return Asked(look.targets, tables)

    async def _group(self, group: CompiledGroup, look: Look, read: _Read, measured: Measured) -> CompiledGroup:
        rules, dialect = look.track.findings, self._dialect(look)
        weigh = partial(weighing.weighed, fresh=_is_fresh(look))
        weighed = await anyio.to_thread.run_sync(weigh, read.parts, dialect, measured.sizes, rules.large)
        ours = [*read.unread, *weighed.findings]
        if measured.problem is not None:
            told = f"not all of the largest databases could be asked how large their tables are: {measured.problem}"
            ours.append(Finding("unmeasured", None, told))
        theirs: list[Finding] = []
        if dialect == squawk.DIALECT and rules.squawk != "off" and read.parts:
            theirs = await self._lint(look.track, read.parts, weighed.verdicts, measured.version, ours)
        found = [*group.findings, *findings.levelled(ours, rules), *theirs]
        steps = {step: number for number, step in enumerate(group.steps)}
        found.sort(key=lambda one: (LEVELS.index(one.level), steps.get(one.revision or "", -1)))
        return replace(group, findings=list(dict.fromkeys(found)))

    async def _lint(
        self,
        track: Track,
        all_parts: Sequence[Part],
        verdicts: Sequence[Verdict],
        version: int | None,
        ours: list[Finding],
    ) -> list[Finding]:
        """What squawk says; what is to be said of squawk itself goes to `ours`, once for each track."""
        answers: dict[int, list[Finding]] = {}

        async def lint(number: int, part: Part, of: Sequence[Verdict]) -> None:
            try:
                answers[number] = await self._part(part, of, track.findings, version, ours)
            except LinterMissingError:
                self._give_up(track, ours, "linter_missing", f"squawk was not asked: {HOW_TO_GET_IT}")
            except LinterFailedError as exc:
                self._give_up(track, ours, "linter_failed", f"squawk was not of help: {exc}")

        if track.name in self.given_up:
            return []
        async with anyio.create_task_group() as tasks:
            begins = 0
            for number, part in enumerate(all_parts):
                tasks.start_soon(lint, number, part, verdicts[begins : begins + len(part.statements)])
                begins += len(part.statements)
        return [one for _, found in sorted(answers.items()) for one in found]

    def _give_up(self, track: Track, ours: list[Finding], rule: str, why: str) -> None:
        if track.name not in self.given_up:
            ours.append(Finding(rule, None, why))
        self.given_up.add(track.name)

    async def _part(
        self, part: Part, verdicts: Sequence[Verdict], rules: Findings, version: int | None, ours: list[Finding]
    ) -> list[Finding]:
        left_out = squawk.too_long(part)
        question = squawk.question(part, rules, version, left_out)
        said = await self._ask(question)
        if more := squawk.unreadable(question, said):
            left_out |= more
            question = squawk.question(part, rules, version, left_out)
            said = await self._ask(question)
        ours += squawk.unread(part, left_out)
        if squawk.unreadable(question, said):
            return []
        return list(squawk.findings(question, part, said, verdicts, rules))

    async def _ask(self, question: Question) -> list[Violation]:
        if question not in self.asked:
            self.asked[question] = await self.linter.ask(question)
        return self.asked[question]

    def _dialect(self, look: Look) -> str:
        return self.registry.shards[look.targets[0].shard].dialect


def _unread(segments: Sequence[Segment]) -> Iterator[Finding]:
    """Which revisions nobody can look at, by the reason."""
    reasons: dict[str, list[str]] = {}
    for one in segments:
        for revision, reason in zip(one.revisions, one.reasons, strict=True) if isinstance(one, Online) else ():
            if reason != IN_BATCHES:
                reasons.setdefault(reason, []).append(revision)
    for reason, revisions in reasons.items():
        more = f" and {len(revisions) - NAMES_SHOWN} more" if len(revisions) > NAMES_SHOWN else ""
        named = f"{', '.join(revisions[:NAMES_SHOWN])}{more}"
        only = revisions[0] if len(revisions) == 1 else None
        yield Finding("unread", only, f"nobody has looked at the SQL{'' if only else f' of {named}'}: {reason}")


def _is_fresh(look: Look) -> bool:
    """Whether there is nothing before the plan: neither tables nor those who read them."""
    return look.plan is not None and not look.plan.provisioned and all(one.adopt is None for one in look.targets)
