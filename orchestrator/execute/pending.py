"""A share's migrations that have not started yet, in order, by the database they are for."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable

from orchestrator.execute.slots import IsFree
from orchestrator.rollout.state import Migration


class Pending:
    """Implements `slots.Wanted`: one whose database is at its limit is passed over, and keeps its place."""

    def __init__(self, migrations: Iterable[tuple[Migration, str]]) -> None:
        """The migrations in order, each with its database."""
        self._waiting: dict[str, deque[tuple[int, Migration]]] = defaultdict(deque)
        for number, (migration, database) in enumerate(migrations):
            self._waiting[database].append((number, migration))
        self._heads = [(lane[0][0], database) for database, lane in self._waiting.items()]
        heapq.heapify(self._heads)

    def __bool__(self) -> bool:
        return bool(self._heads)

    def first(self, is_free: IsFree) -> str | None:
        """The database of the first migration that may start."""
        passed = []
        found = None
        while self._heads and found is None:
            head = heapq.heappop(self._heads)
            passed.append(head)
            if is_free(head[1]):
                found = head[1]
        for head in passed:  # as many as there are databases at their limit
            heapq.heappush(self._heads, head)
        return found

    def take(self, database: str) -> Migration:
        """The first migration of that database, which no longer waits. Raises KeyError when there is none."""
        lane = self._waiting[database]
        if not lane:
            raise KeyError(database)
        head = (lane[0][0], database)
        passed = []
        while (one := heapq.heappop(self._heads)) != head:
            passed.append(one)
        _, migration = lane.popleft()
        if lane:
            passed.append((lane[0][0], database))
        else:
            del self._waiting[database]
        for one in passed:
            heapq.heappush(self._heads, one)
        return migration
