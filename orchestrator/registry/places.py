"""From the file's `tenants` to targets, each at a place of its own."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from orchestrator.registry.document import Where
from orchestrator.registry.forms import PlaceForm, TenantForm
from orchestrator.registry.model import FILE, MYSQL_DIALECTS, Shard, Target, Track
from orchestrator.registry.report import Report

LONGEST_IDENTIFIER_BYTES = 63
LONGEST_IDENTIFIER_CHARACTERS = 64  # of MySQL and MariaDB


class Wish(NamedTuple):
    """One place a tenant asks for: `where` is the mapping that holds it, `track_where` what names the track."""

    tenant: str
    labels: Mapping[str, str]
    track: str
    track_where: Where
    where: Where
    shard: str
    database: str
    schema: str | None
    create: bool
    adopt: str | None
    source: str = FILE


class Complaints(Protocol):
    """Takes what is wrong with a wish: `registry.report.Report`, or what stands for it where no file is at fault."""

    def at(self, where: Where, *messages: str, key: bool = False) -> None: ...

    def unknown(self, where: Where, noun: str, name: str, known: Collection[str], *, key: bool = False) -> None: ...


@dataclass
class Checks:
    """Turns single wishes into targets.

    `track_names` and `shard_names` also hold those whose own entries are wrong; None when the section is missing.
    """

    complaints: Complaints
    tracks: Mapping[str, Track]
    shards: Mapping[str, Shard]
    track_names: Collection[str] | None
    shard_names: Collection[str] | None

    def target(self, wish: Wish) -> Target | None:
        """The target that is asked for; what is wrong with it goes to the complaints. None: none can be made."""
        if self.track_names is not None and wish.track not in self.track_names:
            key = wish.track_where[-2:-1] == ("databases",)
            self.complaints.unknown(wish.track_where, "track", wish.track, self.track_names, key=key)
        if self.shard_names is not None and wish.shard not in self.shard_names:
            self.complaints.unknown((*wish.where, "shard"), "shard", wish.shard, self.shard_names)
        track, shard = self.tracks.get(wish.track), self.shards.get(wish.shard)
        if track is None or shard is None or not self._database_is_possible(wish, shard):
            return None
        self._check_schema(wish, shard)
        target = _placed(wish, track, shard)
        self._check_identifiers(target, track, shard, wish)
        return target

    def _database_is_possible(self, wish: Wish, shard: Shard) -> bool:
        where = (*wish.where, "database")
        if shard.dialect == "sqlite":
            if not is_inside(wish.database):
                self.complaints.at(where, "this must be a file in the shard's folder")
                return False
        elif longest := _too_long(wish.database, shard):
            self.complaints.at(where, f"a database's name must not be longer than {longest}")
            return False
        return True

    def _check_schema(self, wish: Wish, shard: Shard) -> None:
        where = (*wish.where, "schema")
        if wish.schema is None:
            if wish.create:
                self.complaints.at(
                    (*wish.where, "create"), "`create` makes a schema, and no `schema` is given", key=True
                )
        elif shard.dialect != "postgresql":
            self.complaints.at(where, f"{shard.dialect} has no schemas within a database: name a database", key=True)
        elif len(wish.schema.encode()) > LONGEST_IDENTIFIER_BYTES:
            self.complaints.at(where, f"a schema's name must not be longer than {LONGEST_IDENTIFIER_BYTES} bytes")
        elif wish.schema.startswith("pg_") or wish.schema == "information_schema":
            self.complaints.at(where, "this schema is the server's own")

    def _check_identifiers(self, target: Target, track: Track, shard: Shard, wish: Wish) -> None:
        for key in ("version_table", "version_table_schema"):
            name, template = getattr(target, key) or "", getattr(track, key) or ""
            if longest := _too_long(name, shard):
                where: Where = ("tracks", track.name, key) if name == template else (*wish.where, "database")
                self.complaints.at(
                    where,
                    f"the `{key}` of track {track.name!r} becomes {name!r}, which is longer than "
                    f"{longest}: shorten it, or the tenant's id",
                )


@dataclass
class Places:
    """Gives the file's tenants their targets."""

    report: Report
    checks: Checks
    taken: dict[tuple[str, ...], tuple[Target, Where]] = field(default_factory=dict)

    def targets(self, tenants: Mapping[int, TenantForm]) -> tuple[Target, ...]:
        """Return the targets of the tenants, by index in the file; the report gets what is wrong with the rest."""
        first: dict[str, int] = {}
        targets: list[Target] = []
        for index, tenant in tenants.items():
            where: Where = ("tenants", index)
            if first.setdefault(tenant.id, index) != index:
                line = self.report.line(("tenants", first[tenant.id], "id"))
                self.report.at((*where, "id"), f"the tenant {tenant.id!r} is listed twice, first in line {line}")
            else:
                targets += [target for wish in self._wishes(where, tenant) if (target := self._target(wish))]
        return tuple(targets)

    def _wishes(self, where: Where, tenant: TenantForm) -> Iterator[Wish]:
        if tenant.databases is None:
            yield from self._short_form(where, tenant)
            return
        for key in ("shard", "database", "schema", "create", "adopt", "track"):
            if getattr(tenant, "schema_" if key == "schema" else key):
                self.report.at((*where, key), f"`{key}` belongs into the entries of `databases`", key=True)
        if not tenant.databases:
            self.report.at((*where, "databases"), "name at least one track here: a tenant without one is left out")
        for track, place in tenant.databases.items():
            yield self._listed(tenant, track, place, (*where, "databases", track))

    def _listed(self, tenant: TenantForm, track: str, place: PlaceForm, where: Where) -> Wish:
        return _wish(tenant, track, where, where, place, place.shard, place.database)

    def _short_form(self, where: Where, tenant: TenantForm) -> Iterator[Wish]:
        missing = [key for key in ("shard", "database") if getattr(tenant, key) is None]
        if len(missing) == 2:
            self.report.at(where, "`shard` and `database` are missing (or `databases`, with a place per track)")
        elif missing:
            self.report.at(where, f"`{missing[0]}` is missing")
        track = self._only_track(where, tenant)
        if tenant.shard is not None and tenant.database is not None and track is not None:
            yield _wish(tenant, track, (*where, "track"), where, tenant, tenant.shard, tenant.database)

    def _only_track(self, where: Where, tenant: TenantForm) -> str | None:
        names = self.checks.track_names
        if tenant.track is not None:
            return tenant.track
        if names is not None and len(names) == 1:
            return next(iter(names))
        if names:
            self.report.at(
                where,
                f"there are several tracks ({', '.join(sorted(names))}): say which with `track:`, or list them under "
                "`databases:`",
            )
        return None

    def _target(self, wish: Wish) -> Target | None:
        target = self.checks.target(wish)
        if target is not None:
            self._take(target, wish)
        return target

    def _take(self, target: Target, wish: Wish) -> None:
        where = (*wish.where, "database")
        place = identity(target, self.checks.shards[target.shard])
        holder, held_where = self.taken.setdefault(place, (target, where))
        if holder is not target:
            self.report.at(
                where,
                f"{target.key} would share its version table with {holder.key} (line {self.report.line(held_where)}): "
                "give it its own database or schema, or a `version_table` with {tenant} or {track} in it",
            )


