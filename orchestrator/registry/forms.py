"""The syntax of the registry file: one form per kind of entry, and the JSON Schema that editors use.

Forms hold what is written, checked entry by entry; what entries mean together is for `places` and `shards`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, WrapValidator

from orchestrator.registry import secrets
from orchestrator.registry.channels import NoticeKind
from orchestrator.registry.drifts import EVERY_SECONDS
from orchestrator.registry.findings import LARGE, RULES, Linting, Wanted
from orchestrator.registry.model import Execution, Isolation, NewTenants, Reaction, Unprovisioned
from orchestrator.registry.precautions import May
from orchestrator.registry.report import suggestion
from orchestrator.registry.selector import BUILT_IN_KEYS, KEY

LONGEST_NAME = 200

# With surrogates, which stand in file names and JSON for what is no text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LIMIT = re.compile(r"(?P<count>\d{1,9})|(?P<percent>\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_DURATION = re.compile(r"(?P<number>\d{1,6}(?:\.\d{1,3})?)(?P<unit>[smhd]?)", re.ASCII)
_WRITTEN = r"^[0-9]+(\.[0-9]+)?[smhd]?$"
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
_SCHEMA = "The tenant's schema in that database (PostgreSQL; on MySQL a schema is a database)."
_CREATE = "Make the schema where there is none."
_ADOPT = "Taken to be at this revision when it has tables but no version table; over the track's `adopt`."


def filled(text: str) -> str:
    """Check a text of which something must be left when it is printed. Raises ValueError."""
    if not text.strip():
        raise ValueError("this must not be empty")
    if _CONTROL.search(text):
        raise ValueError("this must not hold control characters")
    return text


def name(text: str) -> str:
    """Check the name of a tenant, track, shard, strategy, … as it is written in the file. Raises ValueError."""
    return plain_name(secrets.plain(text))


def plain_name(text: str) -> str:
    """As `name`, for one that somebody else gave. Raises ValueError."""
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a name must not be longer than {LONGEST_NAME} characters")
    return filled(text)


def limit(text: str) -> tuple[int | None, float | None]:
    """Read `2` or `2%` as (count, percent), one of them None. Raises ValueError."""
    match = _LIMIT.fullmatch(text)
    if match is None or float(match["percent"] or 0) > 100:
        raise ValueError("this must be a count such as 2 or a percentage such as 2%, of at most 100%")
    return (int(match["count"]), None) if match["count"] else (None, float(match["percent"]))


def _checked_limit(text: str) -> str:
    limit(text)
    return text


def _seconds(value: Any) -> Any:
    seconds = _duration(value)
    if seconds is None or seconds < 1:
        raise ValueError("this must be a duration of at least 1s, such as 30s, 5m or 1h")
    return seconds


def _soak(value: Any) -> Any:
    seconds = _duration(value)
    if seconds is None:
        raise ValueError("this must be a duration such as 30s, 10m or 1h")
    return seconds


def _interval(value: Any) -> Any:
    seconds = 0.0 if value == "never" else _duration(value)
    if seconds is None or 0 < seconds < 1:
        raise ValueError("this must be a duration of at least 1s, such as 30m or 6h, or `never`")
    return seconds


def _duration(value: Any) -> float | None:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match["number"]) * _UNIT_SECONDS[match["unit"]] if match else None


def label_key(text: str) -> str:
    """Check the key of a label. Raises ValueError."""
    if not KEY.fullmatch(text):
        raise ValueError("a label's key must begin with a letter or digit, and hold only these and _ . / -")
    if text in BUILT_IN_KEYS:
        raise ValueError(f"{text!r} is a built-in key of selectors: name the label otherwise")
    return text


def _statement(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("this must not be empty")
    return text


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def none_is_no_list(value: Any) -> Any:
    """A key without a value stands for an empty list."""
    return [] if value is None else value


def _boolean(value: Any) -> Any:
    if value not in ("true", "false"):
        raise ValueError("this must be true or false")
    return value == "true"


Text = Annotated[str, AfterValidator(secrets.plain), _SCALAR]
Name = Annotated[str, AfterValidator(name), _SCALAR]
Filled = Annotated[str, AfterValidator(secrets.plain), AfterValidator(filled), _SCALAR]
Query = Annotated[str, AfterValidator(secrets.plain), AfterValidator(_statement)]
WithReferences = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1})]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Count = Annotated[int, Field(ge=1, le=100_000)]
SoakSeconds = Annotated[
    float, BeforeValidator(_soak), WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": _WRITTEN})
]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "pattern": _WRITTEN}),
]
Interval = Annotated[
    float,
    BeforeValidator(_interval),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": rf"{_WRITTEN}|^never$"}),
]
Bound = Annotated[float, Field(allow_inf_nan=False)]
Limit = Annotated[
    str,
    AfterValidator(_checked_limit),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]+(\.[0-9]+)?%?$"}),
]
Labels = Annotated[dict[Annotated[str, AfterValidator(label_key)], Text], BeforeValidator(_nothing_is_empty)]


class Form(BaseModel):
    """An entry. One that is wrong elsewhere than in its required or `decisive` keys is still checked further."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    decisive: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def stands_without(cls, keys: set[str]) -> bool:
        """Tell whether the other checks can do without these keys of the entry."""
        required = {info.alias or name for name, info in cls.model_fields.items() if info.is_required()}
        return not keys & (cls.decisive | required)


