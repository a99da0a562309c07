"""What keeps a process that has lost the lead from writing: each of its transactions asks for the newest epoch."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection, select

from orchestrator.errors import LeadershipLostError
from orchestrator.store.tables import leadership

# The row is held against whoever takes over, and not against the heartbeat: that changes no key of it.
NEWEST = select(leadership.c.epoch).with_for_update(read=True, key_share=True)


class Fence:
    """Open until the process leads (`epoch` None): a rollout may be written by anybody. When its lead has ended, it
    stays closed."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.deposed: frozenset[str] = frozenset()
        self.on_refused: Callable[[str], None] = _nothing
        self._lost: str | None = None

    def lead(self, epoch: int, deposed: Collection[str]) -> None:
        """`deposed`: the marks of processes that led before and did not give the lead back."""
        self.epoch, self.deposed, self._lost = epoch, frozenset(deposed), None

    def close(self, reason: str) -> None:
        """Who has led writes nothing more, however its lead ended."""
        self._lost = self._lost or reason

    def check(self, connection: Connection) -> None:
        """Raises LeadershipLostError; otherwise nobody takes over before the transaction has ended."""
        if self._lost is not None:
            raise lost(self._lost)
        if self.epoch is None:
            return
        newest = connection.scalar(NEWEST)
        if newest != self.epoch:
            reason = f"another process has taken over (epoch {newest}, ours was {self.epoch})"
            self.close(reason)
            self.on_refused(reason)
            raise lost(reason)


def lost(reason: str) -> LeadershipLostError:
    return LeadershipLostError(
        f"this process no longer leads the store: {reason}",
        remedy="nothing that was recorded is lost; start this process again: a daemon stands by then",
    )


def _nothing(reason: str) -> None:
    pass
