"""Which version table a target has: the one that its track's env.py sets, else the registry's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import anyio
import anyio.to_thread
import structlog
from sqlalchemy.engine import URL

from orchestrator.errors import HistoryError
from orchestrator.history import findings
from orchestrator.history.findings import EnvPy
from orchestrator.history.library import Library
from orchestrator.history.revisions import History
from orchestrator.registry.model import Registry, Target, Track

log = structlog.get_logger(__name__)

# Reserved for ever for what is not there (RFC 6761): env.py is tried with a URL that leads to it.
NOWHERE = "nowhere.invalid"


class _Seen(NamedTuple):
    registry: str
    histories: tuple[str, ...]


class Settler:
    """Settles targets by the newest reading of each history; says once when env.py overrules the registry."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._told: dict[str, tuple[object, ...]] = {}
        self._checked: dict[str, tuple[_Seen, tuple[Target, Target] | None]] = {}

    def settled(self, target: Target) -> Target:
        """The target with the version table that env.py works on; as it is while its history has not been read."""
        history = self._library.known(target.track)
        return history.env_py.settled(target) if history is not None else target

    async def note(self, registry: Registry, history: History) -> None:
        """Take account of a history that was read. Raises HistoryError where two targets of one place would come to
        share a version table through what env.py sets."""
        track, env_py = history.track, history.env_py
        if not env_py.sets_version_table:
            return
        names = track.version_table, track.version_table_schema, env_py.version_table, env_py.version_table_schema
        if self._told.get(track.name) != names:
            self._told[track.name] = names
            _tell(track, env_py)
        seen = _Seen(registry.digest, tuple(self._digest(name) for name in registry.tracks))
        known = self._checked.get(track.name)
        if known is None or known[0] != seen:  # of 20,000 targets it takes a second
            clash = await anyio.to_thread.run_sync(shared, registry, self.settled, track.name)
            known = self._checked[track.name] = (seen, clash)
        if known[1] is not None:
            raise _clash(track, env_py, *known[1])

    def _digest(self, track: str) -> str:
        history = self._library.known(track)
        return history.digest if history is not None else ""


def shared(registry: Registry, settled: Callable[[Target], Target], track: str) -> tuple[Target, Target] | None:
    """Two targets, one of them of the track, that would work on one version table; None when there are none."""
    taken: dict[tuple[str, str], Target] = {}
    for target in registry.targets:
        found = settled(target)
        place = registry.place_of(found)
        if registry.shards[target.shard].dialect == "postgresql" and not (found.version_table_schema or found.schema):
            place = registry.place_of(replace(found, version_table_schema="public"))
        holder = taken.setdefault((target.shard, place), target)
        if holder is not target and track in (holder.track, target.track):
            return holder, target
    return None


def nowhere(url: URL) -> URL:
    """A URL of the same kind that leads to no database.

    >>> from sqlalchemy.engine import make_url
    >>> nowhere(make_url("postgresql://u:p@db/acme")).render_as_string()
    'postgresql://u@nowhere.invalid/acme'
    """
    if url.get_backend_name() == "sqlite":
        return url._replace(database=None)
    return url._replace(host=NOWHERE, port=None, password=None).set(query={})  # `set` takes None for "as it is"


def _tell(track: Track, env_py: EnvPy) -> None:
    table, schema = env_py.version_table, env_py.version_table_schema
    if table and (theirs := findings.written(table)) != track.version_table:
        log.warning("version_table_overruled", track=track.name, env_py=theirs, registry=track.version_table)
    if schema and (theirs := findings.written(schema)) != track.version_table_schema:
        log.warning(
            "version_table_schema_overruled", track=track.name, env_py=theirs, registry=track.version_table_schema
        )


def _clash(track: Track, env_py: EnvPy, one: Target, other: Target) -> HistoryError:
    name = findings.written(env_py.version_table or (track.version_table,))
    return HistoryError(
        f"{one.key} and {other.key} would share the version table {name!r} of one database, because env.py sets it",
        track=track.name,
        remedy="give them databases or schemas of their own, or let env.py set a name with the tenant in it "
        '(`context.get_x_argument(as_dictionary=True)["tenant"]`)',
    )
