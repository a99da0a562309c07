"""Notifications: how far each rollout was looked at, and what is on its way to whom.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notification_marks",
        sa.Column("rollout", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_notification_marks_rollouts"),
        sa.PrimaryKeyConstraint("rollout", name="pk_notification_marks"),
    )
    # Nobody wants to be told now of what happened before.
    op.execute("INSERT INTO notification_marks SELECT id, last_sequence, state FROM rollouts")
    op.create_table(
        "notifications",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("number", name="pk_notifications"),
    )
    op.create_index("ix_notifications_id", "notifications", ["id"], unique=True)
    op.create_index("ix_notifications_state_channel_next_at", "notifications", ["state", "channel", "next_at"])


def downgrade() -> None:
    op.drop_table("notifications")
    op.drop_table("notification_marks")
