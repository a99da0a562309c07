"""The syntax of `backfill` in the registry file: on a shard, and for all shards."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, WrapValidator

from orchestrator.registry import forms
from orchestrator.registry.forms import (
    Bound,
    Filled,
    Form,
    Name,
    Query,
    QuestionForm,
    Seconds,
    WithReferences,
    none_is_no_list,
)
from orchestrator.registry.time_forms import BlackoutForm, OpenForm, Timezone

OFF = "off"
LARGEST_BATCH = 1_000_000
SHORTEST_TARGET_SECONDS, LONGEST_TARGET_SECONDS = 0.01, 60.0
_LASTING = re.compile(r"(?P<number>\d{1,6}(?:\.\d{1,3})?)(?P<unit>ms|[smhd]?)", re.ASCII)
_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,3})?) ?(?P<unit>B|kB|MB|GB|TB|)", re.ASCII)
_PART = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,6})?)(?P<percent>%?)", re.ASCII)
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def lasting(value: Any) -> float:
    """Seconds of `500ms`, `5s`, `10m`. Raises ValueError."""
    match = _LASTING.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("this must be a duration such as 500ms, 5s or 10m")
    return float(match["number"]) * _SECONDS[match["unit"]]


def size(value: Any) -> float:
    """Bytes of `512MB`, counted as PostgreSQL does, in powers of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("this must be a number of bytes such as 512MB or 1GB")
    return float(match["number"]) * _BYTES[match["unit"]]


def part(value: Any) -> float:
    """From above 0 to 1, of `0.5` or `50%`. Raises ValueError."""
    match = _PART.fullmatch(value) if isinstance(value, str) else None
    found = float(match["number"]) / (100 if match["percent"] else 1) if match else 0.0
    if not 0 < found <= 1:
        raise ValueError("this must be a part of the time such as 50% or 0.5, above 0 and at most 100%")
    return found


def _target(value: Any) -> float:
    seconds = lasting(value)
    if not SHORTEST_TARGET_SECONDS <= seconds <= LONGEST_TARGET_SECONDS:
        raise ValueError("this must be a duration from 10ms to 60s, such as 500ms")
    return seconds


def _read(read: Callable[[Any], float], pattern: str) -> tuple[Any, Any]:
    return BeforeValidator(read), WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": pattern})


def _short(schema: dict[str, Any]) -> None:
    schema["anyOf"] += [{"type": ["number", "string"]}, {"const": OFF}]


Lasting = Annotated[float, *_read(lasting, r"^[0-9]+(\.[0-9]+)?(ms|[smhd])?$")]
Size = Annotated[float, *_read(size, r"^[0-9]+(\.[0-9]+)? ?(B|kB|MB|GB|TB)?$")]
Part = Annotated[float, *_read(part, r"^[0-9]+(\.[0-9]+)?%?$")]
Target = Annotated[float, *_read(_target, r"^[0-9]+(\.[0-9]+)?(ms|s)?$")]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rows = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
_ABOVE = "Backfills are held while it is above this."
_BELOW = "And go on when it is at most this; four fifths of `above` when left out."


class ThresholdForm(Form):
    """When backfills are held, and when they go on: numbers."""

    model_config = ConfigDict(title="Threshold")

    above: Number | None = Field(None, description=_ABOVE)
    below: Number | None = Field(None, description=_BELOW)


class LastingForm(ThresholdForm):
    """When backfills are held, and when they go on: durations."""

    model_config = ConfigDict(title="Threshold of a duration")

    above: Lasting | None = Field(None, description=_ABOVE)
    below: Lasting | None = Field(None, description=_BELOW)


class SizeForm(ThresholdForm):
    """When backfills are held, and when they go on: bytes."""

    model_config = ConfigDict(title="Threshold of a size")

    above: Size | None = Field(None, description=_ABOVE)
    below: Size | None = Field(None, description=_BELOW)


NO_SIGNAL = ThresholdForm.model_validate({})


def _threshold(value: Any, validate: Any) -> Any:
    """`5s` is short for `{above: 5s}`, and `off` for none at all."""
    if value == OFF:
        return NO_SIGNAL
    return validate({"above": value} if isinstance(value, str) else value)


def _signal(description: str) -> Any:
    return Field(None, description=description, json_schema_extra=_short)


_Count = Annotated[ThresholdForm | None, WrapValidator(_threshold)]
_Duration = Annotated[LastingForm | None, WrapValidator(_threshold)]
_Size = Annotated[SizeForm | None, WrapValidator(_threshold)]


