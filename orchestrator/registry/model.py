"""The registry as values: what the rest of the program knows of tenants, shards and tracks.

Built by `registry.manifest` from the file; nothing here reads a file, the environment or a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy.engine import URL

from orchestrator.registry.backfills import Rules
from orchestrator.registry.channels import Channel
from orchestrator.registry.drifts import Drift
from orchestrator.registry.findings import Findings
from orchestrator.registry.precautions import Backup, Verification
from orchestrator.registry.times import Schedule, Window

Isolation = Literal["thread", "process"]
Execution = Literal["auto", "replay", "online"]
Unprovisioned = Literal["migrate", "skip", "fail"]
NewTenants = Literal["ignore", "append"]
Reaction = Literal["pause", "abort", "rollback"]
Question = Literal["databases", "schemas", "query", "files", "url"]
Probe = Literal["sql", "promql", "http"]

# What a target's version table holds: revisions, in order of their names.
Heads = tuple[str, ...]

# The source of the targets that the registry file names.
FILE = "file"

# SQLAlchemy's names, and those of our URLs, for one kind of database.
MYSQL_DIALECTS = ("mysql", "mariadb")


class TargetKey(NamedTuple):
    """Names a target: unique in a registry, stable over reloads."""

    tenant: str
    track: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.track}"


@dataclass(frozen=True, slots=True)
class Track:
    """One Alembic migration history and how its targets are to be treated.

    Exactly one of `script_location` and `config` is set; both are absolute paths. `environment` values may hold
    the placeholders of `Registry.placeholders`, and secrets: they are left out of the repr.
    """

    name: str
    script_location: Path | None = None
    config: Path | None = None
    section: str = "alembic"
    version_table: str = "alembic_version"
    version_table_schema: str | None = None
    goal: str = "head"
    isolation: Isolation = "thread"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    execution: Execution = "online"
    certify: int = 2
    driver: str | None = None
    unprovisioned: Unprovisioned = "migrate"
    adopt: str | None = None
    search_path: tuple[str, ...] = ()
    verify: tuple[Verification, ...] = ()
    drift: Drift = field(default_factory=Drift)
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class Shard:
    """A database server that hosts tenants. The URLs carry secrets, and are left out of the repr.

    `url` says where applications find it, and names it. `direct_url` leads past what stands in between, a connection
    pooler most of all. `max_per_database`: targets of one database at once, None: as many as of the shard.
    `reserve_connections` are left to applications, also of a database with a limit of its own. `backfill`: how
    backfills on it are throttled.
    """

    name: str
    url: URL = field(repr=False)
    max_concurrent: int = 8
    labels: Mapping[str, str] = field(default_factory=dict)
    max_per_database: int | None = None
    reserve_connections: int = 5
    direct_url: URL | None = field(default=None, repr=False)
    backfill: Rules = field(default_factory=Rules)

    @property
    def migration_url(self) -> URL:
        """Where whoever migrates, looks or asks for tenants connects."""
        return self.url if self.direct_url is None else self.direct_url

    @property
    def dialect(self) -> str:
        """`postgresql`, `mysql`, `mariadb` or `sqlite`."""
        return self.url.get_backend_name()


@dataclass(frozen=True, slots=True)
class Target:
    """(tenant, track) at its place: the unit that is migrated. `labels` holds the tenant's over the shard's.

    `search_path`: schemas that are looked into after the tenant's own. `create_schema`: make the schema where there is
    none. `adopt`: the revision at which a database with tables but without a version table is taken to be. `source`:
    who names it, `file` or a `Discovery`.
    """

    tenant: str
    track: str
    shard: str
    database: str
    schema: str | None = None
    version_table: str = "alembic_version"
    version_table_schema: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    create_schema: bool = False
    search_path: tuple[str, ...] = ()
    adopt: str | None = None
    source: str = FILE

    @property
    def key(self) -> TargetKey:
        return TargetKey(self.tenant, self.track)

    @property
    def alembic_schema(self) -> str | None:
        """The version table's schema as Alembic is to be told it. A tenant's own need not be told, unless others are in
        the search path, where Alembic would take another's version table for the tenant's."""
        return self.version_table_schema or (self.schema if self.search_path else None)


@dataclass(frozen=True, slots=True)
class Discovery:
    """A source of tenants that is asked at run time, and what its tenants have in common.

    `question` says how: `text` is a pattern of names, an SQL query, a glob, or a URL. It may hold secrets, as `token`
    does: they are left out of the repr. `pattern` finds the tenant's id in a name.
    """

    name: str
    question: Question
    text: str = field(repr=False)
    shard: str | None = None
    database: str | None = None
    track: str | None = None
    pattern: str | None = None
    token: str | None = field(default=None, repr=False)
    exclude: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    create_schema: bool = False
    adopt: str | None = None
    refresh_seconds: float = 60.0

    @property
    def asked(self) -> tuple[str | None, ...]:
        """Whom it asks for what: while this stays, earlier answers are of use."""
        return self.name, self.question, self.shard, self.database


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many targets of a wave may fail before the rollout reacts; what is not set never stops it.

    Exceeded means *more than* `count`, or more than `percent` of the wave's targets; or so many as `consecutive` that
    failed one after the other; or so many as `same_signature` that failed in the same way.
    """

    count: int | None = None
    percent: float | None = None
    then: Reaction = "pause"
    consecutive: int | None = None
    same_signature: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold after a wave before the rollout goes on. Asked again every so often until it does.

    `probe` says how: `text` is SQL, PromQL or a URL. SQL is asked of a database of `shard`; where there is none, of the
    wave's own targets: those of `track`, and of them `sample` tenants. What comes back must be true, or within `least`
    and `most`, or be `equals`. `url` is the Prometheus server; what must hold there does so for `for_seconds`. URLs may
    hold secrets, as `token` and `password` do: they are left out of the repr.
    """

    name: str
    probe: Probe
    text: str = field(repr=False)
    shard: str | None = None
    database: str | None = None
    schema: str | None = None
    sample: int | None = None
    track: str | None = None
    least: float | None = None
    most: float | None = None
    equals: str | None = None
    url: str | None = field(default=None, repr=False)
    empty_passes: bool = False
    for_seconds: float = 0.0
    status: int = 200
    contains: str | None = None
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    every_seconds: float = 15.0
    deadline_seconds: float = 300.0
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Wave:
    """An ordered part of a rollout, and the gate after it: what must hold before the next wave begins.

    It takes the targets that `select` chooses of those which no earlier wave took, and of these `count` tenants, or
    `percent` of the rollout's; with none of the three, all that are left. `optional`: it may come out empty.
    `soak_seconds` are waited after its last target, then `checks` must pass, then a person must approve if `approval`.
    `backup`: how each target is backed up before it is changed, the strategy's where the wave has none of its own.
    """

    name: str
    select: str = ""
    count: int | None = None
    percent: float | None = None
    optional: bool = False
    max_concurrent: int | None = None
    on_failure: FailureBudget = field(default_factory=FailureBudget)
    soak_seconds: float = 0.0
    approval: bool = False
    checks: tuple[Check, ...] = ()
    backup: Backup | None = None


EVERYONE = Wave("everyone")


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a rollout goes over its targets, and what it does with targets that appear while it runs.

    The last wave takes all targets that are left. `order`: labels or built-in keys by which targets are ordered within
    a wave, `-key` for descending. `approval`: a person must approve before the first wave. `four_eyes`: who approves
    must not be who started it.
    """

    name: str
    max_concurrent: int | None = None
    waves: tuple[Wave, ...] = (EVERYONE,)
    order: tuple[str, ...] = ()
    approval: bool = False
    four_eyes: bool = False
    new_tenants: NewTenants = "ignore"


