"""What reading a target's catalog has in common for all kinds of databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.backfill.naming import checkpoints_of
from orchestrator.databases.base import Place
from orchestrator.errors import TargetLockedError, TargetUnreachableError
from orchestrator.plan import catalog as catalogs
from orchestrator.plan.catalog import Catalog, Line
from orchestrator.registry.model import Heads

# A catalog of 10,000 tables takes some seconds.
LONGEST_SECONDS = 120.0

# The heads that a target claims to be at, and those of the other targets in its place by track.
Claimed = tuple[Heads | None, tuple[tuple[str, Heads], ...]]


def tables_of(place: Place, beside: Sequence[Place]) -> Mapping[str, str]:
    """The tables in which Alembic and we keep what was run, by name, with a name that is the same for all tenants."""
    found = {}
    for one in (*beside, place):
        known = "<version table>" if one is place else f"<version table of {one.target.track}>"
        found[checkpoints_of(one.target.version_table)] = f"{known[:-1]}'s backfills>"
        found[one.target.version_table] = known
    return found


def names_of(place: Place) -> tuple[str, ...]:
    """What the tenant is called: its id, its database and its schema."""
    target = place.target
    return tuple(filter(None, (target.tenant, target.database, target.schema)))


def catalog(
    place: Place, server: str, before: Claimed, after: Claimed, lines: Iterable[Line], tables: Mapping[str, str]
) -> Catalog:
    """What was read, without the tables that keep what was run. It takes half a second for 10,000 tables, so it is done
    beside the event loop. Raises TargetLockedError when the heads have changed meanwhile: the lines may be of a schema
    that is half done."""
    if before != after:
        raise changing(place, "its version table has changed while its schema was read")
    return catalogs.read((line for line in lines if line.relation not in tables), server, before[0], before[1])


def known(line: Line, tables: Mapping[str, str]) -> str:
    """The line's text, with a table that keeps what was run under the name that is the same for all tenants."""
    if (name := tables.get(line.relation)) is None:
        return line.text
    return line.text.replace(line.relation, name).replace(line.relation.lower(), name)


def changing(place: Place, why: str) -> TargetLockedError:
    return TargetLockedError(
        f"the schema of {place.target.key} in {place.name} cannot be compared: {why}",
        kind="migrating",
        remedy="look again when its migration has ended",
        retriable=True,
    )


def too_slow(place: Place, seconds: float) -> TargetUnreachableError:
    """Of this target alone: its server answers, and those of others are read on."""
    return TargetUnreachableError(
        f"the schema of {place.target.key} in {place.name} could not be read within {seconds:g} s",
        kind="slow",
        remedy="look when the server has less to do",
        retriable=True,
    )
