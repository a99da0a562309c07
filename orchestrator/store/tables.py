"""The tables of the store, in SQLAlchemy Core. Their history is in `migrations/`; a test holds the two equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)

VERSION_TABLE = "orchestrator_version"

MESSAGE_LIMIT = 4_000
STATEMENT_LIMIT = 2_000


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, in UTC on every database: SQLite keeps no zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Revisions(TypeDecorator[tuple[str, ...]]):
    """Revision ids as a JSON list. No value (not read yet) and no ids (an empty version table) stay apart."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(value)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("state", String(32), nullable=False),
    Column("reason", Text),
    Column("aborting", Boolean, nullable=False),
    Column("accepted_failures", Integer, nullable=False),  # of earlier releases, which may still lead beside us
    Column("track", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("select", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("foreground", Boolean, nullable=False),
    Column("max_concurrent", Integer),
    Column("goal", Revisions, nullable=False),
    Column("history_digest", Text, nullable=False),
    Column("several", JSON(none_as_null=True)),
    Column("waves", JSON(none_as_null=True)),
    Column("rolling_back", Boolean, nullable=False, server_default=false()),
    Column("approval", Boolean, nullable=False, server_default=false()),
    Column("four_eyes", Boolean, nullable=False, server_default=false()),
    Column("approved_at", UtcDateTime),
    Column("approved_by", Text),
    Column("waiting", Text),
    Column("plan_digest", Text),
    Column("irreversible", JSON(none_as_null=True)),
    Column("schedule", Text),
    Column("planned_at", UtcDateTime),
    Column("windows_overridden", JSON(none_as_null=True)),
    Column("total", Integer, nullable=False),
    Column("last_sequence", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index(None, "state", "created_at", "id"),
    Index(None, "created_at", "id"),
    Index(None, "idempotency_key", unique=True),
)

migrations = Table(
    "migrations",
    metadata,
    Column("rollout", String(64), ForeignKey(rollouts.c.id), primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("track", Text, primary_key=True),
    Column("shard", Text, nullable=False),
    Column("wave", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("from_heads", Revisions),
    Column("to_heads", Revisions),
    Column("place", Text, nullable=False),
    Column("steps", Integer),
    Column("execution", String(16)),
    Column("planned", JSON(none_as_null=True)),
    Column("failure_kind", Text),
    Column("failure_message", Text),
    Column("failure_remedy", Text),
    Column("failure_code", Text),
    Column("failure_revision", Text),
    Column("failure_statement", Text),
    Column("failure_signature", Text),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("reverting", Boolean, nullable=False, server_default=false()),
    Column("doubt", Text),
    Column("counted", JSON(none_as_null=True)),
    Index(None, "rollout", "position", unique=True),
    Index(None, "rollout", "state"),
    Index(None, "tenant", "track", postgresql_where=text("doubt IS NOT NULL"), sqlite_where=text("doubt IS NOT NULL")),
)

# A row per target of every active rollout: that no target is in two of them is the database's to enforce, so it
# holds between processes as well.
holds = Table(
    "holds",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("track", Text, primary_key=True),
    Column("rollout", String(64), nullable=False),
    ForeignKeyConstraint(
        ["rollout", "tenant", "track"], ["migrations.rollout", "migrations.tenant", "migrations.track"]
    ),
    Index(None, "rollout"),
)

events = Table(
    "events",
    metadata,
    Column("rollout", String(64), ForeignKey(rollouts.c.id), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

# What plans said, so that a rollout that is refused can be told what differs. Only the newest are kept.
plans = Table(
    "plans",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("made_at", UtcDateTime, nullable=False),
    Column("manifest", JSON, nullable=False),
    Index(None, "made_at"),
)

# One row. Its key is the epoch, so that who takes over waits for the transactions that have asked for it, and the
# heartbeat does not.
leadership = Table(
    "leadership",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("born", Text, nullable=False),
    Column("backend", Integer, nullable=False),
    Column("deposed", JSON, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

# What standbys ask of the leader. `taken` is the epoch of the leader that began to carry it out.
commands = Table(
    "commands",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("by", Text, nullable=False),
    Column("act", JSON(none_as_null=True)),  # for the audit of the leader; None from releases that have none
    Column("asked_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("taken", Integer),
    Column("answered_at", UtcDateTime),
    Column("error", JSON(none_as_null=True)),
    Index(None, "answered_at"),
)

# Rows stay when a token is revoked or has expired: that there ever was one closes the door for whoever has none.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", String(80), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("revoked_by", Text),
)

# Apart from the tokens, since a file may name some that have no row there.
token_uses = Table(
    "token_uses",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("last_used_at", UtcDateTime, nullable=False),
)

# One row once a leader has had a tokens file or an identity provider: it closes the door of every other daemon, too.
door = Table(
    "door",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("closed_at", UtcDateTime, nullable=False),
)

# Append-only, by triggers. `entry` is canonical JSON, and `hash` covers it and, through it, all entries before.
audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)

# One row: the last entry. Who appends holds it, so that two processes never write two entries after the same one.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)

# What is known of the registry's schedules beside the file. Runs that were due up to `since` do not count.
schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("enabled", Boolean),
    Column("by", Text),
    Column("at", UtcDateTime),
)

# A row per run: that none is started twice is the key's to enforce, in the transaction that makes the rollout.
schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("planned_at", UtcDateTime, primary_key=True),
    Column("outcome", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("rollout", String(64)),
    Column("reason", Text),
    Column("by", Text),
)

# One row. While it says `since`, no migration is recorded as started.
freeze = Table(
    "freeze",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("by", Text),
    Column("reason", Text),
    Column("since", UtcDateTime),
)

# How far a rollout's stream was looked at for what is worth telling, and the rollout's state there.
notification_marks = Table(
    "notification_marks",
    metadata,
    Column("rollout", String(64), ForeignKey(rollouts.c.id), primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("state", String(32), nullable=False),
)

# What is on its way, was delivered, or could not be (`dead`).
notifications = Table(
    "notifications",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False),
    Column("channel", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index(None, "id", unique=True),
    Index(None, "state", "channel", "next_at"),
)

# How far each backfill of a rollout's targets is, or was when it ended; at most some seconds old.
backfills = Table(
    "backfills",
    metadata,
    Column("rollout", String(64), ForeignKey(rollouts.c.id), primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("track", Text, primary_key=True),
    Column("revision", Text, primary_key=True),
    Column("direction", String(16), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("shard", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("table", Text, nullable=False),
    Column("key", JSON, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("seen", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("estimated", BigInteger),
    Column("sweep", Integer, nullable=False),
    Column("last_key", Text),
    Column("dead_rows", BigInteger),
    Column("vacuuming", Boolean),
    Column("size", Integer, nullable=False),
    Column("rows_per_second", Float),
    Column("eta_seconds", Float),
    Column("holds", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index(None, "state"),
)

# How each target's schema compared with those of the others when it was last looked at.
drift = Table(
    "drift",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("track", Text, primary_key=True),
    Column("shard", Text, nullable=False),
    Column("standing", String(16), nullable=False),
    Column("looked_at", UtcDateTime, nullable=False),
    Column("heads", JSON, nullable=False),
    Column("server", Text),
    Column("digest", String(64)),
    Column("reference", Text),
    Column("differing", Integer),
    Column("lines", JSON, nullable=False),
    Column("message", Text),
    Column("drifted_since", UtcDateTime),
)

# Since when targets have had something to apply, as the leaders saw it.
pending_targets = Table(
    "pending_targets",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("track", Text, primary_key=True),
    Column("since", UtcDateTime, nullable=False),
)

# What counts until it is taken back; a scope that does not name something has "" there.
backfill_orders = Table(
    "backfill_orders",
    metadata,
    Column("rollout", Text, primary_key=True),
    Column("shard", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("revision", Text, primary_key=True),
    Column("action", String(16), primary_key=True),
    Column("adjustment", JSON(none_as_null=True)),
    Column("reason", Text),
    Column("by", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