DEFAULT_STRATEGY = Strategy("default")


@dataclass(frozen=True)
class Registry:
    """Everything that is known about the fleet, at one moment. Compared by `digest`.

    `unanswered` names the discoveries that have not answered yet: which tenants they have is not known.
    """

    source: Path
    digest: str
    tracks: Mapping[str, Track]
    shards: Mapping[str, Shard]
    targets: tuple[Target, ...]
    strategies: Mapping[str, Strategy] = field(default_factory=dict)
    discoveries: tuple[Discovery, ...] = ()
    unanswered: tuple[str, ...] = ()
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()

    @cached_property
    def by_key(self) -> Mapping[TargetKey, Target]:
        return {target.key: target for target in self.targets}

    def url_for(self, target: Target, driver: str | None = None) -> URL:
        """Where `target` is, with its password; `driver` (`asyncpg`, `psycopg`) replaces the one in the shard's URL."""
        shard = self.shards[target.shard]
        if shard.dialect == "sqlite":
            folder = self.source.parent / (shard.url.database or "")
            url = shard.url.set(database=str((folder / target.database).resolve()))
        else:
            url = shard.migration_url.set(database=target.database)
        return url.set(drivername=f"{shard.dialect}+{driver}") if driver else url

    @cached_property
    def _by_place(self) -> Mapping[tuple[str, str], Mapping[str | None, Sequence[Target]]]:
        """By shard and database, then by schema."""
        found: dict[tuple[str, str], dict[str | None, list[Target]]] = {}
        for target in self.targets:
            found.setdefault((target.shard, target.database), {}).setdefault(target.schema, []).append(target)
        return found

    def beside(self, target: Target) -> Sequence[Target]:
        """The other targets in the same database and schema."""
        here = self._by_place.get((target.shard, target.database), {}).get(target.schema, ())
        return [other for other in here if other.key != target.key]

    def schemas_of(self, target: Target) -> Sequence[str]:
        """The schemas of all targets in the same database."""
        return [schema for schema in self._by_place.get((target.shard, target.database), {}) if schema is not None]

    def kind_of(self, target: Target) -> tuple[str, bool]:
        """What all targets that share compiled SQL have in common, and its proof, which compares schemas: the kind of
        database, and whether each has a schema of its own in it."""
        return self.shards[target.shard].dialect, target.schema is not None

    def place_of(self, target: Target, *, pooled: bool = False) -> str:
        """Server, database, schema and version table of a target in one line, without user or password: by the way that
        migrations take, or by `url` where that is `pooled`. A `direct_url` that is added or changed leads elsewhere, as
        far as anybody knows."""
        shard = self.shards[target.shard]
        url, named = self.url_for(target), shard.url if pooled else shard.migration_url
        server = f"{named.host or ''}{f':{named.port}' if named.port else ''}"
        table = ".".join(filter(None, (target.version_table_schema or target.schema, target.version_table)))
        return f"{self.shards[target.shard].dialect}://{server}/{url.database} {table}"

    def placeholders(self, target: Target, url: URL) -> Mapping[str, str]:
        """What `{url}`, `{tenant}`, … stand for in a track's `environment`."""
        return {
            "url": url.render_as_string(hide_password=False),
            "tenant": target.tenant,
            "track": target.track,
            "shard": target.shard,
            "database": url.database or "",
            "schema": target.schema or "",
        }