class VerifyForm(Form):
    """What must hold on a target after its migration: either `sql`, or `rows` that are counted before and after."""

    model_config = ConfigDict(title="Verification")

    name: Filled | None = Field(None, description="What messages call it.")
    sql: Query | None = Field(None, description="SQL that gives one row; it is run in a transaction that reads only.")
    expect: Text | None = Field(None, description="What the row's first value must be; true when left out.")
    rows: Filled | None = Field(None, description="A table, `orders` or `sales.orders`, that is counted.")
    may: May | None = Field(None, description="What its rows may do: `grow` when left out, or `shrink`, or `stay`.")
    within: Limit | None = Field(None, description="How far against `may`: a count, or a percentage such as 1%.")
    revision: Filled | None = Field(None, description="Only where this revision was among those that were run.")
    timeout: Seconds = Field(60.0, description="How long it may take, such as 30s or 5m.")


class DriftForm(Form):
    """How the schemas of the track's targets are compared with each other."""

    model_config = ConfigDict(title="Drift")

    ignore: Annotated[list[Filled], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list,
        description="Globs of names that do not count: `tmp_*`, `public.events_2*`, `orders.note`.",
    )
    every: Interval = Field(EVERY_SECONDS, description="How often the daemon looks, such as 6h; `never` turns it off.")


def _rule(text: str) -> str:
    if text not in RULES:
        raise ValueError(f"unknown rule {text!r}{suggestion(text, RULES)}")
    return text


def _name_rules(schema: dict[str, Any]) -> None:
    schema["propertyNames"] = {"enum": sorted(RULES)}


Rules = dict[Annotated[str, AfterValidator(_rule)], Wanted]


class FindingsForm(Form):
    """What is said of the statements of a plan, before they run."""

    model_config = ConfigDict(title="Findings")

    rules: Annotated[Rules, BeforeValidator(_nothing_is_empty)] = Field(
        default_factory=dict,
        description="How bad a rule is held to be: error, warning, info, or off.",
        json_schema_extra=_name_rules,
    )
    large: Annotated[int, Field(ge=0, le=10**15)] = Field(
        LARGE, description="Rows from which a table is large, on the largest of the tenants that are asked."
    )
    squawk: Linting = Field(
        "auto",
        description="`auto` asks squawk where it is installed, `required` makes it an error that it cannot be asked.",
    )
    render: Boolean = Field(
        False,
        description="With `execution: online`: render the revisions to SQL to look at it, which runs their bodies.",
    )


