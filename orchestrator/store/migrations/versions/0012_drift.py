"""Drift: how each target's schema compared with those of the others when it was last looked at.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drift",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("track", sa.Text(), nullable=False),
        sa.Column("shard", sa.Text(), nullable=False),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heads", sa.JSON(), nullable=False),
        sa.Column("server", sa.Text()),
        sa.Column("digest", sa.String(64)),
        sa.Column("reference", sa.Text()),
        sa.Column("differing", sa.Integer()),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.Column("drifted_since", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant", "track", name="pk_drift"),
    )


def downgrade() -> None:
    op.drop_table("drift")
