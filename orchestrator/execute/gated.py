"""A share's migrations that have not started yet, by the group that says when they may."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator.execute.gate import Group
from orchestrator.execute.pending import Pending
from orchestrator.execute.slots import IsFree
from orchestrator.rollout.state import Migration

IsOpen = Callable[[Group], bool]
Grouping = Callable[[Migration], Group]


class Gated:
    """Implements `slots.Wanted`: those of a group that may not start now are passed over, and keep their places."""

    def __init__(
        self,
        migrations: Iterable[tuple[Migration, str]],
        group_of: Grouping,
        is_open: IsOpen,
        version: Callable[[], str] = str,
    ) -> None:
        """The migrations in order, each with its database. When `version` is another, so may the groups be."""
        self._group_of, self._is_open, self._version = group_of, is_open, version
        self._sorted = version()
        self._groups: dict[Group, Pending] = {}
        self._sort((number, one, database) for number, (one, database) in enumerate(migrations))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def counts(self) -> Sequence[tuple[Group, int]]:
        """How many wait in each group."""
        self._regroup()
        return [(group, len(pending)) for group, pending in self._groups.items()]

    def first(self, is_free: IsFree) -> str | None:
        """The database of the first migration that may start."""
        heads = (pending.head(is_free) for pending in self._open())
        found = min((head for head in heads if head is not None), default=None)
        return None if found is None else found[1]

    def take(self, database: str) -> Migration | None:
        """The first migration of that database that may start, which no longer waits; None when none may any more."""
        places = {place: pending for pending in self._open() if (place := pending.place(database)) is not None}
        if not places:
            return None
        migration = places[min(places)].take(database)
        self._groups = {group: pending for group, pending in self._groups.items() if pending}
        return migration

    def _regroup(self) -> None:
        """Ask again which group each is in, if that may have changed: before anyone starts by what held before."""
        if (version := self._version()) != self._sorted:
            self._sorted = version
            self._sort(sorted((one for pending in self._groups.values() for one in pending), key=lambda one: one[0]))

    def _open(self) -> Iterator[Pending]:
        self._regroup()
        return (pending for group, pending in self._groups.items() if self._is_open(group))

    def _sort(self, ordered: Iterable[tuple[int, Migration, str]]) -> None:
        found: dict[Group, list[tuple[int, Migration, str]]] = defaultdict(list)
        for number, migration, database in ordered:
            found[self._group_of(migration)].append((number, migration, database))
        self._groups = {
            group: Pending(((one, database) for _, one, database in those), (number for number, _, _ in those))
            for group, those in found.items()
        }


class OnlyOpen:
    """One database for one migration that started before: it waits for its hours as well."""

    def __init__(self, database: str, group: Callable[[], Group], is_open: IsOpen) -> None:
        self._database, self._group, self._is_open = database, group, is_open

    def first(self, is_free: IsFree) -> str | None:
        return self._database if is_free(self._database) and self._is_open(self._group()) else None