class TrackForm(Form):
    """One Alembic migration history. Give `script_location` or `config`, not both."""

    model_config = ConfigDict(title="Track")
    decisive = frozenset({"script_location", "config", "isolation"})

    script_location: WithReferences | None = Field(
        None, description="The folder with env.py, relative to this file, or `package:folder`."
    )
    config: WithReferences | None = Field(
        None, description="An alembic.ini or pyproject.toml to take everything from, relative to this file."
    )
    section: Filled | None = Field(None, description="The section of `config` to read; `alembic` when left out.")
    version_table: Filled = Field(
        "alembic_version",
        description="Where the heads are kept, unless env.py sets a table itself; may use {tenant} and {track}.",
    )
    version_table_schema: Filled | None = Field(
        None, description="The version table's schema, when it is not the default one; may use {tenant} and {track}."
    )
    goal: Filled = Field("head", description="The revision rollouts aim at when none is given.")
    isolation: Isolation = Field(
        "thread", description="`process` for an env.py that reads environment variables or schedules on a loop."
    )
    environment: Annotated[dict[str, WithReferences], BeforeValidator(_nothing_is_empty)] = Field(
        default_factory=dict,
        description="Variables for the worker process, with {url}, {tenant}, {track}, {shard}, {database}, {schema}.",
    )
    execution: Execution = Field(
        "online",
        description="`auto` proves on the first targets that compiled SQL does what env.py does, and replays it on the "
        "others. `online` always runs env.py. `replay` trusts the SQL without that proof. What "
        "cannot be compiled is run by env.py.",
    )
    certify: Count = Field(2, description="How many targets of a plan run online before one is replayed to compare.")
    driver: Filled | None = Field(
        None, description="The SQLAlchemy driver that env.py is to be given: asyncpg, psycopg, psycopg2, pg8000, …"
    )
    search_path: Annotated[list[Name], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list,
        description="Schemas looked into after a tenant's own, for the types and functions of extensions, say.",
    )
    unprovisioned: Unprovisioned = Field(
        "migrate",
        description="What becomes of a target without a version table: `migrate` brings an empty one to the goal.",
    )
    adopt: Filled | None = Field(
        None, description="The revision at which databases with tables but without a version table are taken to be."
    )
    verify: Annotated[list[VerifyForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="What must hold on each target after its migration."
    )
    drift: DriftForm | None = Field(None, description="How its targets are compared with each other.")
    findings: FindingsForm | None = Field(None, description="What is said of its statements before they run.")


class ShardForm(Form):
    """A database server, or for SQLite a folder, that hosts tenants."""

    model_config = ConfigDict(title="Shard")

    url: WithReferences = Field(
        description="`postgresql://user:${PASSWORD}@host:5432` or `mysql://user:${PASSWORD}@host:3306` (`mariadb://` "
        "as well), without a database; or `sqlite:///folder`."
    )
    direct_url: WithReferences | None = Field(
        None,
        description="The way to the server itself, where `url` leads to a connection pooler such as PgBouncer: what "
        "migrates, looks or discovers takes it.",
    )
    max_concurrent: Count = Field(8, description="How many of its targets are migrated at once.")
    max_per_database: Count | None = Field(
        None, description="How many targets of one database are migrated at once, where several share it."
    )
    reserve_connections: Annotated[int, Field(ge=0, le=100_000)] = Field(
        5, description="Connections that migrations leave to applications: fewer run at once when the server fills up."
    )
    labels: Labels = Field(default_factory=dict, description="Given to every tenant here; a tenant's own come first.")


class PlaceForm(Form):
    """Where one track of a tenant lives."""

    model_config = ConfigDict(title="Place")

    shard: Name
    database: Filled = Field(description="The database's name; for SQLite a file in the shard's folder.")
    schema_: Filled | None = Field(None, alias="schema", description=_SCHEMA)
    create: Boolean = Field(False, description=_CREATE)
    adopt: Filled | None = Field(None, description=_ADOPT)


class TenantForm(Form):
    """A customer: either `shard` and `database`, or `databases` with one place per track."""

    model_config = ConfigDict(title="Tenant")
    decisive = frozenset({"shard", "database", "track", "databases"})

    id: Name
    labels: Labels = Field(default_factory=dict, description="What selectors choose by.")
    shard: Name | None = None
    database: Filled | None = Field(None, description="The database's name; for SQLite a file in the shard's folder.")
    schema_: Filled | None = Field(None, alias="schema", description=_SCHEMA)
    create: Boolean = Field(False, description=_CREATE)
    adopt: Filled | None = Field(None, description=_ADOPT)
    track: Name | None = Field(None, description="Needed when there are several tracks.")
    databases: dict[Name, PlaceForm] | None = Field(None, description="One place per track.")


class DiscoverForm(Form):
    """Tenants found at run time: one of `databases`, `schemas`, `query`, `files` and `url`."""

    model_config = ConfigDict(title="Discovery")
    decisive = frozenset({"shard", "database", "track", "databases", "schemas", "query", "files", "url"})

    name: Name | None = Field(None, description="What the source is called; made of the other keys when left out.")
    shard: Name | None = Field(None, description="Where to ask, and where the tenants are unless rows say otherwise.")
    database: Filled | None = Field(None, description="Whose schemas are meant, or where the query is run.")
    databases: Filled | None = Field(None, description="A pattern of whole database names, with a group `tenant`.")
    schemas: Filled | None = Field(None, description="A pattern of whole schema names, with a group `tenant`.")
    query: Query | None = Field(
        None,
        description="SQL whose rows are tenants: columns tenant, shard, database, schema, track; others are labels.",
    )
    files: Filled | None = Field(None, description="A glob of SQLite files in the shard's folder.")
    pattern: Filled | None = Field(
        None, description="With `files`: a pattern of whole file names, with a group `tenant`; else the name's stem."
    )
    url: WithReferences | None = Field(
        None,
        description="An HTTP endpoint that answers with a JSON list of objects: tenant, shard, database, schema, "
        "track, labels.",
    )
    token: WithReferences | None = Field(
        None, description="With `url`: sent as bearer token; by reference only, such as ${TOKEN}."
    )
    track: Name | None = Field(None, description="Needed when there are several tracks, unless rows name theirs.")
    labels: Labels = Field(default_factory=dict, description="Given to each tenant that is found; its own come first.")
    exclude: list[Filled] = Field(
        default_factory=list, description="Globs of tenants, databases and schemas that are left out."
    )
    create: Boolean = Field(False, description=_CREATE)
    adopt: Filled | None = Field(None, description=_ADOPT)
    refresh: Seconds = Field(60.0, description="How often the daemon asks, such as 30s, 5m or 1h.")


class OnFailureForm(Form):
    """What failures do to a rollout, counted in each wave: at least one of `max`, `consecutive`, `same_signature`."""

    model_config = ConfigDict(title="On failure")

    max: Limit | None = Field(
        None, description="How many targets of a wave may fail: a count, or a percentage of them such as 2%."
    )
    consecutive: Count | None = Field(None, description="So many failures one after the other stop the wave.")
    same_signature: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None,
        description="So many targets that fail in the same way stop the wave; unreachable and locked ones do not "
        "count. 3 in a strategy with waves; 0 for never.",
    )
    then: Reaction = Field("pause", description="What happens then. `rollback` takes back what the rollout changed.")


