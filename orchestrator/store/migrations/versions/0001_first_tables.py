"""Rollouts, their migrations, what they hold, and their events.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("aborting", sa.Boolean(), nullable=False),
        sa.Column("accepted_failures", sa.Integer(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("to", sa.Text(), nullable=False),
        sa.Column("select", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("foreground", sa.Boolean(), nullable=False),
        sa.Column("max_concurrent", sa.Integer()),
        sa.Column("goal", sa.JSON(), nullable=False),
        sa.Column("history_digest", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_state_created_at_id", "rollouts", ["state", "created_at", "id"])
    op.create_index("ix_rollouts_created_at_id", "rollouts", ["created_at", "id"])
    op.create_index("ix_rollouts_idempotency_key", "rollouts", ["idempotency_key"], unique=True)

    op.create_table(
        "migrations",
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("from_heads", sa.JSON()),
        sa.Column("to_heads", sa.JSON()),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer()),
        sa.Column("failure_kind", sa.Text()),
        sa.Column("failure_message", sa.Text()),
        sa.Column("failure_remedy", sa.Text()),
        sa.Column("failure_code", sa.Text()),
        sa.Column("failure_revision", sa.Text()),
        sa.Column("failure_statement", sa.Text()),
        sa.Column("failure_signature", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("rollout", "tenant", "track", name="pk_migrations"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_migrations_rollouts"),
    )
    op.create_index("ix_migrations_rollout_position", "migrations", ["rollout", "position"], unique=True)
    op.create_index("ix_migrations_rollout_state", "migrations", ["rollout", "state"])

    op.create_table(
        "holds",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "track", name="pk_holds"),
        sa.ForeignKeyConstraint(
            ["rollout", "tenant", "track"],
            ["migrations.rollout", "migrations.tenant", "migrations.track"],
            name="fk_holds_migrations",
        ),
    )
    op.create_index("ix_holds_rollout", "holds", ["rollout"])

    op.create_table(
        "events",
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "sequence", name="pk_events"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_events_rollouts"),
    )


def downgrade() -> None:
    for table in ("events", "holds", "migrations", "rollouts"):
        op.drop_table(table)