class SignalsForm(Form):
    """What holds backfills: for each signal a threshold, `{above, below}`, or `off`."""

    model_config = ConfigDict(title="Signals")

    replication_lag: _Duration = _signal("The largest of all standbys (PostgreSQL); 5s when left out.")
    replication_lag_bytes: _Size = _signal("WAL that the slowest standby or slot lacks (PostgreSQL); 1GB.")
    active_sessions: _Count = _signal("Sessions at work, without ours (PostgreSQL); 100.")
    blocked_sessions: _Count = _signal("Sessions that wait for a lock (PostgreSQL); 10.")
    long_transactions: _Duration = _signal("The age of the oldest transaction (PostgreSQL); 1h.")
    wal_waiting: _Count = _signal("WAL segments that wait to be archived (PostgreSQL); 42.")
    dead_rows: _Count = _signal("Of the table, if they are more than half of it (PostgreSQL); 1000000.")
    autovacuum: Literal["hold", "off"] | None = Field(
        None, description="Whether to hold while autovacuum works on the table (PostgreSQL); off."
    )
    threads_running: _Count = _signal("Threads_running (MySQL, MariaDB); 100.")
    replica_lag: _Duration = _signal("The largest of all replicas (MySQL, MariaDB); 5s.")
    history_list: _Count = _signal("InnoDB's history list length (MySQL, MariaDB); 1000000.")


class HoursForm(Form):
    """When batches may run; at any time but the black-outs without `open` and `windows`."""

    model_config = ConfigDict(title="Hours of backfills")

    windows: Annotated[list[Name], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="Names of `windows` whose hours count, whatever these select."
    )
    timezone: Timezone = Field("UTC", description="The zone of `open` and `blackouts`, such as Europe/Berlin.")
    open: Annotated[list[OpenForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="Opening hours."
    )
    blackouts: Annotated[list[BlackoutForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="When no batch runs, whatever `open` says."
    )


class ProbeForm(QuestionForm):
    """A question of your own whose answer holds backfills: one of `sql`, `promql` and `http`."""

    model_config = ConfigDict(title="Probe")
    # What checks of waves have besides.
    on: ClassVar[None] = None
    sample: ClassVar[None] = None
    track: ClassVar[None] = None
    min: ClassVar[None] = None
    max: ClassVar[None] = None
    equals: ClassVar[None] = None
    for_: ClassVar[None] = None
    deadline: ClassVar[float] = 300.0

    sql: Query | None = Field(
        None, description="One statement whose first row's first value is a number, or without `above` true."
    )
    shard: Name | None = Field(None, description="With `sql`: where to ask; the shard itself when left out.")
    database: Filled | None = Field(None, description="With `sql`: the database to ask; any when left out.")
    promql: Query | None = Field(None, description="A query; of several samples the largest counts.")
    empty: Literal["pass", "fail"] | None = Field(
        None, description="With `promql`: `pass` holds nothing when nothing comes back; else that is no reading."
    )
    http: WithReferences | None = Field(None, description="The URL of an endpoint that answers as it must to go on.")
    above: Bound | None = Field(None, description=_ABOVE)
    below: Bound | None = Field(None, description=_BELOW)
    every: Seconds = Field(5.0, description="How often to ask, such as 5s.")
    timeout: Seconds = Field(5.0, description="How long one question may take, such as 5s.")


class BackfillForm(Form):
    """How backfills on a shard are throttled. A shard's keys come over those for all shards."""

    model_config = ConfigDict(title="Backfills")

    rows_per_second: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        None, description="Shared by all backfills on the shard; 0, and when left out: as many as there are."
    )
    target: Target = Field(0.5, description="How long a batch should last, such as 500ms.")
    smallest: Rows = Field(10, description="The smallest batch, in rows.")
    largest: Rows = Field(50_000, description="The largest batch, in rows.")
    duty: Part = Field(
        1.0, description="The part of the time in which batches run: with 25% each is followed by three times its rest."
    )
    deadline: Seconds = Field(3600.0, description="A rollout whose backfill is held for so long pauses, such as 1h.")
    hours: HoursForm | None = Field(None, description="When batches may run; at any time when left out.")
    signals: SignalsForm | None = Field(None, description="What holds backfills; key by key over the defaults.")
    probes: Annotated[list[ProbeForm], BeforeValidator(none_is_no_list)] = Field(
        default_factory=list, description="Questions of your own that hold backfills; a shard's come instead of all's."
    )


class ShardForm(forms.ShardForm):
    """A database server, or for SQLite a folder, that hosts tenants."""

    backfill: BackfillForm | None = Field(
        None, description="How backfills on it are throttled; over `backfill` of all."
    )