class QuestionForm(Form):
    """What all have in common that ask a database, Prometheus or an endpoint."""

    name: Name
    schema_: Filled | None = Field(None, alias="schema", description="With `sql`: looked into first (PostgreSQL).")
    url: WithReferences | None = Field(None, description="With `promql`: the Prometheus server.")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        None, description="With `http`: the status to answer with; 200 when left out."
    )
    contains: Filled | None = Field(None, description="With `http`: a text that the answer must hold.")
    token: WithReferences | None = Field(
        None, description="Sent as bearer token with `promql` or `http`; by reference only, such as ${TOKEN}."
    )
    user: Filled | None = Field(None, description="With `password`, instead of `token`: for basic authentication.")
    password: WithReferences | None = Field(None, description="By reference only, such as ${PASSWORD}.")


class CheckForm(QuestionForm):
    """What must hold after a wave before the rollout goes on: one of `sql`, `promql` and `http`."""

    model_config = ConfigDict(title="Check")

    sql: Query | None = Field(
        None, description="One statement whose first row's first value is true, or as `min`, `max` or `equals` say."
    )
    shard: Name | None = Field(None, description="With `sql`: where `database` is.")
    database: Filled | None = Field(None, description="With `sql`: the database to ask; for SQLite a file.")
    on: Literal["tenants"] | None = Field(
        None, description="With `sql`, and without `shard`: ask each tenant that the wave has migrated."
    )
    sample: Count | None = Field(None, description="With `on: tenants`: ask so many of them, always the same ones.")
    track: Name | None = Field(None, description="With `on: tenants`: ask the databases of this track only.")
    promql: Query | None = Field(None, description="A query of which every sample must be within `min` and `max`.")
    for_: Seconds | None = Field(
        None, alias="for", description="With `promql`: it must have been so for so long, such as 5m."
    )
    empty: Literal["pass", "fail"] | None = Field(
        None, description="With `promql`: what it means that nothing comes back; `fail` when left out."
    )
    http: WithReferences | None = Field(None, description="The URL of an endpoint; redirections are not followed.")
    min: Bound | None = Field(None, description="What comes back must be at least this.")
    max: Bound | None = Field(None, description="What comes back must be at most this.")
    equals: Text | None = Field(None, description="With `sql`: what comes back must be this number or text.")
    every: Seconds = Field(15.0, description="How often to ask, such as 15s.")
    deadline: Seconds = Field(300.0, description="The rollout pauses when it does not pass for so long, such as 5m.")
    timeout: Seconds = Field(10.0, description="How long one question may take, such as 10s.")