def _wish(
    tenant: TenantForm,
    track: str,
    track_where: Where,
    where: Where,
    place: PlaceForm | TenantForm,
    shard: str,
    database: str,
) -> Wish:
    schema, create, adopt = place.schema_, place.create, place.adopt
    return Wish(tenant.id, tenant.labels, track, track_where, where, shard, database, schema, create, adopt)


def _placed(wish: Wish, track: Track, shard: Shard) -> Target:
    names = {"tenant": wish.tenant, "track": wish.track}
    schema = track.version_table_schema
    return Target(
        wish.tenant,
        wish.track,
        wish.shard,
        wish.database,
        version_table=track.version_table.format_map(names),
        version_table_schema=schema.format_map(names) if schema else None,
        schema=wish.schema,
        labels={**shard.labels, **wish.labels},
        create_schema=wish.create,
        search_path=track.search_path if wish.schema is not None else (),
        adopt=wish.adopt or track.adopt,
        source=wish.source,
    )


def is_inside(file: str) -> bool:
    """Whether a path leads to something in the folder it starts from."""
    name = posixpath.normpath(file)
    return not name.startswith(("/", "../")) and name not in (".", "..")


def _too_long(name: str, shard: Shard) -> str | None:
    """How long a name may be on the shard, in words, where this one is longer."""
    if shard.dialect in MYSQL_DIALECTS:
        return f"{LONGEST_IDENTIFIER_CHARACTERS} characters" if len(name) > LONGEST_IDENTIFIER_CHARACTERS else None
    return f"{LONGEST_IDENTIFIER_BYTES} bytes" if len(name.encode()) > LONGEST_IDENTIFIER_BYTES else None


def identity(target: Target, shard: Shard) -> tuple[str, ...]:
    """What must differ between any two targets. An unnamed schema is PostgreSQL's usual one."""
    if shard.dialect == "sqlite":
        table, schema = target.version_table.lower(), (target.version_table_schema or "main").lower()
        return target.shard, posixpath.normpath(target.database), schema, table
    if shard.dialect in MYSQL_DIALECTS:  # whose schemas are databases
        return target.shard, target.version_table_schema or target.database, target.version_table
    schema = target.version_table_schema or target.schema or "public"
    return target.shard, target.database, schema, target.version_table
