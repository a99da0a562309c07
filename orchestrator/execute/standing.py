"""What a target's catalog answers, before a plan is run on it: who has the same is done the same to by a revision that
reads nothing else."""

from __future__ import annotations

from orchestrator.databases.base import Guard, Place
from orchestrator.databases.postgresql_questions import STANDING
from orchestrator.errors import TargetError
from orchestrator.execute.certify import ReadStanding, Standing

SECONDS = 5.0


def reader(place: Place, guard: Guard) -> ReadStanding | None:
    """What reads it; None where nothing is recorded. What cannot be read is None: the target goes online."""
    replayer = guard.replayer
    if replayer is None or place.url.get_backend_name() != "postgresql":
        return None

    async def read() -> Standing | None:
        try:
            (row,) = await guard.ask(STANDING, SECONDS)
            lines = await replayer.fingerprint()
        except TargetError:
            return None
        return (*lines, *(f"session | {_unnamed(str(value), place.target.schema)}" for value in row))

    return read


def _unnamed(names: str, schema: str | None) -> str:
    """Names, one to a line, with the tenant's own schema under one name for all."""
    return " ".join("<schema>" if name == schema else name for name in names.split("\n"))
