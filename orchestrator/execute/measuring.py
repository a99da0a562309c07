"""Asks the largest tenants' databases how large some tables are: few databases, a short time, no lock on any table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio
import structlog

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.sizes import BY_DIALECT, Sizes, Wanted
from orchestrator.errors import TargetError
from orchestrator.execute.slots import Slots
from orchestrator.execute.survey import BESIDE_ROLLOUTS
from orchestrator.plan.parts import Size, Sized
from orchestrator.plan.tokens import Table
from orchestrator.registry.model import Registry, Target, TargetKey

log = structlog.get_logger(__name__)

# Databases of a shard that are asked for one group of targets, those of the whole plan, and the time for all of it.
MOST_OF_A_SHARD, MOST = 3, 24
LONGEST_SECONDS = 20.0
# Tables times tenants in one question, for databases with a schema per tenant.
MOST_PAIRS = 50_000

_Where = tuple[str, str]


class Asked(NamedTuple):
    """Targets with one plan, and the tables that it touches, with the columns of which more is to be known."""

    targets: Sequence[Target]
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Measured:
    """`sizes` are those at the largest of the tenants that were asked. `version`: their servers' lowest major one.
    `problem` says why some could not be asked."""

    sizes: Mapping[Table, Size] = field(default_factory=dict)
    version: int | None = None
    problem: str | None = None


class Measurer:
    """`slots` are shared with whoever else looks beside rollouts."""

    def __init__(self, slots: Slots, limits: Limits, by_dialect: Mapping[str, Sizes] = BY_DIALECT) -> None:
        self._slots, self._limits, self._by_dialect = slots, limits, by_dialect

    async def measure(self, registry: Registry, asked: Sequence[Asked]) -> Sequence[Measured]:
        """What is known of each, in their order; never raises for a database that cannot be asked."""
        asked = [one if self._can(registry, one) else Asked((), {}) for one in asked]
        found: dict[_Where, Sized | str] = {}
        problems: list[str] = []
        large: Sequence[_Where] = ()
        with anyio.move_on_after(LONGEST_SECONDS) as scope:
            large = await self._largest(registry, asked, problems)
            async with anyio.create_task_group() as tasks:
                for where in large:
                    tasks.start_soon(self._tables, registry, where, asked, found)
        if scope.cancelled_caught:
            late = f"the databases gave no answer within {LONGEST_SECONDS:g} s"
            problems.append(late)
            found.update({where: late for where in large if where not in found})
        return [_measured(one, found, problems) for one in asked]

    def _can(self, registry: Registry, one: Asked) -> bool:
        return bool(one.wanted) and registry.shards[one.targets[0].shard].dialect in self._by_dialect

    async def _largest(self, registry: Registry, asked: Sequence[Asked], problems: list[str]) -> Sequence[_Where]:
        """The databases to ask."""
        shards: dict[str, dict[str, Target]] = defaultdict(dict)
        for one in asked:
            for target in one.targets:
                shards[target.shard].setdefault(target.database, target)
        sizes: dict[_Where, int] = {}

        async def ask(shard: str, databases: Mapping[str, Target]) -> None:
            first = databases[min(databases)]
            try:
                async with self._slot(registry, shard):
                    there = await self._of(registry, shard).databases(self._place(registry, first), sorted(databases))
            except TargetError as exc:
                problems.append(exc.message)
            else:
                sizes.update({(shard, name): size for name, size in there.items()})

        async with anyio.create_task_group() as tasks:
            for shard, databases in shards.items():
                if len(databases) > MOST_OF_A_SHARD:
                    tasks.start_soon(ask, shard, databases)
        return chosen(asked, sizes)

    async def _tables(
        self, registry: Registry, where: _Where, asked: Sequence[Asked], found: dict[_Where, Sized | str]
    ) -> None:
        shard, database = where
        targets: dict[TargetKey, Target] = {}
        wanted: dict[Table, frozenset[str]] = {}
        for one in asked:
            here = [target for target in one.targets if (target.shard, target.database) == where]
            targets.update({target.key: target for target in here})
            for table, columns in one.wanted.items() if here else ():
                wanted[table] = wanted.get(table, frozenset()) | columns
        most = max(1, MOST_PAIRS // max(1, len(wanted)))
        places = [self._place(registry, target) for target in list(targets.values())[:most]]
        try:
            async with self._slot(registry, shard):
                found[where] = await self._of(registry, shard).tables(places, wanted)
        except TargetError as exc:
            found[where] = exc.message
        except Exception as exc:  # one database's surprise is not the end of the plan
            log.exception("measuring_crashed", shard=shard, database=database)
            found[where] = f"the orchestrator failed to read the sizes of tables: {type(exc).__name__}"

    def _of(self, registry: Registry, shard: str) -> Sizes:
        return self._by_dialect[registry.shards[shard].dialect]

    def _slot(self, registry: Registry, shard: str) -> AbstractAsyncContextManager[None]:
        return self._slots.slot(shard, max(1, int(registry.shards[shard].max_concurrent * BESIDE_ROLLOUTS)))

    def _place(self, registry: Registry, target: Target) -> Place:
        return Place(target, registry.url_for(target), self._limits)


def chosen(asked: Sequence[Asked], sizes: Mapping[_Where, int]) -> Sequence[_Where]:
    """Of each group's databases on a shard the largest, in turn, until there are enough. One of unknown size counts as
    the smallest; names decide between equals."""
    queues: list[Iterator[_Where]] = []
    for one in asked:
        shards: dict[str, set[str]] = defaultdict(set)
        for target in one.targets:
            shards[target.shard].add(target.database)
        for shard, databases in sorted(shards.items()):
            ordered = sorted((-sizes.get((shard, name), 0), name) for name in databases)
            queues.append(iter([(shard, name) for _, name in ordered[:MOST_OF_A_SHARD]]))
    found: dict[_Where, None] = {}
    for _ in range(MOST_OF_A_SHARD):
        for queue in queues:
            where = next(queue, None)
            if where is not None and len(found) < MOST:
                found[where] = None
    return list(found)


def _measured(one: Asked, found: Mapping[_Where, Sized | str], problems: Sequence[str]) -> Measured:
    tenants: dict[_Where, set[str]] = defaultdict(set)
    for target in one.targets:
        tenants[target.shard, target.database].add(target.tenant)
    answers = [(tenants[where], answer) for where, answer in found.items() if where in tenants]
    read = [(names, answer) for names, answer in answers if not isinstance(answer, str)]
    versions = [answer.version for _, answer in read if answer.version is not None]
    pairs = ((table, size) for names, answer in read for table, size in answer.tables if size.tenant in names)
    said = [answer for _, answer in answers if isinstance(answer, str)]
    problem = next(iter([*said, *problems]), None) if tenants and (said or not read) else None
    return Measured(largest(pairs, one.wanted), min(versions, default=None), problem)


def largest(sizes: Iterable[tuple[Table, Size]], wanted: Wanted) -> Mapping[Table, Size]:
    """Of each table, where it has most rows."""
    found: dict[Table, Size] = {}
    for table, size in sizes:
        if table in wanted and (table not in found or size.rows > found[table].rows):
            found[table] = size
    return found
