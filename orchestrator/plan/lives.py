"""Tables that come and go, as all servers spell it. Pure."""

from __future__ import annotations

from orchestrator.plan.locks import Command
from orchestrator.plan.tokens import Reader


def made(it: Reader) -> Command:
    """After CREATE TABLE, up to the name."""
    if it.takes("if", "not", "exists"):
        return Command(provides=(it.table(),))
    return Command(creates=(it.table(),))


def dropped(it: Reader) -> Command:
    """After DROP, of servers whose locks are not told of."""
    it.takes("temporary")
    if not it.takes("table"):
        return Command()
    it.takes("if", "exists")
    return Command(drops=tuple(it.tables()))