class NotificationForm(Form):
    """Who is told of rollouts, and how: one of `webhook`, `slack` and `command`."""

    model_config = ConfigDict(title="Notification")
    decisive = frozenset({"webhook", "slack", "command"})

    name: Name = Field(description="What lists, logs and metrics call it.")
    webhook: WithReferences | None = Field(None, description="A URL that gets each event as signed JSON.")
    slack: WithReferences | None = Field(None, description="The URL of a Slack-compatible incoming webhook.")
    command: list[Filled] | None = Field(
        None, description="A program and its arguments; it is given the event as JSON on standard input."
    )
    secret: WithReferences | None = Field(
        None, description="With `webhook`: what signs the requests; by reference only, such as ${HOOK_SECRET}."
    )
    token: WithReferences | None = Field(
        None, description="With `webhook` or `slack`: sent as bearer token; by reference only."
    )
    environment: Annotated[dict[str, WithReferences], BeforeValidator(_nothing_is_empty)] = Field(
        default_factory=dict, description="With `command`: variables for it, secrets by reference."
    )
    on: list[NoticeKind] | None = Field(None, description="What is told; everything when left out.")
    tracks: list[Name] | None = Field(None, description="Only rollouts of these tracks; of all when left out.")
    after: Seconds = Field(600.0, description="How long a shard is throttled before that is told, such as 10m.")
    timeout: Seconds = Field(10.0, description="How long one delivery may take, such as 10s.")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        8, description="After so many failures a delivery is a dead letter, until somebody retries it."
    )


class BackupForm(Form):
    """How each target is backed up before it is changed. A wave's keys come over the strategy's."""

    model_config = ConfigDict(title="Backup")

    directory: Filled | None = Field(None, description="Where backups are kept, relative to this file.")
    command: Query | None = Field(
        None,
        description="A command for the shell that makes the backup instead of pg_dump and mariadb-dump. It finds "
        "ORCHESTRATOR_TENANT, ORCHESTRATOR_DATABASE, ORCHESTRATOR_BACKUP_FILE, PGHOST, … in its environment.",
    )
    check: Query | None = Field(None, description="A command for the shell that fails when the backup is no good.")
    concurrency: Count = Field(2, description="How many backups are made at once.")
    per_shard: Count | None = Field(None, description="How many of them on one shard; as many when left out.")
    deadline: Seconds = Field(1800.0, description="How long one may take, its check included, such as 30m.")
    keep: Count = Field(3, description="How many are kept of each target, the new one included.")


