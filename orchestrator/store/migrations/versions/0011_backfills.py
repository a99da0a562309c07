"""Backfills: how far each is, and what people have ordered of them.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backfills",
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("key", sa.JSON(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger()),
        sa.Column("sweep", sa.Integer(), nullable=False),
        sa.Column("last_key", sa.Text()),
        sa.Column("dead_rows", sa.BigInteger()),
        sa.Column("vacuuming", sa.Boolean()),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("rows_per_second", sa.Float()),
        sa.Column("eta_seconds", sa.Float()),
        sa.Column("holds", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_backfills_rollouts"),
        sa.PrimaryKeyConstraint("rollout", "tenant", "track", "revision", "direction", "ordinal", name="pk_backfills"),
    )
    op.create_index("ix_backfills_state", "backfills", ["state"])
    op.create_table(
        "backfill_orders",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("adjustment", sa.JSON()),
        sa.Column("reason", sa.Text()),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "shard", "tenant", "revision", "action", name="pk_backfill_orders"),
    )


def downgrade() -> None:
    op.drop_table("backfill_orders")
    op.drop_table("backfills")
