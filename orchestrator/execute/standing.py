"""What a target's catalog answers before a plan is run on it. A revision that reads nothing else does the same to all
targets where this is equal."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.databases import fingerprint
from orchestrator.databases.base import Guard, Place
from orchestrator.databases.postgresql_questions import STANDING
from orchestrator.errors import TargetError
from orchestrator.execute.proving import ReadStanding, Standing
from orchestrator.plan.recorded import RecordedStep, Recording

SECONDS = 5.0
# What schemas that tenants share hold, as one value.
_OF_A_SCHEMA = """SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(line, E'\\n' ORDER BY line), ''))
    FROM ({}) AS lines (line, schema, relation, part)"""


def reader(place: Place, guard: Guard) -> ReadStanding | None:
    """What reads it; None where nothing is recorded. What cannot be read is None: the target goes online."""
    replayer, others = guard.replayer, place.target.search_path
    if replayer is None or place.url.get_backend_name() != "postgresql":
        return None

    async def read() -> Standing | None:
        try:
            ((*row, path),) = await guard.ask(STANDING, SECONDS)
            beside = [await guard.ask(_OF_A_SCHEMA.format(fingerprint.query(name)), SECONDS) for name in others]
            lines = await replayer.fingerprint()
        except TargetError:
            return None
        if place.target.schema is None:
            row.append(path)
        session = [f"session | {_unnamed(str(value), place.target.schema)}" for value in row]
        return (*lines, *session, *(f"beside | {rows[0][0]}" for rows in beside))

    return read


def question(place: Place) -> str | None:
    """What asks for the target's schema in lines, on a session of env.py's; None where nothing is recorded."""
    return fingerprint.query(place.target.schema) if place.url.get_backend_name() == "postgresql" else None


def named_alike(recording: Recording, place: Place) -> Recording:
    """What was recorded, with schemas as `Replayer.fingerprint` tells them."""
    target = place.target

    def named(step: RecordedStep) -> RecordedStep:
        if step.schema is None or target.search_path:  # what else is looked into is not among these lines
            return replace(step, schema=None)
        return replace(step, schema=fingerprint.normalised(list(step.schema), target.version_table, target.schema))

    return {revision: named(step) for revision, step in recording.items()}


def _unnamed(names: str, schema: str | None) -> str:
    """Names, one to a line, with the tenant's own schema under one name for all."""
    return " ".join("<schema>" if name == schema else name for name in names.split("\n"))