NO_BACKUP = BackupForm.model_validate({})


def _backup_or_none(value: Any, validate: Any) -> Any:
    return NO_BACKUP if value == "none" else validate(value)


def _allow_none(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"const": "none"})


BackupOrNone = Annotated[BackupForm | None, WrapValidator(_backup_or_none)]


class WaveForm(Form):
    """An ordered part of a rollout, and the gate after it."""

    model_config = ConfigDict(title="Wave")

    name: Name
    select: Filled | None = Field(None, description="A label selector; of the targets that no earlier wave takes.")
    count: Count | None = Field(None, description="So many tenants of those, spread over shards and labels.")
    percent: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None, description="So many of the rollout's tenants, spread over shards and labels; at least one."
    )
    optional: Boolean = Field(False, description="It may be that no target is in it; else that is refused.")
    max_concurrent: Count | None = Field(None, description="How many targets are migrated at once in this wave.")
    max_failures: Limit | None = Field(None, description="Over `on_failure.max`, for this wave.")
    soak: SoakSeconds = Field(0.0, description="Wait so long after its last target, such as 10m.")
    approval: Boolean = Field(False, description="A person must approve before the next wave begins.")
    checks: Annotated[list[CheckForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="What must hold after its `soak` before the rollout goes on."
    )
    backup: BackupOrNone = Field(
        None, description="Over the strategy's, key by key; `none` to do without.", json_schema_extra=_allow_none
    )


class StrategyForm(Form):
    """How a rollout goes over its targets."""

    model_config = ConfigDict(title="Strategy")

    max_concurrent: Count | None = Field(None, description="How many targets are migrated at once, over all shards.")
    on_failure: OnFailureForm | None = Field(
        None, description="With waves, when left out: not one may fail, or the rollout pauses."
    )
    new_tenants: NewTenants = Field(
        "ignore",
        description="What becomes of targets that appear while it runs: `append` takes them into the last wave.",
    )
    order: Annotated[list[Filled], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list,
        description="Labels, or tenant, shard, track, by which targets follow each other in a wave; -key: descending.",
    )
    approval: Boolean = Field(False, description="A person must approve before the first wave begins.")
    four_eyes: Boolean = Field(False, description="Who approves must not be who started the rollout.")
    backup: BackupOrNone = Field(
        None, description="Each target is backed up before it is changed.", json_schema_extra=_allow_none
    )
    waves: list[WaveForm] | None = Field(
        None, description="In order; the last one takes all that are left. One wave of all when left out."
    )


class FileForm(Form):
    """The registry: tracks, the shards that host tenants, the tenants, and how rollouts go over them."""

    model_config = ConfigDict(title="Tenant registry of the migration orchestrator")

    tracks: dict[Name, TrackForm] = Field(description="The Alembic migration histories, by name.")
    shards: dict[Name, ShardForm] = Field(description="The database servers, by name.")
    tenants: list[TenantForm] = Field(description="The tenants and where their databases are.")
    discover: list[DiscoverForm] | None = Field(None, description="Where to find more tenants at run time.")
    strategies: dict[Name, StrategyForm] | None = Field(None, description="Ways to roll out, by name.")
    notifications: list[NotificationForm] | None = Field(None, description="Who is told of rollouts, and how.")


Kind = Literal["mapping", "list", "entry"]
SECTIONS: dict[str, tuple[type[Form], Kind]] = {
    "tracks": (TrackForm, "mapping"),
    "shards": (ShardForm, "mapping"),
    "tenants": (TenantForm, "list"),
    "discover": (DiscoverForm, "list"),
    "strategies": (StrategyForm, "mapping"),
    "notifications": (NotificationForm, "list"),
}
REQUIRED = frozenset({"tracks", "shards", "tenants"})
