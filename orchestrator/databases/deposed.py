"""Locks of targets that are held by a process which led our store before us, and may be frozen, or cut off.

Its migrations cannot be recorded any more, and nobody else can make it let go: its session is ended on the server. What
env.py does for it is ended then as what any killed run left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Place
from orchestrator.databases.connecting import NAME_LIMIT, session_name


def _nobody() -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Owner:
    """The process whose guards they are, by a mark that no other has; `deposed` gives the marks of those that led the
    store before it and did not give the lead back."""

    mark: str = ""
    deposed: Callable[[], Collection[str]] = _nobody

    def guard_name(self, place: Place) -> str:
        """The application_name of a guard: its process can be told by its end."""
        end = f" #{self.mark}" if self.mark else ""
        return session_name("guard", place)[: NAME_LIMIT - len(end)] + end

    async def end_deposed(self, connection: asyncpg.Connection[Any], key: int) -> None:
        """End the session that holds the target's lock, if it is a deposed process's."""
        deposed = self.deposed()
        if not deposed:
            return
        holder = await connection.fetchrow(sql.HOLDER, key)
        name = holder["application_name"] if holder is not None else None
        if holder is None or not is_deposed(name, deposed):
            return
        with suppress(asyncpg.InsufficientPrivilegeError):  # then the lock is waited for, as anybody's
            await connection.execute(sql.END_HOLDER, holder["pid"], name)


def is_deposed(application_name: str | None, deposed: Collection[str]) -> bool:
    """
    No tenant's name has a `#` there.

    >>> is_deposed("orchestrator guard acme #c0ffee", {"c0ffee"}), is_deposed("orchestrator guard c0ffee", {"c0ffee"})
    (True, False)
    """
    name, _, mark = (application_name or "").rpartition(" #")
    return name.startswith("orchestrator guard ") and mark in deposed
