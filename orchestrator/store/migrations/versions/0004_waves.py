"""Waves with their gates, approvals, and taking back what a rollout changed.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FLAGS = ("rolling_back", "approval", "four_eyes")


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("waves", sa.JSON()))
    for flag in FLAGS:
        op.add_column("rollouts", sa.Column(flag, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("rollouts", sa.Column("approved_at", sa.DateTime(timezone=True)))
    op.add_column("rollouts", sa.Column("approved_by", sa.Text()))
    op.add_column("rollouts", sa.Column("waiting", sa.Text()))
    op.add_column("migrations", sa.Column("reverting", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("migrations", "reverting")
    for column in ("waiting", "approved_by", "approved_at", *FLAGS, "waves"):
        op.drop_column("rollouts", column)
